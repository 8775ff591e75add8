"""What promotion asks of a registry and of the data. No registry is known here: whoever keeps versions and aliases
fulfils `Versions`, and `Registry` towards the command line."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from derm_ml import DermError

if TYPE_CHECKING:
    from derm_ml.data.dataset import Dataset
    from derm_ml.data.incoming import Look
    from derm_ml.promotion.beside import Champion
    from derm_ml.promotion.decision import Decision
    from derm_ml.promotion.doctor import Check
    from derm_ml.promotion.ledger import Standing
    from derm_ml.task import Task

SPLIT = "test"  # promotion looks at no other split: the others chose epoch, temperature and threshold
CHAMPION, CHALLENGER, PREVIOUS = "champion", "challenger", "previous"


class PromotionError(DermError, RuntimeError):
    """A promotion or a rollback cannot be carried out."""


@dataclass(frozen=True, slots=True)
class ModelVersion:
    """A registered model: its number, and where its bundle and its evaluation can be read."""

    number: int
    bundle: Path
    evaluation: Path


@dataclass(frozen=True, slots=True)
class Registered:
    """What a registry says of a version without its files: from which run, data and commit, and what became of it."""

    number: int
    model_version: str
    dataset_md5: str
    git_commit: str
    run: str
    dagster_runs: tuple[str, ...] = ()
    state: str = ""
    release: str = ""
    bento: str = ""


class Versions(Protocol):
    """Registered versions and the aliases `champion`, `challenger`, `previous` of each task."""

    def alias(self, task: Task, alias: str) -> int | None:
        """The number of the version an alias points to, None if there is none. Reads no file of it."""
        ...

    def point(self, task: Task, alias: str, number: int | None) -> None:
        """Let an alias point to a version; None removes it."""
        ...

    def read(self, task: Task, number: int) -> ModelVersion:
        """A version with its files on this machine. Raises `DermError` if they are gone or changed."""
        ...

    def restore(self, task: Task, number: int, model_version: str) -> str:
        """Put damaged files of a version back from a copy here; a sentence. Raises `DermError` without one."""
        ...


class Data(Protocol):
    """The datasets models are measured on."""

    def present(self, task: Task) -> str:
        """The md5 of the dataset as it is now; empty where there is none."""
        ...

    def dataset(self, task: Task, md5: str) -> Dataset:
        """The dataset of that md5, its bytes compared with it. Raises `DermError` if it is not on this machine."""
        ...

    def trial(self, task: Task, challenger: str, champion: str) -> Path:
        """Where what a silent trial of these model versions has shown is kept, if there was one."""
        ...

    def validate(self, task: Task, candidate: ModelVersion, dataset_md5: str) -> Path:
        """The folder of a model's evaluation on the test split of a dataset it does not come from. Raises `DermError`
        if it cannot be."""
        ...

    def measure(self, task: Task, bundle: Path, dataset_md5: str) -> Path:
        """The folder of a model's evaluation on the test split of that dataset. Raises `DermError` if it cannot be."""
        ...


class Registry(Protocol):
    """What the command line asks of the registry it finds in the entry point group `derm.registry`."""

    def champion(self, task: Task) -> Path:
        """The champion's bundle. Raises `DermError` if there is none, or if ledger and registry disagree who it is."""
        ...

    def reviewer(self, task: Task) -> Look:
        """How the champion looks at a delivery; where there is none, nobody does. Raises as `champion` does."""
        ...

    def champion_on(self, task: Task, dataset_md5: str) -> Champion | None:
        """The champion with what was measured of it on that dataset; None if there is none. Raises as `champion`
        does where ledger and registry disagree."""
        ...

    def registered(self, task: Task) -> list[Registered]:
        """All registered versions, oldest first; no file of them is read."""
        ...

    def bundle(self, task: Task, number: int) -> Path:
        """The verified bundle of a version. Raises `DermError` if it is gone or changed."""
        ...

    def promote(self, task: Task, bundle: Path, *, dry_run: bool = False) -> Decision:
        """Register the bundle and its evaluation, decide, and move the alias if the decision says so."""
        ...

    def approve(self, task: Task, number: int | None, by: str) -> str:
        """Write down that a person approves a version (None: the challenger); returns a sentence."""
        ...

    def rollback(self, task: Task, why: str, *, leave_empty: bool = False) -> str:
        """Withdraw the champion and restore the one before, with its Bento; returns a sentence."""
        ...

    def reinstate(self, task: Task, number: int, why: str) -> str:
        """Let a withdrawn version be promoted again; returns a sentence."""
        ...

    def reached(self) -> str:
        """Where the registry is, in a sentence, without making one. Raises `DermError` if it cannot be used."""
        ...

    def challenger(self, task: Task) -> int | None:
        """The number of the version that asks to be champion; None if there is none."""
        ...

    def history(self, task: Task) -> list[dict[str, Any]]:
        """All entries of the ledger, verified."""
        ...

    def standing(self, task: Task, at: str = "") -> Standing:
        """Who is champion, or was at the end of a date; verified."""
        ...

    def doctor(self, task: Task, *, repair: bool = False, why: str = "") -> list[Check]:
        """Whether ledger, registry, files, data and services agree; `repair` mends what can be mended."""
        ...
