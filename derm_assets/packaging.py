"""From a champion bundle to a released Bento: build, replay what was evaluated through it, release.

    tag = build_bento("lesion_classification", bundle, mlflow_version="7")
    result = replay("lesion_classification", tag, cases)      # the check endpoint_reproduces_evaluation
    release("lesion_classification", tag, of)                 # `python -m serving lesion_classification` serves it

BentoML runs in processes of its own and is never imported here: a code location loads without it, and its global
state (arguments, stores, loggers) does not outlive a build.
"""

from __future__ import annotations

import http.client
import json
import math
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from derm_ml import DermError
from derm_ml.asking.replay import Upload, numbers_of
from derm_ml.bundles.bundle import Bundle
from derm_ml.places import BENTOML_HOME
from derm_ml.promotion.doctor import Check
from derm_ml.promotion.ledger import Standing
from derm_ml.registry import get_task
from serving.launch import serve_command, serve_environment
from serving.released import (
    NotReleased,
    bento_home,
    in_store,
    read_release,
    release_file,
    released_before,
    remembered,
    remembered_of,
    withdraw_release,
    write_challenger,
    write_release,
)
from serving.sources import code

TOLERANCE = 1e-5  # float32 probabilities through JSON are exact; another machine's kernels differ by less than this
START_SECONDS = 120.0  # a start takes 7 s; a busy machine with two cores needs more
STOP_SECONDS = 20.0
Numbers = Callable[[Mapping[str, Any]], Mapping[str, float]]


class PackagingError(DermError):
    """A Bento could not be built, started or asked; the message holds the end of its log."""


@dataclass(frozen=True, slots=True)
class ReplayResult:
    """What the built service answered, against the evaluation.

    `worst` is the largest difference of any probability (infinite where an answer is missing), `failures` one
    sentence for each case that differs by more than `TOLERANCE` or was refused.
    """

    tag: str
    cases: int
    worst: float
    failures: tuple[str, ...]
    milliseconds: float  # median of one request, on loopback

    @property
    def passed(self) -> bool:
        return self.cases > 0 and not self.failures

    @property
    def message(self) -> str:
        if not self.cases:
            return "no image was replayed, so nothing is shown"
        if self.passed:
            return (
                f"{self.cases} images through {self.tag}: the same as evaluated (largest difference {self.worst:.1e})"
            )
        return f"{len(self.failures)} of {self.cases} images through {self.tag} differ; the first: {self.failures[0]}"


