"""What an image looks like, in numbers: no network, no download, some 20 ms an image.

    look = look_at(rgb)
    look.vector        (D,) float64: colour, texture at four scales, the largest object and its outline
    look.brightness    and more single numbers in words of their own, each with its unit below

The vector is compared (which images are alike, does the label follow from it), the single numbers are judged alone.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import cv2
import numpy as np

from derm_ml.images.condition import field_of_view
from derm_ml.images.preprocess import limit_side

SIDE = 128  # pixels of the longer side: a lesion's texture is still seen, and 1000 images take seconds
SHARP_SIDE = 256  # sharpness is compared at one size: more would measure the camera, less would hide blur
PLAIN_SIDE = 32  # noise averages out, a lesion does not
CORNER = 0.08  # share of a side: small enough to miss what the image is of
_SCALES = (1, 2, 4, 8)  # pixels (standard deviation): hair and pores to the pattern of a whole lesion
_RINGS = ((0.0, 0.33), (0.33, 0.66), (0.66, 1.01))  # distance from the centre, 1 being the border
_SHARES = (0.02, 0.1, 0.25, 0.5, 0.75, 0.9, 0.98)
_SPOT = 3  # pixels (standard deviation): a reflection of a few pixels is no spot
_NO_OBJECT = 32  # numbers that describe the largest object, 0 where there is none
_LEAST_CONTRAST = 8.0  # CIE Lab units: less than this from the border's colour is shading, not an object


@dataclass(frozen=True, slots=True)
class Appearance:
    """Numbers of one image; luminances and colours are CIE Lab: L* in 0..100, a* green to red, b* blue to yellow."""

    vector: np.ndarray
    brightness: float  # mean L*
    brightest: float  # 98 % of the pixels are darker than this L*
    contrast: float  # standard deviation of L*
    sharpness: float  # log10 of the variance of the Laplacian of grey (0..255), longer side at most 256
    plainness: float  # Lab units that the most conspicuous hundredth differs from a smooth surface, low = blank
    redness: float  # mean a*
    yellowness: float  # mean b*
    corner_brightness: float  # mean L* of the four corners
    corner_redness: float  # mean a* of the four corners
    corner_yellowness: float  # mean b* of the four corners
    border: float  # share of the image that is a black frame or a white page around the field of view


def look_at(rgb: np.ndarray) -> Appearance:
    """The look of an RGB image (H, W, 3) uint8 of any size."""
    lab = _lab(_fitted(rgb))
    luminance = lab[..., 0]
    corners = _corners(lab)
    box = field_of_view(rgb)
    inside = (box.bottom - box.top) * (box.right - box.left) / (rgb.shape[0] * rgb.shape[1])
    grey = cv2.cvtColor(limit_side(rgb, SHARP_SIDE), cv2.COLOR_RGB2GRAY)
    return Appearance(
        vector=np.nan_to_num(
            np.concatenate([_colours(lab), _bands(lab), _patterns(luminance), _object(lab), _spot(lab)])
        ),
        brightness=float(luminance.mean()),
        brightest=float(np.quantile(luminance, 0.98)),
        contrast=float(luminance.std()),
        sharpness=float(np.log10(cv2.Laplacian(grey, cv2.CV_64F).var() + 1e-2)),
        plainness=_plainness(lab),
        redness=float(lab[..., 1].mean()),
        yellowness=float(lab[..., 2].mean()),
        corner_brightness=float(corners[0]),
        corner_redness=float(corners[1]),
        corner_yellowness=float(corners[2]),
        border=float(1 - inside),
    )


def _fitted(rgb: np.ndarray) -> np.ndarray:
    """The image with its longer side at `SIDE`, smaller ones enlarged, so that a texture's scales compare."""
    height, width = rgb.shape[:2]
    scale = SIDE / max(height, width)
    size = max(8, round(width * scale)), max(8, round(height * scale))
    return cv2.resize(rgb, size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR)


def _lab(rgb: np.ndarray) -> np.ndarray:
    return cv2.cvtColor(rgb.astype(np.float32) / 255, cv2.COLOR_RGB2LAB)


def _from_centre(height: int, width: int) -> np.ndarray:
    """(H, W) in 0..1: 0 in the centre, 1 at the border, along squares."""
    down, across = (np.abs(np.linspace(-1, 1, size)) for size in (height, width))
    return np.maximum(down[:, None], across)


def _colours(lab: np.ndarray) -> np.ndarray:
    """The distribution of each colour channel, over the whole image and in three rings around its centre."""
    flat = lab.reshape(-1, 3)
    distance = _from_centre(*lab.shape[:2])
    rings = [lab[(distance >= low) & (distance < high)] for low, high in _RINGS]
    found = [np.quantile(flat, _SHARES, axis=0).ravel(), flat.std(axis=0)]
    return np.concatenate([*found, *(part for ring in rings for part in (ring.mean(axis=0), ring.std(axis=0)))])


def _bands(lab: np.ndarray) -> np.ndarray:
    """For each channel and scale: how strong its detail is, how peaked, and whether it is bright or dark."""
    found = []
    for channel in range(3):
        finer = np.ascontiguousarray(lab[..., channel])
        for scale in _SCALES:
            coarser = cv2.GaussianBlur(finer, (0, 0), scale)
            band, finer = finer - coarser, coarser
            peaked = min((band**4).mean() / (band.var() ** 2 + 1e-6), 60.0) ** 0.5
            found += [np.log(band.std() + 0.01), peaked, np.cbrt((band**3).mean())]
    return np.array(found)


