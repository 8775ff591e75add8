"""What only a person can say of a task: `derm_ml/tasks/<task>/card.yaml`, which both cards repeat.

A field may be left empty while a task is being built: models train and are evaluated, and none is promoted.
"""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Self

import yaml
from pydantic import Field, ValidationError

from derm_ml import DermError, formats
from derm_ml.recipe import Settings
from derm_ml.sentences import of_values

if TYPE_CHECKING:
    from derm_ml.task import Task


class StatementError(DermError, RuntimeError):
    """A card.yaml that cannot be read."""


class Statement(Settings):
    """What a model of the task is for, who may use it, and what it must not be used for."""

    intended_use: str = Field("", description="what a model of this task answers, and what for")
    intended_users: str = Field("", description="who may use it")
    population: str = Field("", description="the people and the kind of images it is meant for")
    out_of_scope: list[str] = Field([], description="uses and images it must not be asked about")
    limitations: list[str] = Field([], description="what is known to be weak or unknown, whatever the model")
    risks: list[str] = Field([], description="what a wrong answer can lead to")
    reference_standard: str = Field("", description="what the labels rest on: histology, readers, a publisher's list")

    @classmethod
    def of(cls, task: Task) -> Self:
        """The statement of a task; without a file every field is empty. Raises `StatementError` for a broken file."""
        path = cls.path(task)
        try:
            stored = yaml.safe_load(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            return cls.model_validate({})
        except (yaml.YAMLError, UnicodeDecodeError) as error:
            raise StatementError(f"{path} cannot be read: {str(error).splitlines()[0]}") from error
        try:
            return cls(**formats.CARD_STATEMENT.read(stored, path, StatementError))
        except ValidationError as error:
            raise StatementError(f"{path}: {of_values(error)}") from error

    @staticmethod
    def path(task: Task) -> Path:
        """Where it lies."""
        return Path(str(files(f"derm_ml.tasks.{task.name}") / "card.yaml"))

    @staticmethod
    def advice(task: Task, field: str) -> str:
        """What to do about a field that is empty."""
        return f"write `{field}` into derm_ml/tasks/{task.name}/card.yaml"
