"""The pages of settings: recipes, params.yaml, policies, environment variables. Their texts are those of the code."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator

from pydantic import BaseModel

from derm_assets.automation_settings import Automation, FixedTimes
from derm_ml.cli.recipes import settings_of_recipe, shown, type_in_words
from derm_ml.places import PROJECT
from derm_ml.promotion.policy import External, Policy
from derm_ml.registry import all_tasks
from derm_ml.task import PrepareSettings, Task
from documents.markdown import MADE, block, code, page, plain, table

SAME = "·"  # in a table of recipes: as the first one has it


def recipes() -> str:
    """Every setting of every recipe, the first recipe in full and of the others what differs."""
    parts = [
        MADE,
        "A value is replaced by its name, `derm fit TASK --set epochs=5`, or in the Launchpad. `derm recipe TASK NAME` "
        "prints the same as this page. The first recipe of a task is its default. In the tables "
        f"`{SAME}` means: as the first recipe.",
    ]
    for task in all_tasks().values():
        parts += [f"## {task.name}", plain(task.title) + "."]
        for name, kind in task.recipes.items():
            parts += [f"### `{name}` of {task.name}", docstring(kind.__doc__)]
        parts += [f"### Settings of {task.name}", _compared(task)]
    return page("Recipes", *parts)


def _compared(task: Task) -> str:
    values = {name: {row[0]: row for row in settings_of_recipe(task.recipe(name))} for name in task.recipes}
    first = values[task.default_recipe]
    names = list(dict.fromkeys(setting for of_recipe in values.values() for setting in of_recipe))
    rows = []
    for setting in names:
        has = next(of_recipe[setting] for of_recipe in values.values() if setting in of_recipe)
        cells = [code(of_recipe[setting][2]) if setting in of_recipe else "–" for of_recipe in values.values()]
        own = [cells[0], *(SAME if cell == cells[0] and setting in first else cell for cell in cells[1:])]
        rows.append([code(setting), has[1], *own, plain(has[3])])
    return table(["setting", "type", *map(code, task.recipes), "what"], rows)


def params() -> str:
    """params.yaml: how raw folders become datasets, and what starts by itself."""
    parts = [
        MADE,
        "`params.yaml` lies beside the data folder; where there is none, the project's own holds. It is checked before "
        "any work: a name or value that is not known is refused with the one that was probably meant.",
        block((PROJECT / "params.yaml").read_text(encoding="utf-8"), "yaml"),
        "## `tasks`: how a raw folder becomes a dataset",
        "One line for each task; `{}` means these defaults.",
        _fields(PrepareSettings),
    ]
    for task in all_tasks().values():
        own = {name for name in task.settings.model_fields if name not in PrepareSettings.model_fields}
        if own:
            parts += [f"### {task.name}: further settings", _fields(task.settings, own)]
    parts += [
        "## `automation`: what starts by itself",
        "One line for each task; nothing happens before `make automate TASK=…` ([Automation](../automation.md)).",
        _fields(Automation),
        "### `schedule`: retraining at fixed times",
        _fields(FixedTimes),
    ]
    return page("params.yaml", *parts)


def policies() -> str:
    """policy.yaml: its fields, and the values of each task."""
    tasks = list(all_tasks().values())
    policies = {task.name: Policy.of(task) for task in tasks}
    rows = []
    for name in Policy.model_fields:
        values = {task: getattr(policy, name) for task, policy in policies.items()}
        rows.append([code(name), *(code(shown(value)) if value is not None else "–" for value in values.values())])
    return page(
        "Policies",
        MADE,
        "What a champion must show, beside green checks: `derm_ml/tasks/<task>/policy.yaml` "
        "([Promotion](../promotion.md)). `–` means that nothing is asked for.",
        "## Fields",
        _fields(Policy),
        "### `external`: validation on a set from elsewhere",
        _fields(External),
        "## Values of the tasks",
        table(["field", *map(code, policies)], rows),
    )


def environment() -> str:
    """The settings of .env.example, with the comments that stand there."""
    parts = [
        MADE,
        "A setting is an environment variable or a line of `.env` in the project's folder. Copy `.env.example` to "
        "`.env`; `derm check` says what is set and whether it is valid.",
    ]
    for said, variables in settings_of_example((PROJECT / ".env.example").read_text(encoding="utf-8")):
        parts.append(plain(said) + ("" if said.endswith((".", ":")) else "."))
        if variables:
            parts.append(table(["variable", "value in the example", "remark"], variables))
    return page("Environment variables", *parts)


def settings_of_example(text: str) -> Iterator[tuple[str, list[list[str]]]]:
    """(comment, rows of variable, value and remark) of each paragraph of .env.example."""
    said: list[str] = []
    rows: list[list[str]] = []
    for line in [*text.splitlines(), "# end"]:
        setting = re.fullmatch(r"#? ?([A-Z][A-Z_]+)=(\S*)(?:\s+#\s*(.*))?", line)
        if setting:
            rows.append([code(setting[1]), code(setting[2]), plain(setting[3] or "")])
        elif line.startswith("#"):
            if rows:
                yield " ".join(said), rows
                said, rows = [], []
            said.append(line.removeprefix("#").strip())
        elif not line and said and not rows:
            yield " ".join(said), []
            said = []


def _fields(model: type[BaseModel], names: set[str] | None = None) -> str:
    rows = []
    for name, info in model.model_fields.items():
        if names is not None and name not in names:
            continue
        default = info.get_default(call_default_factory=True)
        value = "required" if info.is_required() else "see below" if isinstance(default, BaseModel) else shown(default)
        rows.append([code(name), type_in_words(info), code(value), plain(info.description or "")])
    return table(["setting", "type", "default", "what"], rows)


def docstring(text: str | None) -> str:
    """A docstring as paragraphs of plain text; what is indented in it is code."""
    parts = []
    for part in re.split(r"\n\s*\n", inspect.cleandoc(text or "")):
        lines = part.splitlines()
        parts.append(block(inspect.cleandoc(part)) if all(line.startswith("    ") for line in lines) else plain(part))
    return "\n\n".join(parts)
