"""All released tasks in one process, the way a clinic runs it: `python -m serving`, and releases that come and go.

Two starts, three builds and a browser: about a minute.
"""

from __future__ import annotations

import json
import re
import subprocess
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from http.client import HTTPConnection
from pathlib import Path

import numpy as np
import onnx
import psutil
import pytest
from onnx import TensorProto, helper, numpy_helper
from PIL import Image
from starlette.testclient import TestClient

from derm_assets.packaging import build_bento
from derm_ml.bundles.bundle import MODEL, read_card, seal
from derm_ml.registry import all_tasks
from serving.factory import make_suite
from serving.released import release_file, withdraw_release, write_challenger, write_release

pytestmark = pytest.mark.slow

LESIONS, EYES, MASKS = "lesion_classification", "retinal_findings", "lesion_segmentation"
RAW = {"Content-Type": "application/octet-stream"}
WEIGHT = 64  # MB of one of the models: what stays behind of it is seen


@dataclass
class Served:
    """A running suite that keeps one model, and the Bentos by name."""

    port: int
    process: subprocess.Popen[bytes]
    tags: dict[str, str]
    log: Path


def release(served: Served, *names: str) -> None:
    for name in names:
        write_release(served.tags[name].partition(":")[0], served.tags[name], {})


@pytest.fixture(scope="module")
def suite(python_m_serving, write_bundle, write_segmenter, tmp_path_factory) -> Iterator[Served]:
    home = tmp_path_factory.mktemp("home")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DERM_HOME", str(home))
        patch.setenv("BENTOML_HOME", str(home / "bentoml"))
        patch.setenv("DERM_LOG", "json")
        patch.delenv("DERM_TOKEN", raising=False)
        made = {
            "lesions": (LESIONS, weighty(write_bundle(home / "lesions"))),
            "others": (LESIONS, write_bundle(home / "others", 3.0)),
            "masks": (MASKS, write_segmenter(home / "masks")),
        }
        tags = {name: build_bento(task, bundle) for name, (task, bundle) in made.items()}
        for name in ("lesions", "masks"):
            write_release(made[name][0], tags[name], {})
        log = home / "log"
        with python_m_serving(log, DERM_SUITE_MODELS="1") as (port, process):
            yield Served(port, process, tags, log)


