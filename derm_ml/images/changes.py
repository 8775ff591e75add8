"""What befalls photographs of skin: hair, a ruler, ink, a dark corner, blur, compression, a colour cast, a turn.

    STRESS["hair"](image)      LEAKS["turn 15"](image)      with_dot(colour, corner)(image)

Each takes and gives RGB (H, W, 3) uint8 and changes nothing in place. The same image is always changed in the same way:
what is drawn by chance is seeded with the image itself, so that a check can be repeated.
"""

from __future__ import annotations

import colorsys
import hashlib
import math
from collections.abc import Callable, Mapping
from functools import partial
from typing import Literal

import cv2
import numpy as np

Change = Callable[[np.ndarray], np.ndarray]
_INK = (70, 40, 140)  # of a gentian violet skin marker


def _chance(image: np.ndarray) -> np.random.Generator:
    return np.random.default_rng(list(hashlib.sha256(np.ascontiguousarray(image).data).digest()[:8]))


def haired(image: np.ndarray) -> np.ndarray:
    """Fifteen dark hairs across the whole image."""
    rng, (height, width) = _chance(image), image.shape[:2]
    drawn = np.ascontiguousarray(image).copy()
    t = np.linspace(0, 1, 24)[:, None]
    for _ in range(15):
        start, end = rng.uniform(-0.1, 1.1, (2, 2)) * (width, height)
        bend = (start + end) / 2 + rng.normal(0, 0.15 * height, 2)
        curve = (1 - t) ** 2 * start + 2 * t * (1 - t) * bend + t**2 * end
        cv2.polylines(
            drawn, [np.round(curve).astype(np.int32)], False, (48, 36, 32), max(1, height // 100), cv2.LINE_AA
        )
    return drawn


def ruled(image: np.ndarray) -> np.ndarray:
    """A ruler of white paper with black marks along the lower edge."""
    height, width = image.shape[:2]
    drawn, top = np.ascontiguousarray(image).copy(), round(0.88 * height)
    drawn[top:] = 235
    step = max(3, width // 40)
    for k, x in enumerate(range(0, width, step)):
        cv2.line(drawn, (x, top), (x, top + (height - top) // (2 if k % 5 == 0 else 4)), (20, 20, 20), 1)
    return drawn


def inked(image: np.ndarray) -> np.ndarray:
    """Two strokes of a surgical marker beside the middle."""
    height, width = image.shape[:2]
    drawn, thick = np.ascontiguousarray(image).copy(), max(2, height // 40)
    for side in (0.1, 0.9):
        x = round(side * width)
        cv2.line(drawn, (x, round(0.3 * height)), (x + thick, round(0.7 * height)), _INK, thick, cv2.LINE_AA)
    return drawn


def dark_cornered(image: np.ndarray) -> np.ndarray:
    """The round black frame of a dermatoscope."""
    height, width = image.shape[:2]
    inside = np.zeros((height, width), np.uint8)
    cv2.ellipse(inside, (width // 2, height // 2), (round(0.56 * width), round(0.56 * height)), 0, 0, 360, 255, -1)
    share = cv2.GaussianBlur(inside, (0, 0), max(1.0, 0.01 * height)).astype(np.float32)[..., None] / 255
    return (image * share).astype(np.uint8)


def blurred(image: np.ndarray) -> np.ndarray:
    """Out of focus: a Gaussian blur of 2 % of the shorter side."""
    return cv2.GaussianBlur(image, (0, 0), max(0.8, 0.02 * min(image.shape[:2])))


def compressed(image: np.ndarray, quality: int = 20) -> np.ndarray:
    """As a messenger sends it: JPEG of that quality."""
    done, stored = cv2.imencode(".jpg", image[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, quality])
    assert done
    found = cv2.imdecode(stored, cv2.IMREAD_COLOR)
    assert found is not None
    return np.ascontiguousarray(found[..., ::-1])


def warm(image: np.ndarray) -> np.ndarray:
    """Under a lamp: 10 % more red, 12 % less blue."""
    return np.clip(image * np.array([1.10, 1.0, 0.88]), 0, 255).astype(np.uint8)


def turned(image: np.ndarray, degrees: float = 15, fill: Literal["reflect", "black", "cut"] = "reflect") -> np.ndarray:
    """Turned about its middle; the corners filled by reflection, left black, or cut off with the whole border."""
    height, width = image.shape[:2]
    turn = cv2.getRotationMatrix2D((width / 2 - 0.5, height / 2 - 0.5), degrees, 1.0)
    border = cv2.BORDER_CONSTANT if fill == "black" else cv2.BORDER_REFLECT_101
    found = cv2.warpAffine(image, turn, (width, height), flags=cv2.INTER_LINEAR, borderMode=border)
    if fill != "cut":
        return found
    x, y = abs(math.cos(math.radians(degrees))), abs(math.sin(math.radians(degrees)))
    return cropped(found, 1 - min(width / (width * x + height * y), height / (width * y + height * x)))


def cropped(image: np.ndarray, share: float) -> np.ndarray:
    """Without that share of width and height, cut off around the middle."""
    height, width = image.shape[:2]
    y, x = round(share * height / 2), round(share * width / 2)
    return np.ascontiguousarray(image[y : height - y, x : width - x])


def corner_of(image: np.ndarray, area: float) -> np.ndarray:
    """That share of its area, in one of the four corners."""
    height, width = image.shape[:2]
    corner, side = int(_chance(image).integers(4)), math.sqrt(area)
    high, wide = round(side * height), round(side * width)
    y, x = (height - high if corner >= 2 else 0), (width - wide if corner % 2 else 0)
    return np.ascontiguousarray(image[y : y + high, x : x + wide])


def shrunk(image: np.ndarray, scale: float) -> np.ndarray:
    """As a smaller copy of the whole."""
    height, width = (max(8, round(side * scale)) for side in image.shape[:2])
    return cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA)


def with_text(image: np.ndarray) -> np.ndarray:
    """With a line of text burned in, as cameras and archives do."""
    return _written(image, "ID 2041-07 12/03", 8, 320)


def with_two_texts(image: np.ndarray) -> np.ndarray:
    """With a line of large text at the top and one at the bottom."""
    height = image.shape[0]
    return _written(_written(image, "PAT 20417 M 63", round(0.88 * height), 250), "2019-03-12 11:24", 8, 250)


def _written(image: np.ndarray, text: str, above: int, part: int) -> np.ndarray:
    drawn, height = np.ascontiguousarray(image).copy(), image.shape[0]
    return cv2.putText(
        drawn, text, (4, height - above), cv2.FONT_HERSHEY_SIMPLEX, height / part, (255, 255, 255), 1, cv2.LINE_AA
    )


def ringed(image: np.ndarray) -> np.ndarray:
    """Ink all around the lesion, as it is marked before it is cut out."""
    height, width = image.shape[:2]
    drawn, thick = np.ascontiguousarray(image).copy(), max(2, height // 50)
    axes = round(0.33 * width), round(0.36 * height)
    return cv2.ellipse(drawn, (width // 2, height // 2), axes, 0, 20, 340, _INK, thick, cv2.LINE_AA)


def with_dot(colour: int, corner: int) -> Change:
    """A change: a dot in one of the four corners, in one of many distinct colours."""
    hue = (colour * 0.381966) % 1  # the golden section keeps any number of hues apart
    rgb = tuple(round(255 * part) for part in colorsys.hsv_to_rgb(hue, 0.9, 0.9))
    return partial(_dotted, rgb=(rgb[0], rgb[1], rgb[2]), corner=corner)


def _dotted(image: np.ndarray, rgb: tuple[int, int, int], corner: int) -> np.ndarray:
    height, width = image.shape[:2]
    drawn, radius = np.ascontiguousarray(image).copy(), max(2, round(0.06 * min(height, width)))
    x = 2 * radius if corner % 2 == 0 else width - 2 * radius
    y = 2 * radius if corner < 2 else height - 2 * radius
    return cv2.circle(drawn, (x, y), radius, rgb, -1, cv2.LINE_AA)


STRESS: Mapping[str, Change] = {
    "hair": haired,
    "ruler": ruled,
    "ink": inked,
    "dark_corner": dark_cornered,
    "blur": blurred,
    "jpeg": compressed,
    "colour_cast": warm,
    "rotation": turned,
}
# how the same photograph comes back under another name
LEAKS: Mapping[str, Change] = {
    "flip": lambda image: np.ascontiguousarray(image[:, ::-1]),
    "quarter turn": lambda image: np.ascontiguousarray(np.rot90(image)),
    "half size": partial(shrunk, scale=0.5),
    "colour cast": warm,
    "jpeg 20": compressed,
    "blur": blurred,
    "crop 10 %": partial(cropped, share=0.1),
    "crop 20 %": partial(cropped, share=0.2),
    "corner of 60 %": partial(corner_of, area=0.6),
    "turn 5": partial(turned, degrees=5),
    "turn 10": partial(turned, degrees=10),
    "turn 15": turned,
    "turn 20": partial(turned, degrees=20),
    "turn 30": partial(turned, degrees=30),
    "turn 15, black": partial(turned, degrees=15, fill="black"),
    "turn 30, black": partial(turned, degrees=30, fill="black"),
    "turn 15, cut": partial(turned, degrees=15, fill="cut"),
    "turn 30, cut": partial(turned, degrees=30, fill="cut"),
    "flip, turn 20": lambda image: turned(np.ascontiguousarray(image[:, ::-1]), 20),
    "turn 15, cut, crop 10 %, jpeg 60": lambda image: compressed(cropped(turned(image, 15, "cut"), 0.1), 60),
    "text": with_text,
    "two texts": with_two_texts,
    "ink": inked,
    "ring of ink": ringed,
    "hair": haired,
    "ruler": ruled,
    "dark corner": dark_cornered,
}
