"""A challenger in the shadow: it is asked what the model was asked, unseen, and its answers are compared.

    DERM_SHADOW=lesion_classification:<version> python -m serving lesion_classification

Nobody is told what it says: the metrics count how far its numbers are from the model's and how often it decides
otherwise; the log names the request. It is asked only while nobody waits, so it slows nobody down.
"""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from starlette.exceptions import HTTPException

from derm_ml.asking.answers import Envelope
from derm_ml.contract import Predictor
from derm_ml.task import Task
from serving.golden import difference
from serving.metrics import Metrics
from serving.queue import FairQueue

logger = logging.getLogger("bentoml.serving")


class Shadow:
    """The challenger of one service; without a `predictor` nothing is compared."""

    def __init__(self, task: Task, metrics: Metrics) -> None:
        self.task = task
        self.metrics = metrics
        self.predictor: Predictor | None = None
        self.bento = ""
        self._under_way: set[asyncio.Task[None]] = set()

    def compare(
        self,
        model_version: str,
        said: Mapping[str, Any],
        ask: Callable[[Predictor], Mapping[str, Any]],
        queue: FairQueue,
        pixels: int,
    ) -> None:
        """Ask the challenger after this request was answered. `ask` asks any predictor what the model was asked."""
        challenger = self.predictor
        if challenger is None:
            return
        if not queue.idle or self._under_way:
            self.metrics.shadowed.labels("skipped").inc()
            return
        task = asyncio.create_task(self._compare(challenger, model_version, said, ask, queue, pixels))
        self._under_way.add(task)
        task.add_done_callback(self._under_way.discard)

    async def _compare(
        self,
        challenger: Predictor,
        model_version: str,
        said: Mapping[str, Any],
        ask: Callable[[Predictor], Mapping[str, Any]],
        queue: FairQueue,
        pixels: int,
    ) -> None:
        try:
            other = await queue.run(lambda: ask(challenger), pixels)
        except HTTPException:
            self.metrics.shadowed.labels("skipped").inc()
            return
        except (ValueError, KeyError, RuntimeError) as error:
            # a challenger that cannot answer is a finding about it, not a fault of this service
            self.metrics.shadowed.labels("failed").inc()
            logger.warning("the challenger %s failed: %s", self.bento, type(error).__name__)
            return
        worst = difference(dict(self.task.numbers(said)), dict(self.task.numbers(other)))
        same = list(_decisions(said)) == list(_decisions(other))
        if math.isfinite(worst):  # else one of the two abstains, which is another decision and no distance
            self.metrics.differences.labels(model_version, challenger.bundle.version).observe(worst)
        self.metrics.shadowed.labels("same_decision" if same else "other_decision").inc()
        logger.info("challenger %s: numbers differ by %.2g, decisions %s", self.bento, worst, "same" if same else "not")


def _decisions(answer: Any, name: str = "") -> Iterator[tuple[str, object]]:
    """Every yes, no and word of an answer, with where it stands; not what it says of itself (versions, notes)."""
    if isinstance(answer, Mapping):
        for key, value in answer.items():
            if key not in _APART:
                yield from _decisions(value, f"{name}.{key}")
    elif isinstance(answer, list):
        for number, value in enumerate(answer):
            yield from _decisions(value, f"{name}.{number}")
    elif isinstance(answer, bool | str):
        yield name, answer


_APART = (
    *Envelope.model_fields,
    "mask",
    "quality",
    "abstained_because",
)  # of two models these differ, or say the same in another way
