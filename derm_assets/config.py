"""A task's recipes as a Launchpad form: choose a recipe by name, change any of its values.

ops:
  lesion_classification__model:
    config:
      recipe:
        strong: {optimiser: {epochs: 20}, network: {backbone: resnet50}}

A value that is left out is the recipe's own, so changing the name changes all of them. In a group, unknown names, wrong
choices and wrong types are marked while one types. The rest is refused when the run is launched: a number outside its
limits, and a name that is neither a group nor a setting. A setting may also stand without its group, `{epochs: 20}`.
"""

from __future__ import annotations

import re
import types
from collections.abc import Mapping
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import dagster as dg
from dagster._config import ConfigScalar, ConfigScalarKind
from dagster._config.config_type import ConfigTypeKind
from dagster._config.errors import PostProcessingError
from dagster._config.field_utils import _ConfigHasFields
from pydantic import Field, TypeAdapter, ValidationError
from pydantic.fields import FieldInfo

from derm_ml import DermError
from derm_ml.recipe import Group, Recipe, Settings, recipe_with
from derm_ml.sentences import WrongValue, of_values
from derm_ml.task import Task

_SCALARS = {
    int: ConfigScalarKind.INT,
    float: ConfigScalarKind.FLOAT,
    bool: ConfigScalarKind.BOOL,
    str: ConfigScalarKind.STRING,
}
_BOUNDS = {"ge": "≥", "gt": ">", "le": "≤", "lt": "<", "multiple_of": "multiple of"}


class RecipeError(DermError, ValueError):
    """A recipe cannot have these values; the message names the field and its limits."""


class ComparedRuns(dg.Config):
    """The config of `<task>/comparison`."""

    runs: list[str] = Field(
        [],
        description="model folders to set beside the current model; empty: the best of those that were measured on "
        "the same test split",
    )


class Reviewed(dg.Config):
    """The config of `<task>/incoming_batch`."""

    reviewed_by: str = Field(
        "", description="your name, once you looked at images and labels; the champion is then not asked about them"
    )


def model_form(task: Task) -> dict[str, dg.Field]:
    """The config schema of `<task>/model`: one field `recipe`, a choice of the task's recipes."""
    return recipe_form(task.recipes)


def recipe_form(recipes: Mapping[str, type[Recipe]]) -> dict[str, dg.Field]:
    """A config schema of one field `recipe`: a choice among `recipes`, the first if none is made."""
    # Noneable: `strong:` with nothing behind it is what one types, and the form leaves out an empty shape that is not
    forms = {
        name: dg.Field(dg.Noneable(_RecipeForm(recipe)), description=recipe.__doc__) for name, recipe in recipes.items()
    }
    described = "; ".join(f"{name}: {_first_line(recipe)}" for name, recipe in recipes.items())
    return {"recipe": dg.Field(dg.Selector(forms), default_value={next(iter(forms)): {}}, description=described)}


def chosen_recipe(recipes: Mapping[str, type[Recipe]], config: Mapping[str, Any]) -> Recipe:
    """The recipe a filled form means. Raises `RecipeError` naming the field whose value the recipe refuses."""
    ((name, values),) = config["recipe"].items()
    try:
        return recipe_with(recipes[name], values or {})
    except WrongValue as error:
        raise RecipeError(f"recipe {name}, {error}") from None


class _Limited(ConfigScalar):
    """A number of a recipe's field, held to the field's limits when a run is launched."""

    def __init__(self, kind: type, limits: list[Any]) -> None:
        bounds = [
            f"{sign} {getattr(limit, name):g}"
            for limit in limits
            for name, sign in _BOUNDS.items()
            if hasattr(limit, name)
        ]
        name = f"{_SCALARS[kind].value.capitalize()} {', '.join(bounds)}"  # the form shows it: "Int ≥ 1"
        super().__init__(name, name, _SCALARS[kind])
        limited: Any = Annotated[(kind, *limits)]
        self._check = TypeAdapter(limited)

    def post_process(self, value: Any) -> Any:
        try:
            return self._check.validate_python(value)
        except ValidationError as error:
            raise PostProcessingError(of_values(error)) from None


class _RecipeForm(_ConfigHasFields):
    """One recipe: a field for each group and each setting of none.

    Open to other names, so that settings may stand without their group; what the recipe does not know is refused when
    a run is launched, with the dotted name of what was probably meant.
    """

    def __init__(self, recipe: type[Recipe]) -> None:
        groups = recipe.groups()
        fields = {
            name: _group_field(groups[name]) if name in groups else _field(info, info.default)
            for name, info in recipe.model_fields.items()
        }
        key = f"{recipe.__module__}.{recipe.__qualname__}"
        super().__init__(fields, key=key, kind=ConfigTypeKind.PERMISSIVE_SHAPE, description=recipe.__doc__)
        self._recipe = recipe

    def post_process(self, value: Any) -> Any:
        try:
            recipe_with(self._recipe, value)
        except WrongValue as error:
            raise PostProcessingError(str(error)) from None
        return value


def _group_field(group: Group) -> dg.Field:
    fields = {name: _field(info, getattr(group, name)) for name, info in type(group).model_fields.items()}
    return dg.Field(dg.Shape(fields), is_required=False, description=_first_line(type(group)))


def _field(info: FieldInfo, own: Any) -> dg.Field:
    """What a setting means, and the recipe's own value, since the form shows none."""
    shown = list(own) if isinstance(own, tuple) else own
    described = f"{info.description} [default: {shown!r}]"
    return dg.Field(_in_form(info.annotation, info.metadata), is_required=False, description=described)


def _in_form(kind: Any, limits: list[Any]) -> Any:
    """Dagster's config type of a field: a choice is an enumeration, a tuple an array, a limited number its own type."""
    origin, inner = get_origin(kind), get_args(kind)
    if origin is Literal:
        name = "_or_".join(re.sub(r"\W", "_", choice) for choice in inner)
        return dg.Enum(name, [dg.EnumValue(choice) for choice in inner])
    if origin in (tuple, list):
        return dg.Array(_in_form(inner[0], []))
    if origin in (Union, types.UnionType):
        (given,) = (part for part in inner if part is not type(None))
        return dg.Noneable(_in_form(given, limits))
    return _Limited(kind, limits) if limits else kind


def _first_line(settings: type[Settings]) -> str:
    return (settings.__doc__ or "").strip().split("\n")[0]
