"""How the cores are used best for one model: measured for a few seconds when its Bento is built, stored with it.

Measured on two cores with a ResNet-18 at 128 px: two threads that share a session of all cores gave 28.8 answers a
second, two on one core each 35.9. Another network or machine says otherwise, so it is measured and not assumed; the
choice holds only on a machine with as many cores, and the execution provider, that it was measured on.
"""

from __future__ import annotations

import json
import os
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from derm_ml import formats
from derm_ml.bundles.bundle import BundleError
from derm_ml.bundles.providers import CPU
from derm_ml.bundles.session import Cores
from derm_ml.bundles.square_predictor import SquarePredictor
from derm_ml.files import write_json

SESSIONS = "sessions.json"
SECONDS = 0.5  # of each of the measurements, two for each of four choices
SLOWER_ALONE = 1.1  # a single request may take so much longer than with the choice that is best for it
WORTH = 1.05  # a choice other than the plain one must be better by that much: less is noise
CHOICES = [Cores(spinning, apart) for spinning in (True, False) for apart in (False, True)]


def choose(predictor: SquarePredictor, path: Path) -> Cores:
    """Measure, write the choice and what was measured to `path`, leave the predictor with it."""
    found = []
    for cores in CHOICES:
        predictor.use(cores)
        found.append((cores, _seconds_alone(predictor), _pairs_a_second(predictor)))
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
    here = {"cores": os.cpu_count(), "provider": predictor.provider}
    choice = {**here, "spinning": best[0].spinning, "apart": best[0].apart, "measured": measured}
    write_json(path, formats.SESSIONS.stamped(choice))
    predictor.use(best[0])
    return best[0]


def apply(predictor: object, path: Path) -> None:
    """Use the stored choice, if there is one and it was made for the cores and the provider there are here.

    Raises `BundleError` for a file that cannot be read.
    """
    if not isinstance(predictor, SquarePredictor) or not path.is_file():
        return
    try:
        stored = formats.SESSIONS.read(json.loads(path.read_text(encoding="utf-8")), path, BundleError)
        where = stored["cores"], stored.get("provider", CPU)
        cores = Cores(bool(stored["spinning"]), bool(stored["apart"]))
    except BundleError:
        raise
    except (ValueError, KeyError, TypeError) as error:
        raise BundleError(f"{path}: not a readable choice of sessions; build the Bento again") from error
    if where == (os.cpu_count(), predictor.provider):
        predictor.use(cores)


def _seconds_alone(predictor: SquarePredictor) -> float:
    """The median of one prediction after another."""
    taken: list[float] = []
    end = time.perf_counter() + SECONDS
    while not taken or time.perf_counter() < end:
        start = time.perf_counter()
        predictor.warm_up()
        taken.append(time.perf_counter() - start)
    return float(np.median(taken))


def _pairs_a_second(predictor: SquarePredictor) -> float:
    """Predictions a second of two threads at once."""
    end = time.perf_counter() + SECONDS
    start = time.perf_counter()

    def loop(_: int) -> int:
        n = 0
        while not n or time.perf_counter() < end:
            predictor.warm_up()
            n += 1
        return n

    with ThreadPoolExecutor(2) as pool:
        done = sum(pool.map(loop, range(2)))
    return done / (time.perf_counter() - start)