def _patterns(luminance: np.ndarray) -> np.ndarray:
    """Rotation-invariant uniform local binary patterns at radius 1 and 3 (Ojala et al. 2002), as a histogram."""
    found = []
    for radius in (1, 3):
        smooth = cv2.GaussianBlur(luminance, (0, 0), 0.5 * radius)
        around = [(round(radius * np.sin(k * np.pi / 4)), round(radius * np.cos(k * np.pi / 4))) for k in range(8)]
        bits = np.stack([np.roll(smooth, step, (0, 1)) >= smooth for step in around])
        changes = (bits != np.roll(bits, 1, axis=0)).sum(axis=0)
        codes = np.where(changes <= 2, bits.sum(axis=0), 9)
        found.append(np.sqrt(np.bincount(codes.ravel(), minlength=10) / codes.size))
    return np.concatenate(found)


def _object(lab: np.ndarray) -> np.ndarray:
    """The largest object, by its difference from the border's colour: its outline, its colours and its texture."""
    distance = _from_centre(*lab.shape[:2])
    away = np.linalg.norm(lab - np.median(lab[distance > 0.8], axis=0), axis=2)
    otsu, _ = cv2.threshold(np.clip(2 * away, 0, 255).astype(np.uint8), 0, 255, cv2.THRESH_BINARY + cv2.THRESH_OTSU)
    found = (away > max(_LEAST_CONTRAST, otsu / 2)).astype(np.uint8)
    found = cv2.morphologyEx(found, cv2.MORPH_OPEN, np.ones((3, 3), np.uint8))
    count, regions, sizes, _ = cv2.connectedComponentsWithStats(found)
    if count < 2:
        return np.zeros(_NO_OBJECT)
    mask = (regions == 1 + sizes[1:, cv2.CC_STAT_AREA].argmax()).astype(np.uint8)
    outlines, _ = cv2.findContours(mask, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    outline = max(outlines, key=cv2.contourArea)
    hull = cv2.convexHull(outline)
    area, length = max(cv2.contourArea(outline), 1.0), cv2.arcLength(outline, True)
    shape = [area / mask.size, length / area**0.5, area / max(cv2.contourArea(hull), 1.0)]
    shape += [length / max(cv2.arcLength(hull, True), 1.0), count - 1]
    inner = cv2.erode(mask, np.ones((5, 5), np.uint8)) > 0
    inside = lab[inner if inner.sum() > 20 else mask > 0]  # the soft edge has the skin's colours in it
    texture = [number for band in _details(lab[..., 0]) for number in _distribution(band[mask > 0])]
    colours = [inside.mean(axis=0), inside.std(axis=0), np.quantile(inside, (0.05, 0.5, 0.95), axis=0).ravel()]
    return np.concatenate([shape, *colours, texture])


def _spot(lab: np.ndarray) -> np.ndarray:
    """Colour profile around the brightest spot, from its centre outwards: the optic disc and its cup in a fundus."""
    soft = cv2.GaussianBlur(np.ascontiguousarray(lab[..., 0]), (0, 0), _SPOT)
    top, left = np.unravel_index(soft.argmax(), soft.shape)
    down, across = np.ogrid[: lab.shape[0], : lab.shape[1]]
    away = np.hypot(down - top, across - left)
    edges = (0, 2, 4, 6, 9, 13, 18)  # pixels of 128: a disc is some 12 to 20 across
    rings = [lab[(away >= low) & (away < high)] for low, high in itertools.pairwise(edges)]
    means = np.array([ring.mean(axis=0) for ring in rings])
    return np.concatenate([means.ravel(), np.diff(means[:, 0]), [ring[:, 0].std() for ring in rings]])


def _details(luminance: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Fine and middle detail of the luminance: what cysts, dots and a pigment network differ in."""
    fine, middle = (cv2.GaussianBlur(np.ascontiguousarray(luminance), (0, 0), scale) for scale in (2, 6))
    return luminance - fine, fine - middle


def _distribution(values: np.ndarray) -> list[float]:
    return [values.std(), np.cbrt((values**3).mean()), *np.quantile(values, (0.02, 0.1, 0.9, 0.98))]


def _corners(lab: np.ndarray) -> np.ndarray:
    high, wide = (max(1, round(CORNER * size)) for size in lab.shape[:2])
    parts = [lab[rows, columns] for rows in (np.s_[:high], np.s_[-high:]) for columns in (np.s_[:wide], np.s_[-wide:])]
    return np.concatenate([part.reshape(-1, 3) for part in parts]).mean(axis=0)


def _plainness(lab: np.ndarray) -> float:
    """What is left of the image, shrunk to 32 × 32, without a surface of second order (light that falls off)."""
    small = cv2.resize(lab, (PLAIN_SIDE, PLAIN_SIDE), interpolation=cv2.INTER_AREA).reshape(-1, 3)
    y, x = (axis.ravel() for axis in np.mgrid[-1 : 1 : PLAIN_SIDE * 1j, -1 : 1 : PLAIN_SIDE * 1j])
    surface = np.stack([np.ones_like(x), x, y, x * x, x * y, y * y], axis=1)
    fitted, *_ = np.linalg.lstsq(surface, small, rcond=None)
    return float(np.quantile(np.linalg.norm(small - surface @ fitted, axis=1), 0.99))
