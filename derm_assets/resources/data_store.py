"""The only place that knows DVC: it prepares a dataset and names its version.

    store.prepare(task) → Prepared(path, md5)        `dvc repro prepare@<task>`, and `dvc push` where a remote is set

The DVC project is the folder `DERM_DATA` lies in, by default this repository. Another one is given its own
dvc.yaml and params.yaml on first use and is not tracked by git.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import dagster as dg
import yaml
from pydantic import ValidationError

from derm_assets.resources.places import Places
from derm_ml import DermError
from derm_ml.files import replacing_file
from derm_ml.places import DEFAULTS, DVC_REMOTE, PROJECT, VARIABLES, python_path
from derm_ml.task import PrepareSettings, Task

# what DVC says when another process holds its lock (dvc/lock.py) or is using the same paths (dvc/rwlock.py)
_LOCKED = ("Unable to acquire lock", "is busy, it is being blocked by")
_REMOTE = "derm"  # what DVC calls the remote of the setting
# what DVC needs for a remote, and the extra that brings it, by the scheme of its address
_LIBRARIES = {"s3": ("dvc_s3", "s3"), "gs": ("dvc_gs", "gcs"), "az": ("dvc_azure", "azure")}
_NAMED = 5  # objects that an error names
_SHOWN = 25  # last lines of DVC's output that an error repeats: the reason stands at the end


class DataStoreError(DermError, RuntimeError):
    """DVC could not prepare the data; the message repeats what it said."""


@dataclass(frozen=True, slots=True)
class Prepared:
    """A prepared dataset: a folder that will not change, and the md5 DVC wrote to dvc.lock for it."""

    path: Path
    md5: str


class DataStore(dg.ConfigurableResource):
    """Prepared datasets by version."""

    places: Places
    patience: int = 600  # seconds to wait for another DVC process; preparing a large set takes minutes
    remote: str = ""  # an address DVC knows, where prepared data are pushed and pulled from; empty: none

    @classmethod
    def from_environment(cls, places: Places) -> DataStore:
        """The store of those folders, with the remote the environment names."""
        return cls(places=places, remote=os.environ.get(DVC_REMOTE, "").strip())

    @property
    def root(self) -> Path:
        """The DVC project. Raises `DataStoreError` if the data folder has another name than dvc.yaml says."""
        here = self.places.here
        if here.data.name != DEFAULTS["data"]:
            raise DataStoreError(
                f"{VARIABLES['data']} is {here.data}: its path must end in /{DEFAULTS['data']}, as dvc.yaml calls the "
                "folder"
            )
        return here.dvc_project

    def settings(self, task: Task) -> PrepareSettings:
        """The task's section of params.yaml. Raises `DataStoreError` naming the field that is wrong."""
        self._set_up()
        path = self.root / "params.yaml"
        sections = (yaml.safe_load(path.read_text(encoding="utf-8")) or {}).get("tasks", {})
        if task.name not in sections:
            raise DataStoreError(f"{path}: no section tasks.{task.name}; add the line `{task.name}: {{}}`")
        try:
            return task.settings(**(sections[task.name] or {}))
        except ValidationError as error:
            raise DataStoreError(f"{path}, section tasks.{task.name}: {error}") from error

    def prepare(self, task: Task, say: Callable[[str], None] = lambda _line: None) -> Prepared:
        """Bring the prepared dataset up to date with raw data and parameters; `say` gets DVC's output line by line.

        Unchanged inputs cost a look at the files. Raises `DataStoreError`.
        """
        self._set_up()
        if not self.places.raw(task).is_dir():
            raise DataStoreError(f"{self.places.raw(task)} does not exist: put the images there as downloaded")
        self._restore(task)
        self._repro(task, say)
        self._push(task, say)
        md5 = self._locked_md5(task)
        return Prepared(self._freeze(task, md5), md5)

    def version(self, task: Task, md5: str) -> Path:
        """The frozen dataset of that md5: as it lies here, else fetched from the remote, without its shards where those
        are streamed; a path without anything where there is no remote. Raises `DataStoreError` or `DataError` naming
        what is missing or damaged there; nothing of it is kept.
        """
        from derm_ml.data.streaming import bring_without_shards, stream_limit  # a code location loads without it

        frozen = self.places.version(task, md5)
        if frozen.exists() or not self.remote:
            return frozen
        if stream_limit() is not None:
            bring_without_shards(md5, frozen)
            return frozen
        self._set_up()
        with tempfile.TemporaryDirectory(prefix="fetching-", dir=self.root) as folder:
            wanted = {"outs": [{"md5": md5, "hash": "md5", "path": "dataset"}]}  # what `dvc add` writes of a folder
            asked = Path(folder) / "dataset.dvc"
            asked.write_text(yaml.safe_dump(wanted), encoding="utf-8")
            status, said = self._dvc("pull", str(asked))
            if status != 0:
                raise DataStoreError(
                    f"dataset {md5} of {task.name} is not here and cannot be fetched from {self.remote}: "
                    f"{self._not_here(md5)}remove what is damaged there and run `dvc push` on the machine that "
                    f"prepared it\n{said}"
                )
            return _frozen_at(Path(folder) / "dataset", frozen)

    def current(self, task: Task) -> Path | None:
        """The dataset as it is now, whose splits stay as they are; None where there is none yet."""
        self._set_up()
        self._restore(task)
        prepared = self.places.prepared(task)
        return prepared if (prepared / "dataset.json").exists() else None

    def _set_up(self) -> None:
        root = self.root
        root.mkdir(parents=True, exist_ok=True)
        stages = root / "dvc.yaml"  # the code's: a project made by an older version follows
        if not stages.exists() or stages.read_bytes() != (PROJECT / "dvc.yaml").read_bytes():
            with replacing_file(stages) as temporary:
                shutil.copyfile(PROJECT / "dvc.yaml", temporary)
        if not (root / "params.yaml").exists():  # the user's
            shutil.copyfile(PROJECT / "params.yaml", root / "params.yaml")
        if not (root / ".dvc").is_dir():
            self._dvc("init", "--no-scm", "--quiet")
        if self.remote:
            self._name_remote()

    def _name_remote(self) -> None:
        """Let DVC know the remote of the setting, whose objects it compares with their md5 as they come."""
        scheme, _, path = self.remote.partition("://")
        library, extra = _LIBRARIES.get(scheme, ("", ""))
        if library and not find_spec(library):
            raise DataStoreError(
                f"{DVC_REMOTE} is {self.remote}, but {library} is not installed: pip install 'derm-platform[{extra}]'"
            )
        url = f"azure://{path}" if scheme == "az" else self.remote  # DVC has another name for it than fsspec
        known = self.root / ".dvc" / "config.local"
        text = known.read_text(encoding="utf-8") if known.exists() else ""
        if f"url = {url}\n" in text and "verify = true\n" in text:
            return
        for arguments in (
            ("remote", "add", "--local", "--force", "--default", _REMOTE, url),
            ("remote", "modify", "--local", _REMOTE, "verify", "true"),
        ):
            status, said = self._dvc(*arguments)
            if status != 0:
                raise DataStoreError(f"DVC does not take {DVC_REMOTE}={self.remote}:\n{said}")

    def _push(self, task: Task, say: Callable[[str], None]) -> None:
        """Send what was prepared to the remote, where there is one."""
        if not self.remote:
            return
        status, said = self._dvc("push", f"prepare@{task.name}", say=say)
        if status != 0:
            raise DataStoreError(
                f"{self.places.prepared(task)} is prepared, but DVC could not push it to {self.remote}: see that it "
                f"can be reached and written, then run this again\n{said}"
            )

    def _restore(self, task: Task) -> None:
        """Let DVC put back a prepared folder that is not here: when data arrive, its splits are kept."""
        lock = self.root / "dvc.lock"
        prepared = self.places.prepared(task)
        if prepared.exists() or not lock.exists() or f"prepare@{task.name}:" not in lock.read_text(encoding="utf-8"):
            return
        status, said = self._dvc("pull" if self.remote else "checkout", f"prepare@{task.name}")
        if status != 0 and self.remote:
            gone = self._not_here(self._locked_md5(task))
            raise DataStoreError(
                f"{prepared} is not here and cannot be fetched from {self.remote}, so its splits cannot be kept: "
                f"{gone}remove what is damaged there and run `dvc push` on the machine "
                f"that prepared it, or remove {lock} to split all images again\n{said}"
            )
        if status != 0:
            raise DataStoreError(
                f"{prepared} is gone and DVC cannot put it back, so its splits cannot be kept: run `dvc pull`, or "
                f"remove {lock} to create new splits\n{said}"
            )

    def _not_here(self, md5: str) -> str:
        """Which objects of a version did not arrive whole, where its list did."""
        cache = self.root / ".dvc" / "cache" / "files" / "md5"
        listed = cache / md5[:2] / md5[2:]
        if not listed.exists():
            return f"{md5} is missing or damaged; "
        parts = json.loads(listed.read_text(encoding="utf-8"))
        gone = [part for part in parts if not (cache / part["md5"][:2] / part["md5"][2:]).exists()]
        named = ", ".join(f"{part['md5']} ({part['relpath']})" for part in gone[:_NAMED])
        more = f" and {len(gone) - _NAMED} more" if len(gone) > _NAMED else ""
        return f"{named}{more} missing or damaged; " if gone else ""

    def _repro(self, task: Task, say: Callable[[str], None]) -> None:
        deadline = time.monotonic() + self.patience
        while True:
            status, said = self._dvc("repro", f"prepare@{task.name}", say=say)
            if status == 0:
                return
            if not any(sign in said for sign in _LOCKED) or time.monotonic() > deadline:
                raise DataStoreError(f"dvc repro prepare@{task.name} failed in {self.root}:\n{said}")
            say("another DVC process holds the lock: waiting")
            time.sleep(1)

    def _dvc(self, *arguments: str, say: Callable[[str], None] = lambda _line: None) -> tuple[int, str]:
        """Run DVC as its own process; (exit status, last lines of its output)."""
        site = self.places.here.dvc_site
        (site / "repo").mkdir(
            parents=True, exist_ok=True
        )  # DVC would make them writable by everybody, whatever the umask
        environment = os.environ | {
            "DVC_SITE_CACHE_DIR": str(site),
            VARIABLES["data"]: self.places.data,  # of the stage that it runs
            # the stage says `python`: let it be this one, with this project on its path
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}",
            "PYTHONPATH": python_path(),
        }
        command = [sys.executable, "-m", "dvc", *arguments]
        last: deque[str] = deque(maxlen=_SHOWN)
        with subprocess.Popen(
            command, cwd=self.root, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        ) as process:
            assert process.stdout is not None
            for line in process.stdout:
                if line.strip():
                    last.append(line.rstrip())
                    say(line.rstrip())
        return process.returncode, "\n".join(last)

    def _locked_md5(self, task: Task) -> str:
        path = self.root / "dvc.lock"
        try:
            stage = yaml.safe_load(path.read_text(encoding="utf-8"))["stages"][f"prepare@{task.name}"]
            return stage["outs"][0]["md5"]
        except (FileNotFoundError, KeyError, IndexError) as error:
            raise DataStoreError(f"{path} does not name the prepared dataset of {task.name} ({error})") from error

    def _freeze(self, task: Task, md5: str) -> Path:
        """The dataset under its own name: a later `dvc repro` cannot pull it from under a training."""
        return _frozen_at(self.places.prepared(task), self.places.version(task, md5))


def _frozen_at(prepared: Path, frozen: Path) -> Path:
    from derm_ml.data.dataset import freeze  # a code location loads without it

    return freeze(prepared, frozen)
