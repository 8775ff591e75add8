"""Notices: what reaches people, through real servers, and that it names nobody."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from socketserver import StreamRequestHandler, ThreadingTCPServer

import dagster as dg
import pytest

from derm_assets.notice_channels import MAIL, SLACK, SMTP, USER, VARIABLES, WEBHOOK, NoticeError, channels
from derm_assets.notices import notices_sensor
from derm_ml.registry import get_task

pytestmark = pytest.mark.slow  # computes for long

TASK = get_task("lesion_classification")
SECRET_NAMES = ("Smith", "smith_1970.jpg", "ward7")


@contextmanager
def listening(server) -> Iterator[int]:
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield server.server_address[1]
    finally:
        server.shutdown()
        server.server_close()


class Hook:
    """A web server that answers as it is told and remembers what it got."""

    def __init__(self) -> None:
        self.answers, self.received = [], []
        hook = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                hook.received.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
                self.send_response(hook.answers.pop(0) if hook.answers else 200)
                self.end_headers()

            def log_message(self, *_: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)


@pytest.fixture
def hook(monkeypatch) -> Iterator[Hook]:
    made = Hook()
    for variable in VARIABLES:
        monkeypatch.delenv(variable, raising=False)
    with listening(made.server) as port:
        monkeypatch.setenv(WEBHOOK, f"http://127.0.0.1:{port}/x")
        yield made


@pytest.fixture
def look(instance):
    """One look of the sensor after another, the cursor handed on as the daemon does."""
    sensor, state = notices_sensor(), {"cursor": None}

    def once() -> str:
        with dg.build_sensor_context(instance, state["cursor"]) as context:
            result = sensor(context)
        state["cursor"] = result.cursor
        return result.skip_reason.skip_message

    return once


def fail(instance, step: str) -> None:
    """A run of the task whose step fails with a sentence that names a patient."""

    @dg.asset(name=step, key_prefix=TASK.name)
    def broken() -> None:
        raise dg.Failure(f"labels.csv:5: patient Smith, image smith_1970.jpg of {SECRET_NAMES[2]}")

    definitions = dg.Definitions(assets=[broken], executor=dg.in_process_executor)
    definitions.resolve_implicit_global_asset_job_def().execute_in_process(
        instance=instance, raise_on_error=False, tags={"task": TASK.name}
    )


def check_red(instance) -> None:
    @dg.asset(key_prefix=TASK.name)
    def dataset() -> None:
        pass

    @dg.asset_check(asset=dataset, blocking=True)
    def patients_do_not_cross_splits() -> dg.AssetCheckResult:
        return dg.AssetCheckResult(passed=False, description=f"{SECRET_NAMES[0]} is in train and test")

    definitions = dg.Definitions(
        assets=[dataset], asset_checks=[patients_do_not_cross_splits], executor=dg.in_process_executor
    )
    definitions.resolve_implicit_global_asset_job_def().execute_in_process(
        instance=instance, raise_on_error=False, tags={"task": TASK.name}
    )


def test_people_are_told_what_happened_and_what_to_do_and_nothing_of_anybody(hook, look, instance):
    """A failed night run was found on Monday; and a notice must not carry names out of the hospital."""
    look()
    fail(instance, "incoming_batch")
    fail(instance, "model")
    fail(instance, "promoted_model")
    check_red(instance)
    assert [look(), look()] == ["4 sent", "0 sent"]
    assert [n["kind"] for n in hook.received] == ["delivery_rejected", "run_failed", "promotion_refused", "red_check"]
    assert "correct it and move it back" in hook.received[0]["text"]
    assert "in the step model" in hook.received[1]["text"]
    assert "patients_do_not_cross_splits" in hook.received[3]["text"]
    assert all(n["link"].startswith("http://127.0.0.1:3001/runs/") for n in hook.received)
    assert not [name for name in SECRET_NAMES if name in json.dumps(hook.received)]


def test_a_channel_that_is_down_loses_nothing_and_holds_up_no_other(hook, look, instance, monkeypatch):
    second = Hook()
    with listening(second.server) as port:
        monkeypatch.setenv(SLACK, f"http://127.0.0.1:{port}/services/secret-path")
        look()
        fail(instance, "model")
        hook.answers = [503, 503]
        assert "answered 503" in look()
        assert "secret-path" not in look()
        assert look() == "1 sent"
    assert len(hook.received) == 3
    assert [set(n) for n in second.received] == [{"text"}], "Slack got it once, at the first look"


def test_what_ended_before_is_not_told(hook, look, instance):
    """Switching notices on would send the failures of a year."""
    fail(instance, "model")
    assert [look(), look()] == ["0 sent", "0 sent"]


def test_a_stale_champion_is_told_once(hook, look, monkeypatch, tmp_path):
    """A model of three years ago, of another camera, goes on answering while everybody thinks it is looked after."""
    monkeypatch.setenv("DERM_HOME", str(tmp_path))
    path = tmp_path / "ledger" / f"{TASK.name}.jsonl"
    path.parent.mkdir()
    old = {"at": "2023-01-01T00:00:00.000+00:00", "event": "promoted", "version": 7, "model_version": "m7"}
    path.write_text(json.dumps(old) + "\n")
    assert [look(), look()] == ["1 sent", "0 sent"]
    (notice,) = hook.received
    assert notice["kind"] == "champion_stale"
    assert "Version 7 has been champion since 2023-01-01" in notice["text"]


class Mailbox(ThreadingTCPServer):
    """A mail server without encryption, as far as smtplib speaks to it."""

    allow_reuse_address = True

    def __init__(self) -> None:
        self.said: list[str] = []
        super().__init__(("127.0.0.1", 0), _Mail)


class _Mail(StreamRequestHandler):
    def handle(self) -> None:
        self.wfile.write(b"220 here\r\n")
        for line in self.rfile:
            self.server.said.append(line.decode().strip())
            word = line[:4].upper()
            if word == b"DATA":
                self.wfile.write(b"354 go on\r\n")
                for text in self.rfile:
                    self.server.said.append(text.decode().strip())
                    if text.strip() == b".":
                        break
            self.wfile.write(b"221 bye\r\n" if word == b"QUIT" else b"250 ok\r\n")


def test_mail_is_sent_and_a_password_never_in_the_clear(hook, look, instance, monkeypatch):
    monkeypatch.delenv(WEBHOOK)
    with listening(box := Mailbox()) as port:
        monkeypatch.setenv(MAIL, "a@example.org, b@example.org")
        monkeypatch.setenv(SMTP, f"127.0.0.1:{port}")
        look()
        fail(instance, "model")
        monkeypatch.setenv(USER, "derm")
        assert "not sent in the clear" in look()
        assert not [line for line in box.said if line.startswith("AUTH")]
        monkeypatch.delenv(USER)
        assert look() == "1 sent"
    assert "Subject: derm: lesion_classification: a run failed" in box.said
    assert "rcpt TO:<b@example.org>" in box.said


@pytest.mark.parametrize(("variable", "value"), [(WEBHOOK, "hooks.example.org/x"), (SLACK, "file:///etc/passwd")])
def test_what_is_no_address_is_named_and_not_repeated(hook, monkeypatch, variable, value):
    monkeypatch.setenv(variable, value)
    with pytest.raises(NoticeError, match=variable) as said:
        channels()
    assert value not in str(said.value)


def test_nobody_is_told_by_default(monkeypatch):
    for variable in VARIABLES:
        monkeypatch.delenv(variable, raising=False)
    assert notices_sensor().default_status == dg.DefaultSensorStatus.STOPPED
    assert channels() == {}
    monkeypatch.setenv(WEBHOOK, "https://example.org")
    assert notices_sensor().default_status == dg.DefaultSensorStatus.RUNNING
