"""What `python -m serving` says to somebody who asks for what cannot be served: one sentence, exit code 2."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from derm_ml.registry import all_tasks
from serving.launch import CannotServe, own_folder, refuse_used_port
from serving.released import bento_folder, write_release

pytestmark = pytest.mark.slow

TASK = "lesion_classification"
ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("DERM_HOME", str(tmp_path))
    for name in ("BENTOML_HOME", "DERM_TOKEN", "DERM_TOKENS_FILE"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path


def start(*arguments: str, **environment: str) -> str:
    """What it says on stderr, without argparse's usage line."""
    ended = subprocess.run(
        [sys.executable, "-m", "serving", *arguments],
        cwd=ROOT, env={**os.environ, **environment}, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert ended.returncode == 2, ended.stderr
    said = [line for line in ended.stderr.splitlines() if not line.startswith(("usage:", " "))]
    assert len(said) == 1, ended.stderr
    return said[0]


def test_a_port_that_does_not_exist():
    assert "ports are whole numbers from 1 to 65535" in start(TASK, "--port", "99999")


def test_a_task_that_does_not_exist_names_those_that_do():
    said = start("lesions")
    assert all(task in said for task in all_tasks())


def test_a_release_whose_bento_is_gone():
    write_release(TASK, f"{TASK}:gone", {})
    assert f"{TASK}:gone is not in the store" in start(TASK)


def test_an_execution_provider_that_is_not_there():
    """Before a port is opened: a service that answers nobody would look like one that is starting."""
    write_release(TASK, f"{TASK}:there", {})
    bento_folder(f"{TASK}:there").mkdir(parents=True)
    (bento_folder(f"{TASK}:there") / "bento.yaml").touch()
    assert "DERM_PROVIDER=abacus: the installed ONNX Runtime has cpu" in start(TASK, DERM_PROVIDER="abacus")


def test_a_suite_with_what_is_of_one_task_or_a_bound_that_is_none():
    assert "name the task too" in start("--shadow", f"{TASK}:there")
    assert "DERM_SUITE_MODELS is 'many'" in start(DERM_SUITE_MODELS="many")
    assert "DERM_SUITE_MODELS is '0'" in start(DERM_SUITE_MODELS="0")


def test_an_open_address_without_a_token_and_a_token_that_can_be_guessed():
    write_release(TASK, f"{TASK}:there", {})
    bento_folder(f"{TASK}:there").mkdir(parents=True)
    (bento_folder(f"{TASK}:there") / "bento.yaml").touch()
    assert "without a token" in start(TASK, "--host", "0.0.0.0")
    assert "without a token" in start("--host", "0.0.0.0")
    assert "at least 32 are needed" in start(TASK, "--host", "0.0.0.0", DERM_TOKEN="short")
    assert "is no IP address" in start(TASK, "--host", "example.org", DERM_TOKEN="x" * 32)


def test_a_port_in_use_is_noticed_before_anything_is_touched():
    import socket

    with socket.socket() as first:
        first.bind(("127.0.0.1", 0))
        first.listen()
        port = first.getsockname()[1]
        for host in ("127.0.0.1", "0.0.0.0"):
            with pytest.raises(CannotServe, match="in use"):
                refuse_used_port(host, port)
    refuse_used_port("127.0.0.1", port)


def test_each_server_has_a_folder_and_those_of_ended_ones_go(home):
    """They hold metrics; a server that was killed does not tidy up behind itself."""
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    servers = home / "bentoml" / "servers"
    dead, other = servers / f"{TASK}-3000-{ended.pid}", servers / f"{TASK}-3000-{os.getppid()}"
    store = home / "bentoml" / "models"
    for folder in (dead, other, store):
        folder.mkdir(parents=True)
    (store / "kept").touch()
    (dead / "models").symlink_to(store, target_is_directory=True)
    assert own_folder(TASK, 3000).name == f"{TASK}-3000-{os.getpid()}"
    assert not dead.exists()
    assert other.exists()
    assert (store / "kept").exists()
