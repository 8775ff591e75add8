"""Where things lie, and that whoever asks is told the same: `derm`, Dagster, a service, from any folder."""

from __future__ import annotations

import io
import json
import os
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path

import httpx
import pytest
from dotenv import dotenv_values
from hypothesis import given
from hypothesis import strategies as st

from derm_ml.places import PATHS, PROJECT, SettingsError, environment, folder, installation, read_env_file

TASK = "lesion_classification"
WHERE = """
import json, os
from derm_assets.definitions import defs
found = defs().resources["places"]
print(json.dumps([found.data, found.out, found.home, os.getcwd()]))
"""


@pytest.fixture
def project(tmp_path) -> Path:
    """A checkout of its own, so that its .env is nobody else's."""
    root = tmp_path / "project"
    for package in ("derm_ml", "derm_assets", "serving"):
        shutil.copytree(PROJECT / package, root / package, ignore=shutil.ignore_patterns("__pycache__"))
    for file in ("dagster.yaml", "workspace.yaml", "pyproject.toml", "params.yaml", "dvc.yaml"):
        shutil.copy(PROJECT / file, root)
    (root / ".env").write_text(
        "# where this installation keeps what it has\n"
        "DERM_DATA=kept/data\nexport DERM_OUT='kept/out'   # relative to the project\n"
        "KEPT=kept\nDERM_HOME=${KEPT}/home\n"
    )
    return root


@pytest.fixture
def outside(project, tmp_path):
    """`outside(*command, **variables)`: a process of that checkout, in a folder where nothing lies."""
    (tmp_path / "elsewhere").mkdir()

    def run(*command: str, **variables: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            command, cwd=tmp_path / "elsewhere", env=clean(project) | variables, capture_output=True, text=True,
            check=False,
        )  # fmt: skip

    return run


def clean(project: Path) -> dict[str, str]:
    """An environment that says nothing of places; the modules are those of `project`."""
    said = {name: value for name, value in os.environ.items() if name not in PATHS}
    return said | {"PYTHONPATH": str(project), "COLUMNS": "1000"}


def derm(*arguments: str) -> tuple[str, ...]:
    return (str(Path(sys.executable).with_name("derm")), *arguments)


@pytest.mark.slow
def test_the_three_entrances_read_the_same_settings_from_any_folder(project, outside, tmp_path):
    kept = project / "kept"
    drawn = outside(*derm("draw", TASK, "--n", "1"))
    assert drawn.returncode == 0, drawn.stderr
    assert list((kept / "data" / "raw" / TASK).rglob("*.jpg"))

    located = outside(sys.executable, "-c", WHERE)
    assert json.loads(located.stdout) == [str(kept / "data"), str(kept / "out"), str(kept / "home"), str(project)], (
        located.stderr
    )

    assert f"({kept}/home/serving/{TASK}.json is missing)" in outside(sys.executable, "-m", "serving", TASK).stderr
    (kept / "home" / "serving").mkdir(parents=True)
    (kept / "home" / "serving" / f"{TASK}.json").write_text(json.dumps({"task": TASK, "bento": f"{TASK}:one"}))
    served = outside(sys.executable, "-m", "serving", TASK)
    assert served.stderr.startswith(f"{TASK}:one is not in the store ({kept}/home/bentoml/bentos/{TASK}/one)")

    assert not list((tmp_path / "elsewhere").iterdir()), "something was written beside whoever asked"


@pytest.mark.slow
def test_what_is_set_already_wins_at_every_entrance(project, outside, tmp_path):
    mine = {f"DERM_{name.upper()}": str(tmp_path / "mine" / name) for name in ("data", "out", "home")}
    assert f" in {tmp_path}/mine/data/raw/{TASK}" in outside(*derm("draw", TASK, "--n", "1"), **mine).stderr
    assert json.loads(outside(sys.executable, "-c", WHERE, **mine).stdout)[:3] == list(mine.values())
    assert f"{tmp_path}/mine/home/serving" in outside(sys.executable, "-m", "serving", TASK, **mine).stderr
    assert not (project / "kept").exists()


@pytest.mark.parametrize(
    ("file", "said"),
    [
        ("DERM_OUT=out\n\nDERM_TOKEN s3cret\n", "line 3: write NAME=value"),
        ('# a\nDERM_TOKEN="s3cret\nDERM_OUT=out\n', "line 2: write NAME=value, and close every quote"),
        ("s3cret", "line 1: write NAME=value"),
        ("DERM-OUT=s3cret", "line 1: write NAME=value"),
        ("=s3cret", "line 1: write NAME=value"),
        ("DERM_OUT=a\0s3cret", "line 1: the value holds a null byte"),
    ],
)
def test_a_line_that_is_no_setting_is_named_without_what_it_holds(file, said, tmp_path):
    (tmp_path / ".env").write_text(file)
    with pytest.raises(SettingsError) as wrong:
        read_env_file(tmp_path / ".env")
    assert str(wrong.value).startswith(f"{tmp_path}/.env, {said}")
    assert "s3cret" not in str(wrong.value)


def test_a_file_that_cannot_be_read_is_a_sentence_and_none_is_fine(tmp_path):
    assert read_env_file(tmp_path / ".env") == {}
    (tmp_path / "folder").mkdir()
    with pytest.raises(SettingsError, match="folder cannot be read: Is a directory"):
        read_env_file(tmp_path / "folder")
    (tmp_path / "latin").write_bytes("DERM_OUT=Übung".encode("latin-1"))
    with pytest.raises(SettingsError, match="is not UTF-8 text"):
        read_env_file(tmp_path / "latin")