def build_bento(task: str, bundle: Path, mlflow_version: str = "unknown", index: Path | None = None) -> str:
    """Put a bundle, and its index of similar images if there is one, into the BentoML store and build the Bento of
    `task` around it; returns the tag `task:version`.

    Nothing is fetched. Labels name the chain: dataset md5, model version, git commit, MLflow version.
    Raises `BundleError` for a damaged bundle and `PackagingError` if BentoML fails.
    """
    opened = Bundle.open_trusted(bundle)
    labels = {
        "task": task,
        "model_version": opened.version,
        "dataset_md5": opened.card.dataset_md5,
        "git_commit": opened.card.git_commit,
        "mlflow_version": mlflow_version,
    }
    order = {"task": task, "bundle": str(bundle.resolve()), "labels": labels}
    if index is not None:
        order["index"] = str(index.resolve())
    done = subprocess.run(
        [sys.executable, "-m", "serving.build"],
        input=json.dumps(order),
        env={**os.environ, BENTOML_HOME: str(bento_home())},
        cwd=Path(__file__).parent.parent,  # where the package `serving` lies
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        raise PackagingError(f"the Bento of {task} could not be built: {_end(done.stderr)}")
    return done.stdout.strip().splitlines()[-1]


def replay(task: str, tag: str, cases: Iterable[Upload]) -> ReplayResult:
    """Start the built Bento for real on a free loopback port, send it the cases, compare, stop it.

    Raises `PackagingError` if it does not start or is not ready (a Bento without a verified model never is).
    """
    with running(task, tag) as port:
        return replayed(port, tag, cases, get_task(task).numbers)


def replayed(port: int, tag: str, cases: Iterable[Upload], numbers: Numbers = numbers_of) -> ReplayResult:
    """Send the cases to the service on a loopback port and hold the numbers of its answers against what is expected."""
    differences: list[float] = []
    failures: list[str] = []
    seconds: list[float] = []
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    for case in cases:
        start = time.perf_counter()
        status, answer = _post(connection, case)
        seconds.append(time.perf_counter() - start)
        difference = _difference(case.expected, numbers(answer) if status == 200 else {})
        differences.append(difference)
        if status != 200:
            failures.append(f"{case.id}: refused with {status}: {answer.get('error', 'no reason given')}")
        elif not difference <= TOLERANCE:
            failures.append(f"{case.id}: a probability differs by {difference:.2g}")
    connection.close()
    median = sorted(seconds)[len(seconds) // 2] * 1000 if seconds else math.nan
    return ReplayResult(tag, len(differences), max(differences, default=0.0), tuple(failures), median)


def release(task: str, tag: str, of: Mapping[str, str]) -> Path:
    """Make `tag`, built `of` a model, what `python -m serving TASK` serves, atomically; the file that says so."""
    return write_release(task, tag, of)


def name_challenger(task: str, tag: str | None) -> Path:
    """Let the running service of `task` ask this Bento too, unseen; None: nobody any more. The file that says so."""
    return write_challenger(task, tag)


def built_of(model_version: str, evaluation_sha256: str) -> dict[str, str]:
    """What a Bento is built of: model, evaluation that was replayed, and the code of the service."""
    return {"model_version": model_version, "evaluation_sha256": evaluation_sha256, "code": code()}


def released_of(task: str, of: Mapping[str, str]) -> str:
    """The Bento that was built and released of just this; empty if there is none in the store."""
    return released_before(task, **of)


def release_again(task: str, champion: Standing) -> str:
    """After a rollback: release the Bento that was last released of the champion's model. Returns a sentence.

    Where there is none, nothing stays released: what was, is of a model that is withdrawn.
    """
    tag = released_before(task, model_version=champion.model_version) if champion.model_version else ""
    if not tag:
        withdraw_release(task)
        wish = (
            f"materialise {task}/bento to build it" if champion.champion is not None else "nothing is served any more"
        )
        return f"no Bento of it was released before: {wish}; a running service stops answering"
    write_release(task, tag, remembered_of(task, tag))
    return f"{tag} is released again: a running service takes it, or says at /readyz that it must be restarted"


def bentos_shown(task: str) -> dict[str, dict[str, str]]:
    """Model version → the tags that say which Bento was made of it and whether it is the released one."""
    try:
        now = read_release(task)
    except NotReleased:
        now = ""
    found: dict[str, dict[str, str]] = {}
    for tag, model_version in reversed(remembered(task)):  # of several Bentos of one model the last released counts
        if found.get(model_version, {}).get("release") != "released":
            found[model_version] = {"bento": tag, "release": "released" if tag == now else "released before"}
    return found


def service_check(task: str, champion: Standing, repair: bool) -> Check:
    """Whether the released Bento is one of the champion, and still in the store."""
    try:
        tag = read_release(task)
    except NotReleased as error:
        return Check("service", champion.champion is None or not release_file(task).exists(), str(error))
    ours = in_store(tag) and remembered_of(task, tag).get("model_version") in (champion.model_version, None)
    if ours:
        return Check("service", True, f"{tag} is released")
    if repair:
        return Check("service", True, f"repaired: {release_again(task, champion)}")
    return Check("service", False, f"{tag} is released, which is not in the store or not of the champion")


@contextmanager
def running(task: str, tag: str) -> Iterator[int]:
    """The Bento served on 127.0.0.1, ready; yields the port. The server is gone at the end, whatever happens."""
    with tempfile.TemporaryDirectory(prefix="derm-serve-") as folder:
        port = _free_port()
        environment = serve_environment(Path(folder) / "home")
        environment.pop("DERM_TOKEN", None)  # loopback needs none, and this caller has none
        log = Path(folder) / "log"
        with log.open("w") as output:
            server = subprocess.Popen(
                serve_command(tag, "127.0.0.1", port),
                env=environment,
                cwd=folder,  # the Bento's own sources, not those beside us
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        try:
            _wait_until_ready(server, task, tag, port, log)
            yield port
        finally:
            _stop(server)


def _wait_until_ready(server: subprocess.Popen[bytes], task: str, tag: str, port: int, log: Path) -> None:
    deadline = time.monotonic() + START_SECONDS
    reason = "it did not answer"
    while time.monotonic() < deadline:
        if server.poll() is not None:
            reason = f"it ended with code {server.returncode}"
            break
        card = _card(port)
        if card and card.get("bento") != tag:  # another server took the port between our looking and its starting
            reason = f"port {port} answers as {card.get('bento')}"
            break
        if card and card.get("ready"):
            return
        if card:
            reason = "it has no verified model"
            break
        time.sleep(0.2)
    raise PackagingError(f"{tag} ({task}) does not serve: {reason}: {_end(log.read_text(errors='replace'))}")


def _card(port: int) -> dict[str, Any]:
    """What `GET /` says, or {} while nothing listens."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    try:
        connection.request("GET", "/")
        return json.loads(connection.getresponse().read(100_000))
    except (OSError, http.client.HTTPException, json.JSONDecodeError):
        return {}
    finally:
        connection.close()


def _post(connection: http.client.HTTPConnection, case: Upload) -> tuple[int, dict[str, Any]]:
    path = f"{case.path}?{urlencode(case.query)}" if case.query else case.path
    connection.request("POST", path, body=case.body, headers={"Content-Type": case.content_type})
    response = connection.getresponse()
    return response.status, json.loads(response.read(10_000_000))


def _difference(expected: Mapping[str, float], found: Mapping[str, float]) -> float:
    if not expected or expected.keys() != found.keys():
        return math.inf
    return max(abs(expected[label] - found[label]) for label in expected)


def _stop(server: subprocess.Popen[bytes]) -> None:
    """Ask the server to end; after `STOP_SECONDS` its whole process group is killed."""
    if server.poll() is None:
        server.terminate()
        try:
            server.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            os.killpg(server.pid, signal.SIGKILL)
            server.wait()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def _end(log: str) -> str:
    return "\n" + "\n".join(log.strip().splitlines()[-15:])
