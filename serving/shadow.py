"""A challenger in the shadow: it is asked what the model was asked, unseen, and its answers are compared and recorded.

    DERM_SHADOW=lesion_classification:<version> python -m serving lesion_classification

or it is named while the service runs: see `follow.ChallengerFollower`. Nobody is told what it says. It is asked after
the answer was sent, one image at a time and only while nobody waits; what it is not asked for that reason is counted.
Its answers stand in the prediction records with the id of the answer that was sent and the role `challenger`.
"""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from starlette.exceptions import HTTPException

from derm_ml.answered.journal import CHALLENGER
from derm_ml.asking.answers import Envelope
from derm_ml.contract import Predictor
from derm_ml.task import Task
from serving.golden import difference
from serving.metrics import Metrics
from serving.queue import FairQueue
from serving.recorder import Recorder

logger = logging.getLogger("bentoml.serving")


@dataclass(frozen=True, slots=True)
class Sent:
    """An answer that was sent: what was said, its ids, the images it is about, and how to ask another model the same;
    `pixels`: what decoding them costs."""

    said: Mapping[str, Any]
    signed: Mapping[str, str]
    images: Sequence[bytes]
    ask: Callable[[Predictor], Mapping[str, Any]]
    pixels: int


@dataclass(frozen=True, slots=True)
class Hidden:
    """The model that is asked unseen, and the Bento it came from."""

    predictor: Predictor
    bento: str


class Shadow:
    """The challenger of one service; without one nothing is asked."""

    def __init__(self, task: Task, metrics: Metrics, recorder: Recorder) -> None:
        self.task = task
        self.metrics = metrics
        self.recorder = recorder
        self.challenger: Hidden | None = None
        self._under_way: set[asyncio.Task[None]] = set()

    async def after(self, sent: Sequence[Sent], queue: FairQueue) -> None:
        """Ask the challenger what was answered just now; returns at once. To be called when the answer was sent."""
        challenger = self.challenger
        if challenger is None or not sent or challenger.predictor.bundle.version == sent[0].signed["model_version"]:
            return
        if self._under_way:
            self.metrics.shadowed.labels("skipped").inc(len(sent))
            return
        task = asyncio.create_task(self._ask_all(challenger, sent, queue))
        self._under_way.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._under_way.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self.metrics.shadowed.labels("failed").inc()
            logger.warning("the challenger failed: %s", type(error).__name__)

    async def _ask_all(self, challenger: Hidden, sent: Sequence[Sent], queue: FairQueue) -> None:
        for place, one in enumerate(sent):
            if not queue.idle:
                self.metrics.shadowed.labels("skipped").inc(len(sent) - place)
                return
            await self._ask(challenger, one, queue)

    async def _ask(self, challenger: Hidden, sent: Sent, queue: FairQueue) -> None:
        try:
            work = self.recorder.watched(lambda: sent.ask(challenger.predictor))
            other, seen = await queue.run(work, sent.pixels)
        except HTTPException:
            self.metrics.shadowed.labels("skipped").inc()
            return
        except (ValueError, KeyError, RuntimeError) as error:
            # a challenger that cannot answer is a finding about it, not a fault of this service
            self.metrics.shadowed.labels("failed").inc()
            logger.warning("the challenger %s failed: %s", challenger.bento, type(error).__name__)
            return
        model = challenger.predictor
        signed = {
            "prediction_id": sent.signed["prediction_id"],
            "model_version": model.bundle.version,
            "dataset_md5": model.card.dataset_md5,
            "bento": challenger.bento,
        }
        await self.recorder.record(other, signed, sent.images, seen[0][0] if seen else None, CHALLENGER)
        worst = difference(dict(self.task.numbers(sent.said)), dict(self.task.numbers(other)))
        same = list(_decisions(sent.said)) == list(_decisions(other))
        if math.isfinite(worst):  # else one of the two abstains, which is another decision and no distance
            self.metrics.differences.labels(sent.signed["model_version"], model.bundle.version).observe(worst)
        self.metrics.shadowed.labels("same_decision" if same else "other_decision").inc()
        told = "same" if same else "not"
        logger.info("challenger %s: numbers differ by %.2g, decisions %s", challenger.bento, worst, told)


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