def weighty(bundle: Path) -> Path:
    """The same model with `WEIGHT` MB more, which it reads one row of and takes nothing from."""
    model = onnx.load(bundle / MODEL)
    last = next(node for node in model.graph.node if "logits" in node.output)
    last.output[list(last.output).index("logits")] = "light"
    rows = np.full((WEIGHT * 2**20 // 256, 64), 0.5, np.float32)
    model.graph.initializer.extend(
        [numpy_helper.from_array(rows, "rows"), numpy_helper.from_array(np.float32(0), "nothing")]
    )
    node = helper.make_node
    model.graph.node.extend(
        [
            node("Cast", ["image"], ["weighed"], to=TensorProto.FLOAT),
            node("ReduceMax", ["weighed"], ["brightest"], keepdims=0),
            node("Mul", ["brightest", "nothing"], ["zero"]),
            node("Cast", ["zero"], ["first"], to=TensorProto.INT64),
            node("Gather", ["rows", "first"], ["row"]),
            node("ReduceSum", ["row"], ["sum"], keepdims=0),
            node("Mul", ["sum", "nothing"], ["none"]),
            node("Add", ["light", "none"], ["logits"]),
        ]
    )
    onnx.save(model, bundle / MODEL)
    seal(bundle, read_card(bundle))
    return bundle


def memory(served: Served) -> float:
    """MB of the process that holds the models."""
    every = [psutil.Process(served.process.pid), *psutil.Process(served.process.pid).children(recursive=True)]
    return max(process.memory_info().rss for process in every) / 2**20


def wait_until(true, process=None, log: Path | None = None, seconds: float = 120) -> None:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if true():
            return
        assert process is None or process.poll() is None, log and log.read_text()
        time.sleep(0.05)
    raise AssertionError(log.read_text() if log else "it did not come true")


def ask(served: Served, method: str, path: str, body: bytes | None = None, **headers: str) -> tuple[int, str]:
    connection = HTTPConnection("127.0.0.1", served.port, timeout=60)
    try:
        connection.request(method, path, body=body, headers={**(RAW if body else {}), **headers})
        response = connection.getresponse()
        return response.status, response.read().decode()
    except OSError:
        return 0, ""
    finally:
        connection.close()


def states(served: Served) -> dict[str, str]:
    return {task["task"]: task["state"] for task in json.loads(ask(served, "GET", "/")[1])["tasks"]}


def test_each_task_is_asked_below_its_name_and_one_without_a_release_says_how_to_get_one(suite, encode):
    card = json.loads(ask(suite, "GET", "/")[1])
    found = {task["task"]: task for task in card["tasks"]}
    assert found.keys() == all_tasks().keys(), "a task that is not released is listed, too"
    assert found[EYES]["state"] == "not_released"
    assert f"make train TASK={EYES}" in found[EYES]["why"]
    status, said = ask(suite, "POST", f"/{EYES}/predict", encode("JPEG"))
    assert (status, f"make train TASK={EYES}" in said) == (503, True)
    assert ask(suite, "GET", f"/{EYES}/readyz")[0] == 503
    for task, name in ((LESIONS, "lesions"), (MASKS, "masks")):
        status, said = ask(suite, "POST", f"/{task}/predict", encode("JPEG"))
        assert (status, json.loads(said)["bento"]) == (200, suite.tags[name])
        assert json.loads(ask(suite, "GET", f"/{task}/")[1])["bento"] == suite.tags[name]
        for probe in ("livez", "healthz", "readyz"):
            assert ask(suite, "GET", f"/{task}/{probe}")[0] == 200
    assert ask(suite, "POST", f"/{LESIONS}/match", encode("JPEG"))[0] == 404
    assert ask(suite, "POST", "/predict", encode("JPEG"))[0] == 404


def test_the_model_asked_longest_ago_is_let_go_and_loaded_again_and_nobody_notices(suite, encode):
    """One place for two tasks that are asked at the same time: what is let go must not cost anybody an answer."""
    body, wrong = encode("JPEG"), []

    def hammer(task: str, tag: str) -> None:
        for _ in range(15):
            status, said = ask(suite, "POST", f"/{task}/predict", body)
            if status != 200 or json.loads(said)["bento"] != tag:
                wrong.append(said)

    for task, name in ((LESIONS, "lesions"), (MASKS, "masks")):
        hammer(task, suite.tags[name])
        assert [name for name, state in states(suite).items() if state == "loaded"] == [task]
    clients = [
        threading.Thread(target=hammer, args=(task, suite.tags[name]))
        for task, name in ((LESIONS, "lesions"), (MASKS, "masks"), (LESIONS, "lesions"))
    ]
    for client in clients:
        client.start()
    for client in clients:
        client.join(120)
    assert wrong == []
    assert list(states(suite).values()).count("loaded") == 1
    let_go = re.search(rf'derm_suite_releases_total{{outcome="let_go",task="{LESIONS}"}} (\d+)', metrics(suite))
    assert let_go
    assert int(let_go[1]) >= 1


def test_the_memory_of_a_model_that_is_let_go_is_given_back(suite, encode):
    """A clinic's one machine runs for weeks: what each load leaves behind ends it some night."""
    body, found = encode("JPEG"), []
    for _ in range(6):
        for task in (LESIONS, MASKS):
            assert ask(suite, "POST", f"/{task}/predict", body)[0] == 200
        found.append(memory(suite))
    assert max(found[1:]) - found[0] < WEIGHT / 2, found
    assert ask(suite, "POST", f"/{LESIONS}/predict", body)[0] == 200
    assert memory(suite) - found[-1] > WEIGHT / 2, "the weight of the model is seen in this measure"


def test_a_challenger_is_asked_while_there_is_a_place_for_it_and_is_the_first_to_go(
    python_m_serving, suite, encode, tmp_path
):
    """A trial must not cost another task its answer, nor the machine more memory than it was given."""
    body = encode("JPEG")

    def compared(two: Served) -> float:
        counts = re.findall(
            rf'derm_suite_shadow_total{{outcome="(?:same|other)_decision",task="{LESIONS}"}} (.+)', metrics(two)
        )
        return sum(map(float, counts))

    def asked(two: Served, task: str, times: int) -> None:
        for _ in range(times):
            assert ask(two, "POST", f"/{task}/predict", body)[0] == 200
            time.sleep(0.1)  # it is asked after the answer, while nobody waits

    release(suite, "lesions")
    write_challenger(LESIONS, suite.tags["others"])
    try:
        with python_m_serving(tmp_path / "log", DERM_SUITE_MODELS="2") as (port, process):
            two = Served(port, process, suite.tags, tmp_path / "log")
            asked(two, LESIONS, 1)
            wait_until(lambda: asked(two, LESIONS, 1) or compared(two) > 0, two.process, two.log)
            asked(two, MASKS, 1)
            assert sorted(states(two).values()).count("loaded") == 2, "the challenger went, no model did"
            before = compared(two)
            asked(two, LESIONS, 5)
            time.sleep(2.5)  # two looks at who is named
            asked(two, LESIONS, 5)
            assert compared(two) == before
    finally:
        write_challenger(LESIONS, None)


def test_a_model_is_not_let_go_while_somebody_is_asking_it(suite, encode):
    """A photo that arrives slowly must be answered by the model that was there when it began to arrive."""
    body = encode("PNG")
    slow = HTTPConnection("127.0.0.1", suite.port, timeout=60)
    slow.putrequest("POST", f"/{LESIONS}/predict")
    slow.putheader("Content-Type", "image/png")
    slow.putheader("Content-Length", str(len(body)))
    slow.endheaders()
    slow.send(body[:100])
    wait_until(lambda: states(suite)[LESIONS] == "loaded", suite.process)
    assert ask(suite, "POST", f"/{MASKS}/predict", body)[0] == 200
    assert states(suite)[LESIONS] == "loaded"
    slow.send(body[100:])
    answered = slow.getresponse()
    assert (answered.status, json.loads(answered.read())["bento"]) == (200, suite.tags["lesions"])
    slow.close()
    wait_until(lambda: list(states(suite).values()).count("loaded") == 1, suite.process)


def metrics(served: Served) -> str:
    return ask(served, "GET", "/metrics")[1]


def test_a_release_is_followed_whether_its_model_is_loaded_or_not(suite, encode):
    def answers(name: str) -> bool:
        status, said = ask(suite, "POST", f"/{LESIONS}/predict", encode("JPEG"))
        assert status == 200, said
        return json.loads(said)["bento"] == suite.tags[name]

    assert answers("lesions")
    release(suite, "others")
    wait_until(lambda: answers("others"), suite.process)
    assert f'derm_suite_releases_total{{outcome="switched",task="{LESIONS}"}} 1.0' in metrics(suite)
    assert ask(suite, "POST", f"/{MASKS}/predict", encode("JPEG"))[0] == 200  # lets the other go
    release(suite, "lesions")
    assert answers("lesions"), "the first question after a release is answered by what is released"


def test_a_bad_release_met_while_its_task_sleeps_leaves_the_model_before_in_its_place(suite, encode):
    """Only the memory bound made the earlier model go: it must not be the reason why nobody gets an answer."""
    assert ask(suite, "POST", f"/{LESIONS}/predict", encode("JPEG"))[0] == 200
    assert ask(suite, "POST", f"/{MASKS}/predict", encode("JPEG"))[0] == 200
    release_file(LESIONS).write_text(json.dumps({"task": LESIONS, "bento": f"{LESIONS}:nothing"}))
    status, said = ask(suite, "POST", f"/{LESIONS}/predict", encode("JPEG"))
    assert (status, json.loads(said).get("bento")) == (200, suite.tags["lesions"])
    assert "refused" in json.loads(ask(suite, "GET", f"/{LESIONS}/readyz")[1])["release"]
    assert "refused" in json.loads(ask(suite, "GET", "/readyz")[1])["release"]
    release(suite, "lesions")
    wait_until(lambda: "refused" not in ask(suite, "GET", "/readyz")[1], suite.process)


def test_a_withdrawn_task_answers_nobody_and_the_others_go_on(suite, encode):
    assert ask(suite, "POST", f"/{MASKS}/predict", encode("JPEG"))[0] == 200
    withdraw_release(LESIONS)
    assert ask(suite, "POST", f"/{LESIONS}/predict", encode("JPEG"))[0] == 503
    assert states(suite)[LESIONS] == "withdrawn"
    assert ask(suite, "POST", f"/{MASKS}/predict", encode("JPEG"))[0] == 200
    assert ask(suite, "GET", "/readyz")[0] == 200
    release(suite, "lesions")
    assert ask(suite, "POST", f"/{LESIONS}/predict", encode("JPEG"))[0] == 200


def test_the_guard_and_the_counts_are_those_of_a_service(suite, encode):
    """A page on a name of its own must not reach the suite by a longer path, and a refusal is counted by its task."""
    assert ask(suite, "GET", f"/{LESIONS}/", Host="evil.example")[0] == 421
    status, said = ask(suite, "POST", f"/{MASKS}/predict", b"no image")
    assert (status, "error" in json.loads(said)) == (400, True)
    assert ask(suite, "GET", f"/{LESIONS}/jane_doe")[0] == 404
    counted = metrics(suite)
    assert f'derm_suite_refusals_total{{reason="unusable_request",status="400",task="{MASKS}"}}' in counted
    assert f'endpoint="/{LESIONS}/predict"' in counted
    assert "jane_doe" not in counted
    assert ask(suite, "GET", f"/{LESIONS}/metrics")[0] == 200
    status, said = ask(suite, "GET", f"/{LESIONS}")
    assert status == 308


def test_one_description_holds_every_path_of_every_task(suite):
    described = json.loads(ask(suite, "GET", "/openapi.json")[1])
    for name, task in all_tasks().items():
        assert f"/{name}{task.asking.path}" in described["paths"]
    named = re.findall(r'"#/components/schemas/(\w+)"', json.dumps(described))
    assert set(named) <= described["components"]["schemas"].keys()
    ids = [asked["operationId"] for methods in described["paths"].values() for asked in methods.values()]
    assert len(ids) == len(set(ids))
    assert ask(suite, "GET", "/docs")[0] == 200


def test_with_a_token_nothing_but_the_page_is_given_to_a_stranger(tmp_path, monkeypatch):
    """Below a task's name lies the same as in its own service, so the same must be closed."""
    token = "a token of at least thirty-two characters"
    monkeypatch.setenv("DERM_HOME", str(tmp_path))
    monkeypatch.setenv("DERM_TOKEN", token)
    with TestClient(make_suite(all_tasks(), name="suite_token").to_asgi(), base_url="http://127.0.0.1:3000") as client:
        for start in ("", f"/{LESIONS}"):
            assert client.get(f"{start}/", headers={"Accept": "text/html"}).status_code == 200
            assert client.get(f"{start}/page/app.js").status_code == 200
            assert client.get(f"{start}/readyz").status_code == 503
            for path in ("/", "/docs", "/openapi.json"):
                assert client.get(start + path).status_code == 401
                assert client.get(start + path, headers={"Authorization": f"Bearer {token}"}).status_code == 200
            assert client.get(f"{start}/metrics").status_code == 401
        assert client.post(f"/{LESIONS}/predict", content=b"").status_code == 401


def test_a_task_is_chosen_and_asked_in_the_page_by_keyboard(suite, browser, axe, picture, tmp_path):
    Image.fromarray(picture).save(tmp_path / "one.png")
    wrong = []
    page = browser.new_page()
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.on("console", lambda said: wrong.append(said.text) if "Content Security Policy" in said.text else None)
    page.goto(f"http://127.0.0.1:{suite.port}/")
    page.wait_for_selector("#tasks:not([hidden])")
    assert f"make train TASK={EYES}" in page.inner_text("#tasks")
    assert not axe(page)
    for task, name, shown in ((MASKS, "masks", "of the image"), (LESIONS, "lesions", "Melanoma")):
        page.focus(f"[data-task={task}]")
        page.keyboard.press("Enter")
        page.wait_for_selector(f"[data-task={task}][aria-pressed=true]")
        page.wait_for_selector(f"#about-facts:has-text('{suite.tags[name]}')")
        page.set_input_files("#file-image", tmp_path / "one.png")
        page.click("#analyse")
        page.wait_for_selector("#result:not([hidden])")
        assert shown in page.inner_text("#result")
        assert page.evaluate("document.activeElement.id") == "result"
    assert not axe(page)
    page.go_back()
    page.wait_for_selector(f"[data-task={MASKS}][aria-pressed=true]")
    assert page.is_hidden("#result"), "an answer of one task must not stand below the name of another"
    page.goto(f"http://127.0.0.1:{suite.port}/{MASKS}/")  # the task's own page, as its own service has it
    page.wait_for_selector("#question:not([hidden])")
    page.close()
    assert not wrong
