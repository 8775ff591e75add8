"""Golden answers: a few synthetic images and what the model said of them when its Bento was built.

    write(task, predictor, folder / GOLDEN)       # at build
    verify(task, predictor, folder / GOLDEN)      # wherever the model is loaded, before it answers anybody

A model that is loaded into a running service must give them again: other kernels, another version of a library or a
changed file shows here, and not in a patient's answer. The images are synthetic, so that a Bento holds no patient's.
"""

from __future__ import annotations

import base64
import io
import json
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from PIL import Image

from derm_ml import DermError, formats
from derm_ml.asking.pair import Pair
from derm_ml.files import write_json
from derm_ml.images.decode import decode
from derm_ml.task import Task

GOLDEN = "golden.json"
IMAGES = 3
HEIGHT, WIDTH = 192, 256
SHIFT = 6  # pixels between the two photos of a pair
TOLERANCE = 1e-5  # the same as between endpoint and evaluation


class GoldenError(DermError):
    """A model does not give its golden answers, or they are missing; it must not be served."""


def write(task: Task, predictor: Any, path: Path) -> None:
    """Ask the model about the synthetic images and keep both, images as PNG and answers as numbers."""
    cases = []
    for image in _images():
        photos = _photos(task, image)
        numbers = _numbers(task, predictor, photos)
        cases.append(
            {"images": [base64.b64encode(_png(photo)).decode("ascii") for photo in photos], "numbers": numbers}
        )
    content = {"task": task.name, "model_version": predictor.bundle.version, "cases": cases}
    write_json(path, formats.GOLDEN.stamped(content))


def verify(task: Task, predictor: Any, path: Path) -> None:
    """Raises `GoldenError` that says what differs."""
    try:
        stored = formats.GOLDEN.read(json.loads(path.read_text(encoding="utf-8")), path, GoldenError)
        version, cases = stored["model_version"], stored["cases"]
        asked = [([decode(base64.b64decode(text)) for text in c["images"]], dict(c["numbers"])) for c in cases]
    except FileNotFoundError:
        raise GoldenError(f"{path}: the golden answers are missing; build the Bento again") from None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise GoldenError(f"{path}: the golden answers cannot be read; build the Bento again") from error
    if version != predictor.bundle.version or not asked:
        raise GoldenError(f"{path}: the golden answers are of another model; build the Bento again")
    for number, (photos, expected) in enumerate(asked):
        worst = difference(expected, _numbers(task, predictor, photos))
        if not worst <= TOLERANCE:
            raise GoldenError(
                f"golden answer {number} of {task.name} differs by {worst:.2g} from what the model said when its Bento "
                f"was built (at most {TOLERANCE:g}); build the Bento again on this machine and replay it"
            )


def difference(expected: Mapping[str, float | None], found: Mapping[str, float | None]) -> float:
    """The largest difference of any number; infinite where names differ or only one of two is a number."""
    if expected.keys() != found.keys():
        return math.inf
    worst = 0.0
    for name, number in expected.items():
        other = found[name]
        if (number is None) != (other is None):
            return math.inf
        if number is not None and other is not None:
            worst = max(worst, abs(number - other))
    return worst


def _numbers(task: Task, predictor: Any, photos: list[np.ndarray]) -> dict[str, float | None]:
    asked = Pair(photos[0], photos[1]) if len(photos) == 2 else photos[0]
    numbers = task.numbers(task.answer(predictor, asked, task.asking.whole))
    return {name: float(value) if math.isfinite(value) else None for name, value in numbers.items()}


def _photos(task: Task, image: np.ndarray) -> list[np.ndarray]:
    if task.asking.takes_bytes:
        return [image]
    return [image[:, :-SHIFT].copy(), image[:, SHIFT:].copy()]


def _images() -> Iterator[np.ndarray]:
    """RGB (H, W, 3) uint8: soft coloured patches with some grain, the same on every machine."""
    for seed in range(IMAGES):
        rng = np.random.default_rng(seed)
        soft = cv2.resize(rng.integers(40, 216, (6, 8, 3), np.uint8), (WIDTH, HEIGHT), interpolation=cv2.INTER_LINEAR)
        yield cv2.add(soft, rng.integers(0, 40, (HEIGHT, WIDTH, 3), np.uint8))


def _png(image: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "PNG")
    return buffer.getvalue()
