"""Which Bento of a task is released: one small file per task, below the home.

The promotion writes it, `python -m serving TASK` reads it: nothing is ever served because it is the newest. It also
remembers what was released before, and of which model, so that a rollback can release that again.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path

from derm_ml import DermError, formats
from derm_ml.files import write_json
from derm_ml.places import BENTOML_HOME, installation, setting_path

_TAG = re.compile(r"[a-z0-9_]+:[a-z0-9._-]+")


class NotReleased(DermError):
    """There is no released Bento of a task, or the file that names it cannot be used."""


class ReleaseWithdrawn(NotReleased):
    """What was released was withdrawn with its model, and nothing took its place."""


def derm_home() -> Path:
    """Where the platform keeps its state: `derm_ml.places`, links resolved."""
    return installation().home.resolve()


def bento_home() -> Path:
    """Where BentoML keeps models and Bentos, links resolved."""
    return (setting_path(BENTOML_HOME) or installation().bentos).resolve()


def bento_folder(tag: str) -> Path:
    """Where the Bento of a tag lies in the store, if it is there."""
    name, _, version = tag.partition(":")
    return bento_home() / "bentos" / name / version


def release_file(task: str) -> Path:
    return installation().release(task)


def write_release(task: str, tag: str, of: Mapping[str, str]) -> Path:
    """Make `tag` the released Bento of `task`, atomically, and remember of what it was built (`model_version`, …).

    Raises `ValueError` for what is no pinned tag of it.
    """
    if not _is_tag(task, tag):
        raise ValueError(f"'{tag}' is no pinned Bento of {task}; expected {task}:<version>")
    made = [{"bento": tag, **of}, *(one for one in _remembered(task) if one["bento"] != tag)]
    write_json(release_file(task), formats.RELEASE.stamped({"task": task, "bento": tag, "released": made}))
    return release_file(task)


def withdraw_release(task: str) -> None:
    """Nothing of `task` is released any more; what was released before is remembered."""
    content = {"task": task, "bento": None, "released": _remembered(task)}
    write_json(release_file(task), formats.RELEASE.stamped(content))


def released_before(task: str, **of: str) -> str:
    """The Bento of `task` that was released last of all that were built of this and are still in the store; else ""."""
    for one in _remembered(task):
        if all(one.get(name) == value for name, value in of.items()) and in_store(one["bento"]):
            return one["bento"]
    return ""


def in_store(tag: str) -> bool:
    """Whether a Bento still lies in the store."""
    return (bento_folder(tag) / "bento.yaml").is_file()


def read_release(task: str) -> str:
    """The tag of the released Bento. Raises `NotReleased`, or `Withdrawn`, that says what to do."""
    path = release_file(task)
    try:
        tag = formats.RELEASE.read(json.loads(path.read_text(encoding="utf-8")), path, NotReleased)["bento"]
    except FileNotFoundError:
        raise NotReleased(f"no Bento of {task} is released yet ({path} is missing); promote a model first") from None
    except (ValueError, KeyError, TypeError) as error:
        raise NotReleased(f"{path}: not a release file; release the Bento again") from error
    if tag is None:
        raise ReleaseWithdrawn(
            f"the Bento of {task} was withdrawn with its model; materialise {task}/bento to release another"
        )
    if not isinstance(tag, str) or not _is_tag(task, tag):
        raise NotReleased(f"{path}: names '{tag}', which is no Bento of {task}; release the Bento again")
    return tag


def remembered_of(task: str, tag: str) -> dict[str, str]:
    """Of what a Bento that was released was built; empty if that is not known."""
    for one in _remembered(task):
        if one["bento"] == tag:
            return {name: value for name, value in one.items() if name != "bento"}
    return {}


def remembered(task: str) -> list[tuple[str, str]]:
    """(Bento, version of its model) of everything that was released, the last first."""
    return [(one["bento"], one.get("model_version", "")) for one in _remembered(task)]


def _remembered(task: str) -> list[dict[str, str]]:
    """What was released, the last first; nothing of a file that is missing or spoilt, or that remembers nothing.

    Raises `NotReleased` for a file of a newer version, which is not to be written over.
    """
    path = release_file(task)
    try:
        stored = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return []
    if not isinstance(stored, dict):
        return []
    known = formats.RELEASE.read(stored, path, NotReleased).get("released")
    known = known if isinstance(known, list) else []
    return [one for one in known if isinstance(one, dict) and _is_tag(task, str(one.get("bento")))]


def write_challenger(task: str, tag: str | None) -> Path:
    """Let the running service of `task` ask the Bento `tag` too, unseen; None: nobody any more.

    Raises `ValueError` for what is no pinned tag of it.
    """
    if tag is not None and not _is_tag(task, tag):
        raise ValueError(f"'{tag}' is no pinned Bento of {task}; expected {task}:<version>")
    path = challenger_file(task)
    write_json(path, formats.CHALLENGER.stamped({"task": task, "bento": tag}))
    return path


def read_challenger(task: str) -> str:
    """The tag of the Bento that is asked unseen; empty where there is none. Raises `NotReleased` for a spoilt file."""
    path = challenger_file(task)
    try:
        tag = formats.CHALLENGER.read(json.loads(path.read_text(encoding="utf-8")), path, NotReleased)["bento"]
    except FileNotFoundError:
        return ""
    except (ValueError, KeyError, TypeError) as error:
        raise NotReleased(f"{path}: names no challenger; begin the trial again") from error
    if tag is not None and not (isinstance(tag, str) and _is_tag(task, tag)):
        raise NotReleased(f"{path}: names '{tag}', which is no Bento of {task}; begin the trial again")
    return tag or ""


def challenger_file(task: str) -> Path:
    return installation().challenger(task)


def _is_tag(task: str, tag: str) -> bool:
    return bool(_TAG.fullmatch(tag)) and tag.partition(":")[0] == task and not tag.endswith(":latest")
