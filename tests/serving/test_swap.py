"""A release, and a rollback, under load: served without a restart, without a failed request, or refused.

The way an operator does it: `python -m serving TASK` runs, and the release file changes. Under a minute: three builds
and one start.
"""

from __future__ import annotations

import itertools
import json
import os
import re
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.client import HTTPConnection
from pathlib import Path

import httpx
import numpy as np
import pytest
import yaml

from derm_assets.packaging import build_bento
from derm_ml.answered.journal import CHALLENGER
from derm_ml.answered.table import records_below
from derm_ml.bundles.classifier import Classifier
from derm_ml.images.decode import decode
from derm_ml.promotion.trial import Trial
from serving.released import bento_folder, bento_home, release_file, withdraw_release, write_challenger, write_release

pytestmark = pytest.mark.slow

TASK = "lesion_classification"
ROOT = Path(__file__).parents[2]
RAW = {"Content-Type": "application/octet-stream"}
SWAPS = 20


@dataclass
class Served:
    """A running service and the Bentos it can be switched between: tag → probabilities of the test's image."""

    port: int
    process: subprocess.Popen[bytes]
    golden: dict[str, dict[str, float]] = field(default_factory=dict)
    log: Path = Path()

    @property
    def tags(self) -> list[str]:
        return list(self.golden)


@pytest.fixture(scope="module")
def served(python_m_serving, write_bundle, encode, tmp_path_factory) -> Iterator[Served]:
    """`python -m serving` with the first of three models, each another answer."""
    home = tmp_path_factory.mktemp("home")
    body = encode("JPEG")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DERM_HOME", str(home))
        patch.setenv("BENTOML_HOME", str(home / "bentoml"))
        patch.setenv("DERM_LOG", "json")
        patch.setenv("DERM_RECORDS", str(home / "answered"))
        patch.delenv("DERM_TOKEN", raising=False)
        golden = {}
        for scale in (6.0, 3.0, 1.0):
            bundle = write_bundle(home / f"bundle-{scale}", scale)
            predictor = Classifier(bundle)
            said = predictor([decode(body)]).probabilities[0]
            golden[build_bento(TASK, bundle)] = dict(zip(predictor.labels, map(float, said), strict=True))
        write_release(TASK, next(iter(golden)), {})
        log = home / "log"
        with python_m_serving(log, TASK) as (port, process):
            yield Served(port, process, golden, log)


def wait_until(true, process=None, seconds: float = 120) -> None:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if true():
            return
        assert process is None or process.poll() is None, "the server ended"
        time.sleep(0.05)
    raise AssertionError("it did not come true")


def ask(port: int, method: str, path: str, body: bytes | None = None) -> tuple[int, str]:
    connection = HTTPConnection("127.0.0.1", port, timeout=60)
    try:
        connection.request(method, path, body=body, headers=RAW if body else {})
        response = connection.getresponse()
        return response.status, response.read().decode()
    except OSError:
        return 0, ""
    finally:
        connection.close()


def answering(served: Served) -> str:
    """The Bento that answers now."""
    return json.loads(ask(served.port, "GET", "/")[1])["bento"]


def released(served: Served, tag: str) -> None:
    """Release a Bento and wait until it answers and nothing is said against it."""
    write_release(TASK, tag, {})
    served_now = {"ready": True, "release": "served"}
    wait_until(
        lambda: answering(served) == tag and json.loads(ask(served.port, "GET", "/readyz")[1]) == served_now,
        served.process,
    )


def test_no_request_fails_while_models_are_exchanged_and_each_answer_is_that_of_its_version(served, encode):
    """A clinic asks on while somebody promotes: no answer may be lost, or be of one model under another's name."""
    body, stop, wrong, answers = encode("JPEG"), threading.Event(), [], []

    def hammer() -> None:
        connection = HTTPConnection("127.0.0.1", served.port, timeout=60)
        while not stop.is_set():
            connection.request("POST", "/predict", body=body, headers=RAW)
            response = connection.getresponse()
            text = response.read().decode()
            said = json.loads(text)
            expected = served.golden.get(said.get("bento", ""), {})
            if response.status != 200 or said["probabilities"] != pytest.approx(expected, abs=1e-7):
                wrong.append(text)
            answers.append(said.get("bento"))
        connection.close()

    clients = [threading.Thread(target=hammer) for _ in range(3)]
    for client in clients:
        client.start()
    first, second, _ = served.tags
    for number in range(SWAPS):
        released(served, second if number % 2 == 0 else first)
    stop.set()
    for client in clients:
        client.join(60)
    assert wrong == []
    assert {first, second} == set(answers)
    changes = sum(a != b for a, b in itertools.pairwise(answers))
    assert changes >= SWAPS
    assert f'derm_{TASK}_releases_total{{outcome="switched"}} {SWAPS}.0' in ask(served.port, "GET", "/metrics")[1]


