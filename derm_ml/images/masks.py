"""What is done with a mask once a network has drawn it: cleaned, described, encoded.

Masks are (H, W) uint8 of 0 and 255. Row 0 is the top, column 0 the left; coordinates are pixels of the picture.
"""

from __future__ import annotations

import cv2
import numpy as np

from derm_ml.images.settings import MaskRule


def cleaned(probability: np.ndarray, rule: MaskRule) -> np.ndarray:
    """A probability map (H, W) float32 after the rule: what is left out becomes 0, a hole that is filled 1.

    The map, not the mask, is cleaned: it is then enlarged to the picture and its edge stays as fine as it was.
    """
    mask = (probability >= rule.threshold).astype(np.uint8)
    kept = _largest(mask) if rule.largest_component else mask
    filled = _filled(kept) if rule.fill_holes else kept
    result = np.where(mask & ~kept.astype(bool), np.float32(0), probability)
    return np.where(filled > kept, np.float32(1), result)


def _largest(mask: np.ndarray) -> np.ndarray:
    """The largest 8-connected part of a mask of 0 and 1; of two equal ones the upper left."""
    count, labels, stats, _ = cv2.connectedComponentsWithStats(mask, connectivity=8)
    if count < 3:
        return mask
    return (labels == 1 + int(stats[1:, cv2.CC_STAT_AREA].argmax())).astype(np.uint8)


def _filled(mask: np.ndarray) -> np.ndarray:
    """Holes, parts of the background that do not touch the edge of the picture, become 1."""
    outside = np.pad(1 - mask, 1, constant_values=1)
    cv2.floodFill(outside, None, (0, 0), 2)
    return (outside[1:-1, 1:-1] != 2).astype(np.uint8)


def bounding_box(mask: np.ndarray) -> tuple[int, int, int, int] | None:
    """(left, top, width, height) in pixels, None for an empty mask."""
    if not mask.any():
        return None
    left, top, width, height = cv2.boundingRect(mask)
    return int(left), int(top), int(width), int(height)


def png(mask: np.ndarray) -> bytes:
    """The mask as a PNG of 0 and 255, 1 bit a pixel."""
    done, data = cv2.imencode(".png", mask, [cv2.IMWRITE_PNG_BILEVEL, 1])
    assert done
    return data.tobytes()


def run_lengths(mask: np.ndarray) -> list[int]:
    """Lengths of runs of 0, 255, 0 …, down the first column, then the next: COCO's uncompressed RLE.

    The first run is one of 0 and may have length 0; an empty mask is a single run.
    """
    values = (mask > 0).ravel(order="F")
    edges = np.flatnonzero(np.diff(values)) + 1
    runs = np.diff(np.concatenate([[0], edges, [values.size]])).tolist()
    return [0, *runs] if values[0] else runs


def polygons(mask: np.ndarray) -> list[list[list[list[int]]]]:
    """Polygons, the largest first, each a list of rings of [x, y]: the outline, then the outlines of its holes.

    Rings run through the centres of the mask's own edge pixels, those of holes too.
    """
    contours, tree = cv2.findContours(mask, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_SIMPLE)
    rings = [contour[:, 0, :].tolist() for contour in contours]
    outer = [i for i in range(len(rings)) if tree[0][i][3] < 0]
    outer.sort(key=lambda i: cv2.contourArea(contours[i]), reverse=True)
    return [[rings[i], *(rings[k] for k in range(len(rings)) if tree[0][k][3] == i)] for i in outer]
