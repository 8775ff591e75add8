"""How the cores are used best for one model: measured for a few seconds when its Bento is built, stored with it.

Measured on two cores with a ResNet-18 at 128 px: two threads that share a session of all cores gave 28.8 answers a
second, two on one core each 35.9. Another network or machine says otherwise, so it is measured and not assumed; the
choice holds only on a machine with as many cores as the one it was measured on.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from derm_ml.bundles.bundle import BundleError
from derm_ml.bundles.predictor import Predictor, Sessions
from derm_ml.files import write_json

SESSIONS = "sessions.json"
SECONDS = 0.5  # of each of the measurements, two for each of four choices
SLOWER_ALONE = 1.1  # a single request may take so much longer than with the choice that is best for it
WORTH = 1.05  # a choice other than the plain one must be better by that much: less is noise
CHOICES = [Sessions(spinning, apart) for spinning in (True, False) for apart in (False, True)]


def choose(predictor: Predictor, path: Path) -> Sessions:
    """Measure, write the choice and what was measured to `path`, leave the predictor with it."""
    found = []
    for sessions in CHOICES:
        predictor.use(sessions)
        found.append((sessions, _seconds_alone(predictor), _pairs_a_second(predictor)))
    fastest = min(alone for _, alone, _ in found)
    fit = [entry for entry in found if entry[1] <= SLOWER_ALONE * fastest]
    best = max(fit, key=lambda entry: entry[2])
    plain = found[0]
    if plain in fit and best[2] < WORTH * plain[2]:
        best = plain
    measured = [
        {"spinning": s.spinning, "apart": s.apart, "milliseconds_alone": 1000 * alone, "answers_a_second_of_two": pairs}
        for s, alone, pairs in found
    ]
    write_json(
        path,
        {"cores": os.cpu_count(), "spinning": best[0].spinning, "apart": best[0].apart, "measured": measured},
    )
    predictor.use(best[0])
    return best[0]


def apply(predictor: object, path: Path) -> None:
    """Use the stored choice, if there is one and it was made for as many cores as there are here.

    Raises `BundleError` for a file that cannot be read.
    """
    if not isinstance(predictor, Predictor) or not path.is_file():
        return
    try:
        stored = json.loads(path.read_text(encoding="utf-8"))
        cores, sessions = stored["cores"], Sessions(bool(stored["spinning"]), bool(stored["apart"]))
    except (ValueError, KeyError, TypeError) as error:
        raise BundleError(f"{path}: not a readable choice of sessions; build the Bento again") from error
    if cores == os.cpu_count():
        predictor.use(sessions)


def _seconds_alone(predictor: Predictor) -> float:
    """The median of one prediction after another."""
    ask, taken = _asking(predictor), []
    end = time.perf_counter() + SECONDS
    while not taken or time.perf_counter() < end:
        start = time.perf_counter()
        ask()
        taken.append(time.perf_counter() - start)
    return float(np.median(taken))


def _pairs_a_second(predictor: Predictor) -> float:
    """Predictions a second of two threads at once."""
    ask, end = _asking(predictor), time.perf_counter() + SECONDS
    start = time.perf_counter()

    def loop(_: int) -> int:
        n = 0
        while not n or time.perf_counter() < end:
            ask()
            n += 1
        return n

    with ThreadPoolExecutor(2) as pool:
        done = sum(pool.map(loop, range(2)))
    return done / (time.perf_counter() - start)


def _asking(predictor: Predictor) -> Callable[[], object]:
    side = predictor.card.preprocessing.side
    image = np.full((side, side, 3), 127, np.uint8)
    return lambda: predictor.logits([image])