@pytest.mark.slow
def test_every_entrance_says_which_line_is_wrong(project, outside):
    (project / ".env").write_text("DERM_OUT=out\nDERM_HOME\n")
    sentence = f"{project}/.env, line 2: write NAME=value, and close every quote"
    for command, code in (
        (derm("tasks"), 2),
        ((sys.executable, "-m", "serving", TASK), 2),
        ((sys.executable, "-m", "derm_assets.webserver"), 2),
        ((sys.executable, "-m", "derm_assets.instance"), 2),
        ((sys.executable, "-m", "derm_assets.launching", TASK), 1),
    ):
        done = outside(*command)
        assert (done.returncode, done.stderr.strip().removeprefix("derm: ")) == (code, sentence), command


_WORDS = st.text(st.characters(codec="utf-8", exclude_characters="\0\r'\\"), max_size=30)


@given(st.dictionaries(st.from_regex(r"[A-Z_][A-Z0-9_]{0,8}", fullmatch=True), _WORDS, max_size=5))
def test_what_dagster_would_read_is_what_is_read(tmp_path_factory, settings):
    path = tmp_path_factory.getbasetemp() / "hypothesis.env"
    path.write_text("".join(f"{name}='{value}'\n" for name, value in settings.items()), encoding="utf-8", newline="")
    assert read_env_file(path) == dotenv_values(stream=io.StringIO(path.read_text(encoding="utf-8")))


def test_a_relative_setting_is_of_the_project_and_an_empty_one_is_none(monkeypatch):
    for name, default in (("data", "data"), ("out", "out"), ("home", ".home")):
        monkeypatch.setenv(f"DERM_{name.upper()}", " ")
        assert folder(name) == PROJECT / default
        monkeypatch.setenv(f"DERM_{name.upper()}", "elsewhere/it")
        assert folder(name) == PROJECT / "elsewhere" / "it"
    monkeypatch.setenv("DERM_TOKENS_FILE", "tokens")
    monkeypatch.setenv("DERM_RUN", "")
    found = environment()
    # absolute, since a Bento that inherits it is a project of its own
    assert (found["DERM_OUT"], found["DERM_TOKENS_FILE"]) == (f"{PROJECT}/elsewhere/it", f"{PROJECT}/tokens")
    assert found["DERM_RUN"] == ""


def test_a_home_is_a_home(monkeypatch):
    monkeypatch.setenv("HOME", "/home/somebody")
    monkeypatch.setenv("DERM_OUT", "~/out")
    assert folder("out") == Path("/home/somebody/out")


def test_preparation_takes_the_settings_beside_the_data_else_the_project_s(monkeypatch, tmp_path):
    monkeypatch.setenv("DERM_DATA", str(tmp_path / "data"))
    assert installation().params == PROJECT / "params.yaml"
    (tmp_path / "params.yaml").touch()
    assert installation().params == tmp_path / "params.yaml"


_RESOURCES = """{ repositoriesOrError { ... on RepositoryConnection { nodes {
  allTopLevelResourceDetails { name configuredValues { key value } } } } } }"""


def folders_shown(port: int, server: subprocess.Popen[bytes], log: Path) -> dict[str, str]:
    """The values of the resource `places` in the UI, as soon as Dagster has loaded its code location."""
    deadline = time.monotonic() + 180
    while server.poll() is None and time.monotonic() < deadline:
        try:
            answer = httpx.post(
                f"http://127.0.0.1:{port}/graphql", json={"query": _RESOURCES},
                headers={"Authorization": f"Bearer {'e' * 32}"}, timeout=30,
            ).json()  # fmt: skip
        except httpx.TransportError:  # not listening yet
            time.sleep(0.3)
            continue
        for repository in answer["data"]["repositoriesOrError"]["nodes"]:
            for resource in repository["allTopLevelResourceDetails"]:
                if resource["name"] == "places":
                    return {value["key"]: json.loads(value["value"]) for value in resource["configuredValues"]}
        time.sleep(0.3)
    raise AssertionError(log.read_text(errors="replace")[-3000:])


@pytest.mark.slow
def test_dagster_s_own_reading_of_the_file_does_not_contradict(project, tmp_path):
    """Dagster lets a .env of its working directory win over the environment; `make dev` starts it in the project."""
    with (project / ".env").open("a") as file:
        file.write(f"DERM_DAGSTER_TOKEN={'f' * 32}\n")
    set_already = {"DERM_OUT": str(tmp_path / "mine"), "DERM_DAGSTER_TOKEN": "e" * 32}
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "derm_assets.webserver", "--port", str(port)]
    with (tmp_path / "log").open("wb") as log:
        server = subprocess.Popen(command, cwd=project, env=clean(project) | set_already, stdout=log, stderr=log)
        try:
            found = folders_shown(port, server, tmp_path / "log")
        finally:
            server.terminate()
            server.wait(120)
    assert found["out"] == str(tmp_path / "mine")
    assert found["data"] == str(project / "kept" / "data"), "what is not set comes from the file"
    assert (project / "kept" / "home" / "dagster").is_dir(), "nor does Dagster need a folder of its own to be named"
