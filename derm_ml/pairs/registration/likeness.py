"""How alike two aligned pictures of skin are: the numbers a refusal is decided on."""

from __future__ import annotations

import cv2
import numpy as np

from derm_ml.pairs.registration.features import dense, find_features
from derm_ml.pairs.registration.flow import as_grey, even_light, flow_between, round_trip

LEAST = 0.05  # of the frame; where both show less of it, nothing speaks for them


def alignment_evidence(first: np.ndarray, second: np.ndarray, there: np.ndarray) -> dict[str, float]:
    """Evidence that two aligned grey pictures (H, W) uint8 show the same skin where `there` (H, W) uint8 is not 0.

    detail: features found again within 8 % of the frame, per 100 of the fewer; returns: share of pixels that come
    back to within one pixel (of the canonical face: 1.6 % of the eyes' distance); alike: mean cosine of SIFT
    descriptors after the flow.
    """
    inside = there > 0
    if inside.mean() < LEAST:
        return {"detail": 0.0, "returns": 0.0, "alike": 0.0}
    grey = [as_grey(even_light(g)) for g in (first, second)]
    flow, back = flow_between(*grey), flow_between(*grey[::-1])
    return {
        "detail": _found_again(grey[0], grey[1], there),
        "returns": float((round_trip(flow, back)[inside] < 1).mean()),
        "alike": _alike_after(grey, flow, inside),
    }


def _found_again(a: np.ndarray, b: np.ndarray, mask: np.ndarray) -> float:
    """Features of one that the other has at nearly the same place, of 100."""
    double = [cv2.resize(g, None, fx=2, fy=2, interpolation=cv2.INTER_CUBIC) for g in (a, b)]
    wide = cv2.resize(mask, None, fx=2, fy=2, interpolation=cv2.INTER_NEAREST)
    found = [find_features(g, wide) for g in double]
    if min(len(f.points) for f in found) < 2:
        return 0.0
    alike = found[0].descriptors @ found[1].descriptors.T
    apart = np.hypot(*(found[0].points[:, None] - found[1].points[None]).transpose(2, 0, 1))
    alike[apart > 0.16 * max(a.shape)] = 0
    best = alike.argmax(axis=1)
    mutual = alike.argmax(axis=0)[best] == np.arange(len(best))
    same = (mutual & (alike.max(axis=1) > 0.9)).sum()
    return 100 * float(same) / min(len(f.points) for f in found)


def _alike_after(grey: list[np.ndarray], flow: np.ndarray, inside: np.ndarray) -> float:
    height, width = inside.shape
    rows, columns = np.mgrid[16 : height - 8 : 10, 16 : width - 8 : 10]
    keep = inside[rows, columns]
    places = np.column_stack([columns[keep], rows[keep]]).astype(float)
    if not len(places):
        return 0.0
    ends = places + flow[rows[keep], columns[keep]]
    pair = [dense(g, p) for g, p in zip(grey, (places, ends), strict=True)]
    return float((pair[0] * pair[1]).sum(axis=1).mean())
