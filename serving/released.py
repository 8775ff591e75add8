"""Which Bento of a task is released: one small file per task, $DERM_HOME/serving/<task>.json.

The promotion writes it, `python -m serving TASK` reads it: nothing is ever served because it is the newest.
"""

from __future__ import annotations

import json
import os
import re
from pathlib import Path

from derm_ml import DermError
from derm_ml.files import write_json

_TAG = re.compile(r"[a-z0-9_]+:[a-z0-9._-]+")


class NotReleased(DermError):
    """There is no released Bento of a task, or the file that names it cannot be used."""


def derm_home() -> Path:
    """Where the platform keeps its state: $DERM_HOME, else `.home` in the working directory."""
    return Path(os.environ.get("DERM_HOME") or ".home").resolve()


def bento_home() -> Path:
    """Where BentoML keeps models and Bentos: $BENTOML_HOME, else `bentoml` in `derm_home()`."""
    return Path(os.environ.get("BENTOML_HOME") or derm_home() / "bentoml").resolve()


def bento_folder(tag: str) -> Path:
    """Where the Bento of a tag lies in the store, if it is there."""
    name, _, version = tag.partition(":")
    return bento_home() / "bentos" / name / version


def release_file(task: str) -> Path:
    return derm_home() / "serving" / f"{task}.json"


def write_release(task: str, tag: str) -> Path:
    """Make `tag` the released Bento of `task`, atomically. Raises `ValueError` for what is no pinned tag of it."""
    if not _TAG.fullmatch(tag) or tag.partition(":")[0] != task or tag.endswith(":latest"):
        raise ValueError(f"'{tag}' is no pinned Bento of {task}; expected {task}:<version>")
    write_json(release_file(task), {"task": task, "bento": tag})
    return release_file(task)


def read_release(task: str) -> str:
    """The tag of the released Bento. Raises `NotReleased` that says what to do."""
    path = release_file(task)
    try:
        tag = json.loads(path.read_text(encoding="utf-8"))["bento"]
    except FileNotFoundError:
        raise NotReleased(f"no Bento of {task} is released yet ({path} is missing); promote a model first") from None
    except (json.JSONDecodeError, KeyError, TypeError) as error:
        raise NotReleased(f"{path}: not a release file; release the Bento again") from error
    if not isinstance(tag, str) or not _TAG.fullmatch(tag) or tag.partition(":")[0] != task:
        raise NotReleased(f"{path}: names '{tag}', which is no Bento of {task}; release the Bento again")
    return tag