def test_a_rollback_gives_the_earlier_answers_to_the_byte(served, encode):
    """Whoever goes back wants what was there before, not something like it."""
    first, second, _ = served.tags
    released(served, first)
    before = said(served, encode("JPEG"))
    released(served, second)
    assert said(served, encode("JPEG")) != before
    released(served, first)
    assert said(served, encode("JPEG")) == before


def said(served: Served, body: bytes) -> str:
    answer = json.loads(ask(served.port, "POST", "/predict", body)[1])
    answer.pop("prediction_id")
    return json.dumps(answer)


def stored_model(tag: str) -> Path:
    """Where the model of a Bento lies; BentoML itself knows one store in one process, that of the test before."""
    built = yaml.safe_load((bento_folder(tag) / "bento.yaml").read_text())
    return bento_home() / "models" / built["args"]["model"].replace(":", "/")


def spoil_model(folder: Path) -> None:
    graph = folder / "bundle" / "model.onnx"
    graph.write_bytes(graph.read_bytes()[:-1] + b"\x00")


def spoil_golden(folder: Path) -> None:
    path = folder / "golden.json"
    stored = json.loads(path.read_text())
    stored["cases"][0]["numbers"]["nevus"] += 1e-3
    path.write_text(json.dumps(stored))


def no_golden(folder: Path) -> None:
    (folder / "golden.json").unlink()


@pytest.mark.parametrize("spoil", [spoil_golden, no_golden, spoil_model])
def test_a_bad_release_is_refused_and_the_model_before_goes_on(served, encode, spoil):
    """A damaged file, or a model that answers otherwise here than where it was built, must not reach a patient."""
    first, _, third = served.tags
    released(served, first)
    before = said(served, encode("JPEG"))
    spoil(stored_model(third))
    write_release(TASK, third, {})
    wait_until(lambda: "refused" in ask(served.port, "GET", "/readyz")[1], served.process)
    assert ask(served.port, "GET", "/readyz")[0] == 200  # it still answers, as before
    assert said(served, encode("JPEG")) == before
    assert 'outcome="refused"' in ask(served.port, "GET", "/metrics")[1]
    released(served, first)


@pytest.mark.parametrize("content", ["{", json.dumps({"task": TASK, "bento": f"{TASK}:nothing"})])
def test_a_release_that_names_nothing_is_refused_too(served, content):
    released(served, served.tags[0])
    release_file(TASK).write_text(content)
    wait_until(lambda: "refused" in ask(served.port, "GET", "/readyz")[1], served.process)
    assert answering(served) == served.tags[0]
    released(served, served.tags[0])


def test_a_withdrawn_model_answers_nobody_until_another_is_released(served, encode):
    """A rollback to nothing: a model somebody withdrew for its errors must not go on until the next restart."""
    released(served, served.tags[0])
    withdraw_release(TASK)
    wait_until(lambda: ask(served.port, "GET", "/readyz")[0] == 503, served.process)
    status, said = ask(served.port, "POST", "/predict", encode("JPEG"))
    assert (status, "was withdrawn" in said) == (503, True)
    assert ask(served.port, "GET", "/livez")[0] == 200
    assert 'outcome="withdrawn"' in ask(served.port, "GET", "/metrics")[1]
    released(served, served.tags[0])
    assert ask(served.port, "POST", "/predict", encode("JPEG"))[0] == 200


