"""The models of all released tasks in one process: loaded on first use, followed, and let go when there are too many.

    DERM_SUITE_MODELS   how many models stay in memory (default 3)

A model is let go when another one is loaded and it is the one that was asked longest ago; the next question to it loads
it again. A model that somebody is asking is never let go, so no request fails or waits for a place; while more tasks
than the bound are asked at the same moment, as many models are in memory, and no more than one a task. The challenger
of a loaded task counts as one of them: it is asked while there is a place for it, and is the first to go.

The code is that of this process: a Bento that was built from other sources is not opened, as in a service of one task.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import anyio.to_thread

from derm_ml.files import file_identity
from derm_ml.task import Task
from serving.engine import Engine, queue_of
from serving.follow import SECONDS, ChallengerFollower, Follower
from serving.guard import Limits, Readiness
from serving.metrics import TaskMetrics
from serving.released import NotReleased, ReleaseWithdrawn, in_store, read_release, release_file

FIRST_USE = "its model is loaded with the first question"

logger = logging.getLogger("bentoml.serving")


def not_released(task: str) -> str:
    """What to do about a task that has no release."""
    return f"{task} is not released; make train TASK={task} trains, checks and releases a model of it"


@dataclass
class Place:
    """One task of a suite. `asking`: requests under way; `last`: when it was asked last, counted in requests."""

    engine: Engine
    follower: Follower
    beside: ChallengerFollower
    asking: int = 0
    last: int = 0
    failed: tuple[tuple[int, int] | None] | None = None  # the release file that could not be opened

    @property
    def is_loaded(self) -> bool:
        return self.engine.predictor is not None

    @property
    def held(self) -> int:
        """How many models it holds in memory."""
        return self.is_loaded + (self.engine.shadow.challenger is not None)


@dataclass(frozen=True)
class TaskState:
    """Where a task stands: `state` is one of `STATES`, `bento` what is released or answers, `why` a sentence or ""."""

    state: str
    bento: str = ""
    why: str = ""


STATES = ("loaded", "not_loaded", "not_released", "withdrawn", "refused")


class Suite:
    """The engines of `tasks`, which share one queue; at most `kept` of them hold a model that nobody is asking."""

    def __init__(self, tasks: Mapping[str, Task], limits: Limits, namespace: str, kept: int, code: str) -> None:
        made: dict[str, Any] = {}
        self.kept = kept
        self.metrics = TaskMetrics(namespace, "", made)
        self.of_task = {name: TaskMetrics(namespace, name, made) for name in tasks}
        queue = queue_of(limits, self.metrics)
        engines = {name: Engine(task, limits, self.of_task[name], queue) for name, task in tasks.items()}
        self.places = {
            name: Place(engine, Follower(engine, code), ChallengerFollower(engine)) for name, engine in engines.items()
        }
        self._requests = itertools.count(1)
        self._one_at_a_time = asyncio.Lock()
        self._watching: asyncio.Task[None] | None = None

    @property
    def loaded(self) -> list[str]:
        """The tasks whose models are in memory, the one asked longest ago first."""
        names = [name for name, place in self.places.items() if place.is_loaded]
        return sorted(names, key=lambda name: self.places[name].last)

    @asynccontextmanager
    async def using(self, task: str) -> AsyncIterator[None]:
        """Inside, the model of a task is in memory, if any can be had; else the engine's `unready` says why."""
        place = self.places[task]
        place.asking += 1
        place.last = next(self._requests)
        try:
            if not place.is_loaded:
                await self._load(task, place)
            yield
        finally:
            place.asking -= 1
            self._let_go(self.kept)

    async def _load(self, task: str, place: Place) -> None:
        async with self._one_at_a_time:
            release = (file_identity(release_file(task)),)
            if place.is_loaded or place.failed == release:  # somebody else did, or it would fail again
                return
            found = self.standing(task)
            if found.state == "not_released" and not place.follower.answered:
                place.engine.unready = found.why
            else:
                self._let_go(self.kept - 1)
                await anyio.to_thread.run_sync(place.follower.load)
            place.failed = None if place.is_loaded else release

    def _let_go(self, most: int) -> None:
        """Let challengers, then the models that were asked longest ago, go until `most` are left, but no model that is
        being asked."""
        loaded = self.loaded
        for name in loaded:
            if self._held > most:
                self.places[name].beside.let_go()
        idle = [name for name in loaded if not self.places[name].asking]
        for name in idle[: max(0, self._held - most)]:
            self.places[name].beside.let_go()
            self.places[name].engine.let_go()
            self.of_task[name].swaps.labels("let_go").inc()
            logger.info("the model of %s was let go; at most %d stay in memory", name, self.kept)

    @property
    def _held(self) -> int:
        return sum(place.held for place in self.places.values())

    def standing(self, task: str) -> TaskState:
        """Where a task stands now, by its release file and its engine."""
        place = self.places[task]
        engine = place.engine
        if place.is_loaded:
            return TaskState("loaded", engine.bento, engine.refused)
        try:
            tag = read_release(task)
        except ReleaseWithdrawn as error:
            return TaskState("withdrawn", "", str(error))
        except NotReleased as error:
            missing = file_identity(release_file(task)) is None
            return (
                TaskState("not_released", "", not_released(task)) if missing else TaskState("refused", "", str(error))
            )
        if not in_store(tag):
            return TaskState("refused", tag, f"{tag} is not in the store; release {task} again")
        if place.failed == (file_identity(release_file(task)),):
            return TaskState("refused", tag, engine.unready)
        return TaskState("not_loaded", tag, FIRST_USE)

    def readiness(self, task: str) -> Readiness:
        """Of one task; of the suite ("") it is ready if any task can be asked."""
        if task:
            found = self.standing(task)
            usable = found.state in ("loaded", "not_loaded")
            return Readiness("", found.why) if usable else Readiness(found.why)
        every = {name: self.standing(name) for name in self.places}
        if not any(found.state in ("loaded", "not_loaded") for found in every.values()):
            return Readiness("no task can be asked; GET / says why of each")
        return Readiness("", "; ".join(f"{name}: {place.engine.refused}" for name, place in self.places.items()
                                       if place.is_loaded and place.engine.refused))  # fmt: skip

    async def start(self) -> None:
        """Follow the releases of the loaded tasks, until `stop`; those of the others are read when they are asked."""
        self._watching = asyncio.create_task(self._watch())

    async def stop(self) -> None:
        if self._watching is not None:
            self._watching.cancel()

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(SECONDS)
            for name in self.loaded:
                async with self._one_at_a_time:
                    place = self.places[name]
                    if place.is_loaded:
                        await anyio.to_thread.run_sync(place.follower.look)
                    if not place.is_loaded:  # withdrawn
                        place.beside.let_go()
                    elif place.held > 1 or self._held < self.kept:
                        await anyio.to_thread.run_sync(place.beside.look)
            self._let_go(self.kept)
