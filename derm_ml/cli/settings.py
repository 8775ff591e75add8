"""The settings of data preparation as a terminal gives them: which file they come from, and which are defaults."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import yaml
from pydantic import ValidationError

from derm_ml import DermError
from derm_ml.places import installation
from derm_ml.sentences import of_values
from derm_ml.task import PrepareSettings, Task


@dataclass(frozen=True, slots=True)
class Given:
    """The settings, and the file that gives some of them; None where all are defaults."""

    settings: PrepareSettings
    file: Path | None

    def __str__(self) -> str:
        named = {name: getattr(self.settings, name) for name in sorted(self.settings.model_fields_set)}
        if self.file is None:
            return f"settings: there is no {installation().params}, so all are defaults; --params names another file"
        said = ", ".join(f"{name} {_plain(value)}" for name, value in named.items())
        return f"settings of {self.file}: {said or 'none'}; all others are defaults"


def settings_of(task: Task, named: Path | None) -> Given:
    """The task's section of the file `named`, by default of the installation's params.yaml where there is one.

    Raises `DermError` naming the file, and the setting that is wrong.
    """
    params = named or installation().params
    if named is None and not params.exists():
        return Given(task.settings(**{}), None)
    try:
        content = yaml.safe_load(params.read_text(encoding="utf-8"))
    except OSError as error:
        raise DermError(f"{params} cannot be read: {error.strerror}") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise DermError(f"{params} is not readable YAML: {' '.join(str(error).split())}") from None
    sections = content.get("tasks") if isinstance(content, Mapping) else None
    if not isinstance(sections, Mapping) or task.name not in sections:
        # a section in the wrong place must not pass as "all defaults"
        raise DermError(f"{params} has no section tasks.{task.name}: write one (`{{}}` for the defaults)")
    given = sections[task.name] or {}
    if not isinstance(given, Mapping):
        raise DermError(f"{params}, section tasks.{task.name}: write names and values, not {given!r}")
    try:
        return Given(task.settings(**given), params)
    except ValidationError as error:
        raise DermError(
            f"{params}, section tasks.{task.name}: {of_values(error, task.settings.model_fields)}"
        ) from None


def _plain(value: object) -> str:
    return f"[{', '.join(map(str, value))}]" if isinstance(value, list) else str(value)
