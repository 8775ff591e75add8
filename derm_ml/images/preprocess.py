"""From an RGB picture to the square a network sees. The same code runs in training, evaluation and serving."""

from __future__ import annotations

import cv2
import numpy as np

from derm_ml.images.settings import Squaring

cv2.setNumThreads(0)  # images are prepared in parallel processes already: inner threads only fight


def limit_side(image: np.ndarray, longest: int) -> np.ndarray:
    """Shrink (H, W, 3) uint8 so that its longer side is at most `longest` pixels (0: leave it)."""
    height, width = image.shape[:2]
    if not longest or max(height, width) <= longest:
        return image
    scale = longest / max(height, width)
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    return cv2.resize(image, size, interpolation=cv2.INTER_AREA)


def resize_smallest(image: np.ndarray, side: int) -> np.ndarray:
    """Resize (H, W, 3) uint8 so that its shorter side is `side` pixels."""
    height, width = image.shape[:2]
    scale = side / min(height, width)
    size = (max(side, round(width * scale)), max(side, round(height * scale)))
    return cv2.resize(image, size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR)


def to_square(image: np.ndarray, side: int, fit: Squaring = "squash", smallest_side: int = 0) -> np.ndarray:
    """(H, W, 3) uint8 → (side, side, 3) uint8: squashed, centre-cropped, or padded with black. Also (H, W).

    `smallest_side`, for `crop` alone: cut what the centre `side` × `side` pixels would be after the shorter side was
    resized to so many pixels (256 → 224 is ImageNet's own evaluation); 0: the largest centre square.
    """
    height, width = image.shape[:2]
    if fit == "crop":
        edge = cropped_edge(height, width, side, smallest_side)
        top, left = (height - edge) // 2, (width - edge) // 2
        image = image[top : top + edge, left : left + edge]
    elif fit == "pad" and height != width:
        edge = max(height, width)
        top, left = (edge - height) // 2, (edge - width) // 2
        image = cv2.copyMakeBorder(
            image, top, edge - height - top, left, edge - width - left, cv2.BORDER_CONSTANT, value=(0, 0, 0)
        )
    if image.shape[:2] == (side, side):
        return np.ascontiguousarray(image)
    # area averaging keeps hairs and dots from aliasing when shrinking; linear is smooth when enlarging
    shrink = side < max(image.shape[:2])
    return cv2.resize(image, (side, side), interpolation=cv2.INTER_AREA if shrink else cv2.INTER_LINEAR)


def from_square(
    cam: np.ndarray, shape: tuple[int, ...], side: int, fit: Squaring, smallest_side: int = 0
) -> np.ndarray:
    """A map (h, w) over the square of `to_square`, in the frame of the picture of `shape` (H, W, …).

    What cropping took away is cold, what padding added is cut off.
    """
    height, width = shape[:2]
    cells = cam.shape[0]
    if fit == "crop":
        edge = cropped_edge(height, width, side, smallest_side)
        rows, columns = max(cells, round(cells * height / edge)), max(cells, round(cells * width / edge))
        top, left = (rows - cells) // 2, (columns - cells) // 2
        return np.pad(cam, ((top, rows - cells - top), (left, columns - cells - left)))
    if fit == "squash" or height == width:
        return cam
    edge = max(height, width)
    rows, columns = max(1, round(cells * height / edge)), max(1, round(cells * width / edge))
    top, left = (cells - rows) // 2, (cells - columns) // 2
    return cam[top : top + rows, left : left + columns]


def cropped_edge(height: int, width: int, side: int, smallest_side: int) -> int:
    """Pixels of the centre square that `to_square` cuts out of a picture."""
    edge = min(height, width)
    return round(edge * side / smallest_side) if smallest_side else edge


def in_frame(square: np.ndarray, height: int, width: int, fit: Squaring = "squash") -> np.ndarray:
    """A map (S, S) over the whole square of `to_square` at the resolution of the picture: (height, width).

    What cropping took away is 0, what padding added is cut off.
    """
    if fit == "squash" or height == width:
        return _resized(square, height, width)
    edge, cells = min(height, width) if fit == "crop" else max(height, width), square.shape[0]
    top, left = abs(height - edge) // 2, abs(width - edge) // 2
    if fit == "pad" and height > width:
        return np.ascontiguousarray(in_frame(np.ascontiguousarray(square.T), width, height, fit).T)
    if fit == "pad":  # the padding goes before the width comes: a whole square of 16,384 pixels a side takes 268 MB
        how = cv2.INTER_AREA if edge < cells else cv2.INTER_LINEAR
        rows = cv2.resize(square, (cells, edge), interpolation=how)[top : top + height]
        return cv2.resize(rows, (width, height), interpolation=how)
    framed = np.zeros((height, width), square.dtype)
    framed[top : top + edge, left : left + edge] = _resized(square, edge, edge)
    return framed


def without_padding(square: np.ndarray, height: int, width: int, fit: Squaring = "squash") -> np.ndarray:
    """A map (S, S) with 0 where padding lies: it must not win against what the picture shows."""
    if fit != "pad" or height == width:
        return square
    cells, edge = square.shape[0], max(height, width)
    shown = np.zeros_like(square)
    (top, bottom), (left, right) = (
        (round(cells * ((edge - n) // 2) / edge), round(cells * ((edge - n) // 2 + n) / edge)) for n in (height, width)
    )
    shown[top:bottom, left:right] = square[top:bottom, left:right]
    return shown


def _resized(square: np.ndarray, height: int, width: int) -> np.ndarray:
    shrink = max(height, width) < max(square.shape)
    return cv2.resize(square, (width, height), interpolation=cv2.INTER_AREA if shrink else cv2.INTER_LINEAR)


def resized_mask(mask: np.ndarray, height: int, width: int) -> np.ndarray:
    """A mask (H, W) uint8 of 0 and 255 at another size; a pixel belongs to it if at least half of it did."""
    return np.where(_resized(mask, height, width) >= 128, np.uint8(255), np.uint8(0))