def test_a_challenger_that_is_named_while_the_service_runs_answers_unseen_and_is_judged(served, encode, picture):
    """Before anybody promotes it, it is seen on the images of the day, which no test set holds; labels come later."""
    first, second, _ = served.tags  # the third is spoilt by now
    released(served, first)
    write_challenger(TASK, second)
    wait_until(lambda: f"the challenger {second} is asked" in served.log.read_text(), served.process)
    labels, records = ["prediction_id,label"], served.log.parent / "answered"

    def unseen() -> int:
        return int((records_below(records)["role"] == CHALLENGER).sum())

    for number in range(9):
        turned = np.roll(picture, number, axis=1)
        answer = json.loads(ask(served.port, "POST", "/predict", encode("PNG", rgb=turned))[1])
        assert answer["bento"] == first
        wait_until(lambda told=number: unseen() == told + 1, served.process)
        labels.append(f"{answer['prediction_id']},{('melanoma', 'nevus', 'seborrheic_keratosis')[number % 3]}")
    table = records_below(records)
    hidden = table.loc[table["role"] == CHALLENGER].set_index("prediction_id")
    sent = table.loc[table["role"] == "served"].set_index("prediction_id").loc[hidden.index]
    assert set(hidden["bento"]) == {second}
    assert set(sent["bento"]) == {first}
    assert (hidden["images"].map(list) == sent["images"].map(list)).all()
    assert not np.allclose(hidden["score.melanoma"], sent["score.melanoma"])
    metrics = ask(served.port, "GET", "/metrics")[1]
    assert re.search(rf'derm_{TASK}_shadow_total{{outcome="(same|other)_decision"}} [1-9]', metrics)
    assert f'derm_{TASK}_shadow_difference_count{{challenger="' in metrics

    path = served.log.with_name("labels.csv")
    path.write_text("\n".join(labels))
    own = {"DERM_OUT": str(served.log.with_name("out")), "COLUMNS": "200"}
    command = [sys.executable, "-m", "derm_ml.cli", "trial", TASK, "--labels", str(path)]
    done = subprocess.run(command, env=os.environ | own, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "9 images were answered by both" in done.stderr
    assert "9 are compared" in done.stderr
    assert re.search(r"mean AUC \d\.\d{3} against the champion's \d\.\d{3} on the same 9 images", done.stdout)
    (kept,) = (served.log.with_name("out") / TASK / "trials").iterdir()
    assert Trial.read(kept).challenger == hidden["model_version"].iloc[0]

    write_challenger(TASK, None)
    wait_until(lambda: "no challenger is asked any more" in served.log.read_text(), served.process)


def test_a_batch_is_asked_unseen_too_and_what_cannot_be_asked_costs_nobody_an_answer(served, encode, picture):
    first, second, _ = served.tags  # the third is spoilt by now
    released(served, first)
    begin = len(served.log.read_text())

    def logged(sentence: str) -> bool:
        return sentence in served.log.read_text()[begin:]

    write_challenger(TASK, f"{TASK}:isnothere")
    wait_until(lambda: logged(f"the challenger {TASK}:isnothere is not asked"), served.process)
    assert ask(served.port, "POST", "/predict", encode("JPEG"))[0] == 200
    write_challenger(TASK, second)
    wait_until(lambda: logged(f"the challenger {second} is asked"), served.process)
    bodies = [encode("PNG", rgb=np.roll(picture, n, axis=1)) for n in (3, 5)]
    form = [("image", (f"{n}.png", body, "image/png")) for n, body in enumerate(bodies)]

    def is_asked_unseen() -> bool:
        """Of one batch. A batch at a busy moment is skipped, as it may be: then another one is sent."""
        answer = httpx.post(f"http://127.0.0.1:{served.port}/predict", files=form, timeout=60).json()
        told, deadline = [result["answer"]["prediction_id"] for result in answer["results"]], time.monotonic() + 10
        while time.monotonic() < deadline:
            table = records_below(served.log.parent / "answered")
            hidden = table.loc[(table["role"] == CHALLENGER) & table["prediction_id"].isin(told)]
            if hidden["prediction_id"].tolist() == told:
                return True
            time.sleep(0.05)
        return False

    wait_until(is_asked_unseen, served.process)
    write_challenger(TASK, None)
    wait_until(lambda: logged("no challenger is asked any more"), served.process)


def test_a_second_start_on_the_same_port_leaves_the_first_alone(served, encode):
    """It emptied the metrics of the service that was running, and then ended with a traceback."""
    ask(served.port, "POST", "/predict", encode("JPEG"))
    counted = f"derm_{TASK}_request_total"
    before = [line for line in ask(served.port, "GET", "/metrics")[1].splitlines() if line.startswith(counted)]
    second = subprocess.run(
        [sys.executable, "-m", "serving", TASK, "--port", str(served.port)],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert second.returncode == 2
    assert "already in use; choose another --port" in second.stderr
    assert second.stderr.count("\n") == 1
    after = [line for line in ask(served.port, "GET", "/metrics")[1].splitlines() if line.startswith(counted)]
    assert before
    assert {line.partition(" ")[0] for line in before} <= {line.partition(" ")[0] for line in after}


def test_the_log_is_json_and_finds_a_request_by_its_id(served, encode):
    """A line that no machine reads is a line nobody finds among a million."""
    trace = "4bf92f3577b34da6a3ce929d0e0e4736"
    connection = HTTPConnection("127.0.0.1", served.port, timeout=60)
    headers = {**RAW, "traceparent": f"00-{trace}-00f067aa0ba902b7-01", "X-File": "jane_doe.jpg"}
    connection.request("POST", "/predict", body=encode("JPEG"), headers=headers)
    prediction = json.loads(connection.getresponse().read())["prediction_id"]
    connection.request("POST", "/predict", body=b"jane_doe", headers=headers)
    assert connection.getresponse().status == 400
    connection.close()

    def ours() -> list[dict]:
        whole = served.log.read_text().rpartition("\n")[0].splitlines()  # the last line may be half written
        lines = [json.loads(line) for line in whole if line.startswith("{")]
        return [line for line in lines if line.get("request_id") == trace]

    # a request's own line is written after its answer was sent
    wait_until(lambda: any("status=400" in line["message"] for line in ours()), served.process)
    assert any(prediction in line["message"] for line in ours())
    assert any("status=400" in line["message"] and line["refused"] == "unusable_request" for line in ours())
    assert "jane_doe" not in served.log.read_text()


def test_scores_and_versions_are_in_the_metrics(served, encode):
    """Drift shows in the scores of a version before anybody measures it."""
    version = json.loads(ask(served.port, "GET", "/")[1])["model_version"]
    unusable = {"reason": "unusable_request", "status": "400"}

    def counted(name: str, **labels: str) -> float:
        named = ",".join(f'{key}="{labels[key]}"' for key in sorted(labels))
        wanted = f"derm_{TASK}_{name}{{{named}}} "
        lines = [line for line in metrics.splitlines() if line.startswith(wanted)]
        return float(lines[0].removeprefix(wanted)) if lines else 0.0

    found = []
    for n in range(2):
        if n:
            answers = [json.loads(ask(served.port, "POST", "/predict", encode("JPEG", quality=q))[1]) for q in (20, 95)]
            assert ask(served.port, "POST", "/predict", b"no image")[0] == 400
        metrics = ask(served.port, "GET", "/metrics")[1]
        at = {"model_version": version}
        found.append(
            {(part, label, le): counted(f"score_{part}", label=label, **at, **({"le": le} if le else {}))
             for label in served.golden[served.tags[0]]
             for part, le in (("count", ""), ("sum", ""), *(("bucket", b) for b in ("0.25", "0.5", "0.75", "1.0")))}
            | {("refusals", "", ""): counted("refusals_total", **unusable)}
        )  # fmt: skip
    gained = {key: found[1][key] - found[0][key] for key in found[0]}
    assert gained.pop(("refusals", "", "")) == 1
    for (part, label, le), n in gained.items():
        said = [answer["probabilities"][label] for answer in answers]
        wanted = {"count": 2, "sum": sum(said), "bucket": sum(p <= float(le or 1) for p in said)}[part]
        assert n == pytest.approx(wanted), (part, label, le)
    build = [line for line in metrics.splitlines() if line.startswith(f"derm_{TASK}_build_info{{")]
    assert [line for line in build if line.endswith(" 1.0") and f'bento="{answering(served)}"' in line]
    assert sum(line.endswith(" 1.0") for line in build) == 1
