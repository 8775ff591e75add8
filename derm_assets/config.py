"""A task's recipes as a Launchpad form: choose a recipe by name, change any of its values.

ops:
  lesion_classification__model:
    config:
      recipe:
        strong: {epochs: 20, backbone: resnet50}
"""

from __future__ import annotations

import types
from collections.abc import Mapping
from functools import reduce
from operator import or_
from typing import Any, Literal, Union, get_args, get_origin

import dagster as dg
from pydantic import Field, create_model
from pydantic.fields import FieldInfo

from derm_ml.task import Recipe, Task

_CHOICE = "choice"  # the field that tells the recipes apart; in the form it is the recipe's name


class ComparedRuns(dg.Config):
    """The config of `<task>/comparison`."""

    runs: list[str] = Field(
        [],
        description="model folders to set beside the current model; empty: the best of those that were measured on "
        "the same test split",
    )


def model_config(task: Task) -> type[dg.Config]:
    """The config class of `<task>/model`: one field `recipe`, a choice of the task's recipes with their defaults."""
    return recipe_form(f"{task.name}_model_config", task.recipes)


def recipe_form(title: str, recipes: Mapping[str, type[Recipe]]) -> type[dg.Config]:
    """A config class of one field `recipe`: a choice among `recipes` with their defaults, the first by default."""
    forms = {name: _form(name, recipe) for name, recipe in recipes.items()}
    choice = Field(
        default_factory=next(iter(forms.values())),
        discriminator=_CHOICE if len(forms) > 1 else None,
        description="; ".join(f"{name}: {_first_line(recipe)}" for name, recipe in recipes.items()),
    )
    return create_model(title, __base__=dg.Config, recipe=(reduce(or_, forms.values()), choice))


def chosen_recipe(recipes: Mapping[str, type[Recipe]], config: dg.Config) -> Recipe:
    """The recipe a filled form means, checked by the recipe itself. Raises `ValueError` naming the field."""
    values = config.recipe.model_dump()
    return recipes[values.pop(_CHOICE)](**values)


def _form(name: str, recipe: type[Recipe]) -> type[dg.Config]:
    fields: dict[str, Any] = {
        field: (_in_form(info.annotation), _field(recipe, field, info)) for field, info in recipe.model_fields.items()
    }
    fields[_CHOICE] = (Literal[name], name)  # pyright: ignore[reportInvalidTypeForm]  one name, known at run time
    return create_model(f"{name}_recipe", __base__=dg.Config, **fields)


def _field(recipe: type[Recipe], name: str, info: FieldInfo) -> Any:
    default = info.get_default(call_default_factory=True)
    described = _described(recipe, name, info)
    return Field(list(default) if isinstance(default, tuple) else default, description=described)


def _described(recipe: type[Recipe], name: str, info: FieldInfo) -> str:
    """What a field means, said where it was first declared, and its choices, since the form itself shows none."""
    declared = [base.model_fields[name] for base in recipe.__mro__ if name in getattr(base, "model_fields", {})]
    meaning = next((field.description for field in declared if field.description), "")
    choices = get_args(info.annotation) if get_origin(info.annotation) is Literal else ()
    allowed = f"one of {', '.join(map(str, choices))}" if choices else ""
    return "; ".join(part for part in (meaning, allowed) if part)


def _in_form(kind: Any) -> Any:
    """The type Dagster's form has for a field: choices are text, tuples are lists; the recipe checks both later."""
    origin, inner = get_origin(kind), get_args(kind)
    if origin is Literal:
        return type(inner[0])
    if origin in (tuple, list):
        return list[_in_form(inner[0])]
    if origin in (Union, types.UnionType):
        return reduce(or_, (_in_form(part) for part in inner))
    return kind if kind in (int, float, bool, str, type(None)) else str


def _first_line(recipe: type[Recipe]) -> str:
    return (recipe.__doc__ or "").strip().split("\n")[0]
