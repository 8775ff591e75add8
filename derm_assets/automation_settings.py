"""What starts by itself, for each task: the section `automation` of params.yaml (docs/automation.md).

    automation:
      lesion_classification: {new_patients: 50, days: 90, promotion: approval}

A task without a line has the defaults below. None of it does anything before `make automate TASK=…`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import yaml
from dagster._utils.schedules import is_valid_cron_string
from pydantic import Field, ValidationError, field_validator

from derm_assets.config import RecipeError, chosen_recipe
from derm_ml import DermError
from derm_ml.recipe import Recipe, Settings
from derm_ml.registry import all_tasks
from derm_ml.sentences import of_values, unknown
from derm_ml.task import Task

CHAMPIONS = "champion"  # the recipe that is read from the champion's card
SECTION = "automation"
STARTED_BY = "derm/started_by"  # tag of a run that nobody launched: what launched it
RECIPE = "derm/recipe"  # tag of such a run: the recipe it trains with, as it stands in the settings

Choice = str | dict[str, dict[str, Any] | None]


class AutomationError(DermError, ValueError):
    """The section `automation` of params.yaml cannot be read; the message names file, task and setting."""


class FixedTimes(Settings):
    """A retraining at fixed times, whether data arrived or not."""

    enabled: bool = Field(default=False, description="whether `make automate` starts it")
    cron: str = Field(
        default="0 3 * * 1", description="when, as cron writes it; Monday 03:00: people are there when it is done"
    )
    time_zone: str = Field(default="UTC", description="the time zone of `cron`, such as Europe/Berlin")
    recipe: Choice = Field(default=CHAMPIONS, description="as `recipe` of the task")

    @field_validator("cron")
    @classmethod
    def _is_cron(cls, given: str) -> str:
        if len(given.split()) != 5 or not is_valid_cron_string(given):
            raise ValueError("write five fields, such as '0 3 * * 1' for Monday 03:00")
        return given

    @field_validator("time_zone")
    @classmethod
    def _is_a_zone(cls, given: str) -> str:
        try:
            ZoneInfo(given)
        except (ZoneInfoNotFoundError, ValueError, OSError):
            raise ValueError("write a zone of the IANA list, such as Europe/Berlin") from None
        return given


class DriftWatch(Settings):
    """When the records of a service count as changed, and whether that retrains."""

    days: float = Field(default=7, gt=0, description="records of the last days are held against the earlier ones")
    at_least: float = Field(
        default=0.1,
        ge=0,
        lt=0.5,
        description="smallest shift that counts: how far the probability that a recent record lies above an earlier "
        "one is from 0.5; its interval must leave 0.5 out, too",
    )
    retrain: bool = Field(
        default=False,
        description="retrain on a changed dataset also when answers drifted, however few patients are new",
    )


class Automation(Settings):
    """What starts by itself for one task, and who decides on promotion."""

    new_patients: int = Field(
        50,
        ge=1,
        description="retrain on a changed dataset once its training and validation splits hold this many patients "
        "(or lesions, or images where no patient is known) that the champion did not learn from",
    )
    days: float | None = Field(
        90, gt=0, description="or once the champion was trained this many days ago, however few are new; null: never"
    )
    recipe: Choice = Field(
        CHAMPIONS,
        description="`champion`: that of the champion's card, the task's default without a champion; a name; or a name "
        "with values, {strong: {epochs: 20}}",
    )
    on_new_code: bool = Field(
        False, description="also retrain when the code that trains is no longer that of the last model"
    )
    promotion: Literal["approval", "automatic"] = Field(
        "approval", description="`approval`: a challenger waits for `derm approve`; `automatic`: the evidence decides"
    )
    schedule: FixedTimes = FixedTimes()
    drift: DriftWatch = DriftWatch()
    stale_after: float = Field(180, ge=1, description="days after which the champion counts as stale")
    look_every: int = Field(30, ge=1, description="seconds between two looks into the inbox and at the conditions")

    @classmethod
    def of(cls, task: Task, path: Path) -> Automation:
        """The task's settings in the file `path`. Raises `AutomationError`."""
        try:
            text = path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise AutomationError(f"{path} cannot be read: {error}") from error
        try:
            sections = (yaml.safe_load(text) or {}).get(SECTION) or {}
        except (yaml.YAMLError, AttributeError) as error:
            raise AutomationError(f"{path} is not readable YAML: {' '.join(str(error).split())}") from error
        if not isinstance(sections, Mapping):
            raise AutomationError(f"{path}, section {SECTION}: write a line for each task, `{task.name}: {{}}`")
        for name in sections:
            if name not in all_tasks():
                raise AutomationError(f"{path}, section {SECTION}: {unknown('task', str(name), all_tasks(), 'tasks:')}")
        place = f"{path}, section {SECTION}.{task.name}"
        given = sections.get(task.name) or {}
        if not isinstance(given, Mapping):
            raise AutomationError(f"{place}: write `{task.name}: {{new_patients: 50}}`")
        try:
            found = cls(**given)
            for choice in (found.recipe, found.schedule.recipe):
                fixed_recipe(task, choice)
        except ValidationError as error:
            raise AutomationError(
                f"{place}: {of_values(error, [*cls.model_fields, *FixedTimes.model_fields, *DriftWatch.model_fields])}"
            ) from error
        except RecipeError as error:
            raise AutomationError(f"{place}: {error}") from error
        return found


def fixed_recipe(task: Task, choice: Choice) -> Recipe | None:
    """The recipe a setting names; None where it is the champion's. Raises `RecipeError`."""
    if choice == CHAMPIONS:
        return None
    named = {choice: {}} if isinstance(choice, str) else choice
    if len(named) != 1:
        raise RecipeError(f"recipe: name one recipe, not {len(named)}")
    if (name := next(iter(named))) not in task.recipes:
        raise RecipeError(unknown("recipe", name, [CHAMPIONS, *task.recipes], f"{task.name} has"))
    return chosen_recipe(task.recipes, {"recipe": named})


def tags_of(task: Task, started_by: str, choice: Choice) -> dict[str, str]:
    """The tags of a run that nobody launches: the UI shows there what started it and with which recipe it trains."""
    shown = choice if isinstance(choice, str) else json.dumps(choice)
    return {"task": task.name, STARTED_BY: started_by, RECIPE: shown}


def choice_in(tag: str) -> Choice:
    """The setting that `tags_of` wrote into a tag."""
    return json.loads(tag) if tag.startswith("{") else tag
