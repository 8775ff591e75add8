"""A challenger that fails, or a service that is busy, costs no caller anything, and each is counted."""

from __future__ import annotations

import asyncio
import threading
from types import SimpleNamespace

import pytest

from derm_ml.registry import get_task
from serving.metrics import Metrics
from serving.queue import FairQueue
from serving.recorder import Recorder
from serving.shadow import Hidden, Sent, Shadow

TASK = get_task("lesion_classification")
ANSWER = {"probabilities": {"melanoma": 0.2, "nevus": 0.7, "seborrheic_keratosis": 0.1}, "predicted": "nevus"}


def named(version: str) -> SimpleNamespace:
    return SimpleNamespace(bundle=SimpleNamespace(version=version), card=SimpleNamespace(dataset_md5="0" * 32))


def sent(ask) -> Sent:
    return Sent(ANSWER, {"prediction_id": "a", "model_version": "old"}, [b""], ask, 0)


def counted(metrics: Metrics) -> dict[str, float]:
    (family,) = metrics.shadowed.collect()
    return {s.labels["outcome"]: s.value for s in family.samples if s.name.endswith("_total")}


@pytest.fixture
def shadow(request) -> Shadow:
    metrics = Metrics(f"derm_{request.node.name.partition('[')[0]}")
    made = Shadow(TASK, metrics, Recorder(TASK, metrics))
    made.challenger = Hidden(named("new"), f"{TASK.name}:new")
    return made


def asked(shadow: Shadow, *rounds: list[Sent], busy: bool = False) -> None:
    """One request after the other as the server does; `busy`: somebody waits meanwhile."""

    async def serve() -> None:
        queue, done = FairQueue(2, 8, 20, lambda _: None), threading.Event()
        others = [asyncio.create_task(queue.run(done.wait)) for _ in range(busy)]
        await asyncio.sleep(0)
        for one in rounds:
            await shadow.after(one, queue)
        if not busy:
            await asyncio.sleep(0.05)
        done.set()
        await asyncio.gather(*others)
        while shadow._under_way:
            await asyncio.sleep(0.005)

    asyncio.run(serve())


@pytest.mark.parametrize("error", [ValueError, OSError, MemoryError, KeyError])
def test_what_a_challenger_raises_is_counted_and_the_next_is_asked(error, request):
    metrics = Metrics(f"derm_raised_{error.__name__}")
    shadow = Shadow(TASK, metrics, Recorder(TASK, metrics))
    shadow.challenger = Hidden(named("new"), f"{TASK.name}:new")

    def fails(_: object) -> dict:
        raise error("in the challenger")

    asked(shadow, [sent(fails)])
    asked(shadow, [sent(lambda _: ANSWER)])
    assert counted(metrics) == {"failed": 1, "same_decision": 1}


def test_while_somebody_waits_nobody_is_asked(shadow):
    asked(shadow, [sent(lambda _: ANSWER), sent(lambda _: ANSWER)], busy=True)
    assert counted(shadow.metrics) == {"skipped": 2}


def test_one_image_at_a_time(shadow):
    asked(shadow, [sent(lambda _: ANSWER)], [sent(lambda _: ANSWER)])
    assert counted(shadow.metrics) == {"same_decision": 1, "skipped": 1}


def test_the_model_that_was_promoted_is_not_asked_beside_itself(shadow):
    shadow.challenger = Hidden(named("old"), f"{TASK.name}:old")
    asked(shadow, [sent(lambda _: ANSWER)])
    assert counted(shadow.metrics) == {}
