"""The smooth rest of a registration: dense optical flow between two aligned pictures, forward and back.

Where the two directions cancel, the flow is believed; elsewhere the neighbourhood decides (normalised convolution,
Knutsson & Westin 1993). Source of the flow: DIS, Kroeger et al. 2016.
"""

from __future__ import annotations

import threading

import cv2
import numpy as np

_local = threading.local()


def even_light(grey: np.ndarray, radius: float = 8.0) -> np.ndarray:
    """(H, W) uint8 → (H, W) float32: the logarithm, band-passed and of even local contrast, about -3..3.

    Lamps and cameras multiply what they see; the logarithm makes that a sum, which the band-pass takes away.
    """
    logarithm = np.log1p(grey.astype(np.float32))
    band = cv2.GaussianBlur(logarithm, (0, 0), 1) - cv2.GaussianBlur(logarithm, (0, 0), radius)
    strength = np.sqrt(cv2.GaussianBlur(band * band, (0, 0), 1.5 * radius))
    return band / (strength + 0.02)


def as_grey(even: np.ndarray) -> np.ndarray:
    """What `even_light` gives as a picture (H, W) uint8."""
    return np.clip(even * 40 + 128, 0, 255).astype(np.uint8)


def flow_between(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """(H, W, 2) float32: a's pixel p is b's pixel p + flow[p]. Pictures (H, W) uint8 of one size."""
    if not hasattr(_local, "dis"):  # an object is not thread-safe, and costs to make
        _local.dis = cv2.DISOpticalFlow_create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
    return _local.dis.calc(a, b, None)


def shifted(field: np.ndarray, flow: np.ndarray) -> np.ndarray:
    """`field` (H, W[, C]) float32 looked up where `flow` leads: out[p] = field[p + flow[p]]."""
    rows, columns = np.mgrid[: flow.shape[0], : flow.shape[1]].astype(np.float32)
    return cv2.remap(
        field, columns + flow[..., 0], rows + flow[..., 1], cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE
    )


def round_trip(forward: np.ndarray, back: np.ndarray) -> np.ndarray:
    """(H, W) float32: how far from its start a pixel ends that goes forward and back."""
    there = forward + shifted(back, forward)
    return np.hypot(there[..., 0], there[..., 1])


def smoothed(flow: np.ndarray, trust: np.ndarray, reach: float) -> np.ndarray:
    """The flow averaged over `reach` pixels, each pixel counting by its `trust` (H, W) in 0..1."""
    weight = cv2.GaussianBlur(trust, (0, 0), reach) + 1e-6
    parts = [cv2.GaussianBlur(flow[..., k] * trust, (0, 0), reach) / weight for k in (0, 1)]
    return np.stack(parts, axis=-1)
