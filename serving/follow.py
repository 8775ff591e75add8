"""Following the release: a model that is released, or rolled back, while the service runs is served without a restart.

The release file says which Bento is released (`serving/released.py`). When it changes, the model of that Bento is
opened beside the one that answers: its files verified, a blank image asked, its golden answers compared. Only then it
takes over, between two requests. One that fails any of this is refused: the old one stays, and `/readyz`, the metrics
and the log say why. Where the model was withdrawn and no other released, nothing answers until one is.

What is exchanged is the model, its index and its calibration; the code that asks them is that of the running process.
A Bento built from other code is therefore not opened here: it needs a restart, and `/readyz` says so.
"""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path

import anyio
import anyio.to_thread
import bentoml
from bentoml.exceptions import BentoMLException

from derm_ml import DermError
from derm_ml.embeddings.similar import SimilarImagesError
from derm_ml.files import file_identity
from serving.engine import Engine, Files, Loaded, load_predictor
from serving.released import (
    NotReleased,
    ReleaseWithdrawn,
    challenger_file,
    read_challenger,
    read_release,
    release_file,
)
from serving.shadow import Hidden

SECONDS = 1.0  # between two looks at the release file: one stat each
CODE = "code"  # the label of a Bento that names the sources in it

logger = logging.getLogger("bentoml.serving")


class OtherCode(DermError):
    """A Bento was built from other sources than those that run."""


class Follower:
    """Keeps one engine at what is released. `code` names the running Bento's sources; `beside` is looked at too."""

    def __init__(self, engine: Engine, code: str, beside: ChallengerFollower | None = None) -> None:
        self.engine = engine
        self.code = code
        self.beside = beside
        self._seen: tuple[int, int] | None = None
        self.answered = ""  # the last Bento that answered here
        self._task: asyncio.Task[None] | None = None

    def look(self) -> None:
        """Serve what is released now, if it is another Bento than the one that answers and is fit to."""
        if (seen := file_identity(release_file(self.engine.task.name))) == self._seen:
            return
        self._seen = seen
        self._serve("switched")

    def load(self) -> None:
        """Serve what is released though the engine has no model: it was let go, or never loaded.

        A release that is refused does not cost the one before its place: the Bento that answered here last is opened
        again. Where nothing can be opened, `unready` of the engine says why.
        """
        self.engine.unready = ""
        self._seen = file_identity(release_file(self.engine.task.name))
        self._serve("loaded")
        if self.engine.predictor is None and not self.engine.unready:
            self._serve_again()

    def _serve_again(self) -> None:
        why = self.engine.refused
        try:
            if self.answered:
                self.engine.switch(self._opened(self.answered))
                self.engine.refused = why
                return
        except (DermError, BentoMLException, OSError) as error:
            logger.error("%s cannot be opened again: %s", self.answered, error)
        self.engine.unready = why.replace(GOES_ON, NONE_BEFORE)

    def _serve(self, outcome: str) -> None:
        """Open what is released and let it answer; `outcome` counts that it does."""
        tag = ""
        try:
            tag = read_release(self.engine.task.name)
            if tag == self.engine.bento:
                self.engine.refused = ""
                return
            self.engine.switch(self._opened(tag))
        except OtherCode as error:
            self._refuse(tag, "restart_needed", error)
        except ReleaseWithdrawn as error:
            self.engine.withdraw()
            self.answered = ""
            self.engine.metrics.swaps.labels("withdrawn").inc()
            logger.error("nothing is served any more: %s", error)
        except NotReleased as error:
            self._refuse("", "refused", error)
        except (DermError, BentoMLException, OSError) as error:
            self._refuse(tag, "refused", error)
        else:
            self.answered = tag
            self.engine.metrics.swaps.labels(outcome).inc()
            logger.info("now serving %s", tag)

    async def start(self) -> None:
        """Look every second from now on, in a thread, until `stop`."""
        self._task = asyncio.create_task(self._watch())

    async def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(SECONDS)
            await anyio.to_thread.run_sync(self.look)
            if self.beside is not None:
                await anyio.to_thread.run_sync(self.beside.look)

    def _opened(self, tag: str) -> Loaded:
        bento = bentoml.get(tag)
        if bento.info.labels.get(CODE, "") != self.code:
            raise OtherCode(f"{tag} was built from other code; start the service again to serve it")
        return self.engine.open(Files.stored(bento_model_folder(tag, self.engine.task.name)), tag)

    def _refuse(self, tag: str, outcome: str, error: Exception) -> None:
        self.engine.refused = _SENTENCES[outcome]
        self.engine.metrics.swaps.labels(outcome).inc()
        logger.error("the release %s is not served, %s goes on: %s", tag, self.engine.bento, error)


GOES_ON, NONE_BEFORE = "the one before goes on", "and there is none before that could answer"
# told to anybody who asks /readyz; the log names files
_SENTENCES = {
    "refused": f"the newest release was refused, {GOES_ON}; see the server's log",
    "restart_needed": "the newest release was built from other code; start the service again to serve it",
}


def bento_model_folder(tag: str, task: str) -> Path:
    """Where the model of a Bento in the store lies. Raises `BentoMLException` if there is no such Bento or model."""
    models = [model.tag for model in bentoml.get(tag).info.all_models if model.tag.name == task]
    if not models:
        raise BentoMLException(f"{tag} names no model of {task}")
    return Path(bentoml.models.get(models[0]).path)


class ChallengerFollower:
    """Keeps in the shadow of one engine what the challenger's file names: a trial begins and ends without a restart."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self._seen: tuple[int, int] | None = None

    def look(self) -> None:
        """Ask what is named now, if that has changed; where nobody is named, or cannot be opened, ask nobody."""
        task = self.engine.task.name
        if (seen := file_identity(challenger_file(task))) == self._seen:
            return
        self._seen = seen
        self.engine.shadow.challenger = None
        try:
            tag = read_challenger(task)
        except NotReleased as error:
            logger.error("no challenger is asked: %s", error)
            return
        if tag:
            open_challenger(self.engine, tag)
        else:
            logger.info("no challenger is asked any more")

    def let_go(self) -> None:
        """Free the memory of the challenger, if there is one; the next look opens it again."""
        if self.engine.shadow.challenger is not None:
            self.engine.shadow.challenger, self._seen = None, None


def open_challenger(engine: Engine, tag: str) -> None:
    """Put the model of another Bento into the shadow of `engine`; one that cannot be opened is logged and left out."""
    try:
        predictor = load_predictor(engine.task, Files.stored(bento_model_folder(tag, engine.task.name)))
    except (DermError, SimilarImagesError, BentoMLException) as error:
        logger.error("the challenger %s is not asked: %s", tag, error)
        return
    engine.shadow.challenger = Hidden(predictor, tag)
    logger.info("the challenger %s is asked in the shadow", tag)
