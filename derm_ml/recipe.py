"""Recipes: hyper-parameters as frozen pydantic models, in groups.

    class Strong(ClassifierRecipe):
        members: int = 2
        optimiser: Optimiser = Optimiser(epochs=12, ema=0.99)   # the others keep the group's values

    recipe_with(Strong, {"epochs": 5})                  # by the name of the setting
    recipe_with(Strong, {"optimiser.epochs": 5})        # by its dotted name
    recipe_with(Strong, {"optimiser": {"epochs": 5}})   # as groups are nested in JSON and in the Launchpad

A setting has one name in the whole recipe, whatever its group, so the short form is never ambiguous, and the recipe of
a model card written before there were groups is still read. What is left out of a group is the recipe's own value.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, ClassVar, Self, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from derm_ml.sentences import WrongValue, of_values

R = TypeVar("R", bound="Recipe")
Removed = dict[str, tuple[Any, str]]


class Settings(BaseModel):
    """Base of everything a user may set: unknown names are errors, values do not change afterwards."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Group(Settings):
    """Settings of a recipe that belong together. The first line of the docstring is shown in the Launchpad."""

    def but(self, **values: Any) -> Self:
        """The group with some values replaced, checked like any other."""
        return type(self)(**(dict(self) | values))


class Recipe(Settings):
    """Base of every recipe: the settings all of them share. A recipe's docstring gives runtime and expected score."""

    # settings that earlier versions had: name → (the value every recipe gave it, what happens now).
    # A card that holds that value is read; any other value is refused with the sentence.
    removed: ClassVar[Removed] = {}
    # settings that say where a model is trained, not which: another number of devices goes on with the same model
    placement: ClassVar[frozenset[str]] = frozenset()
    # settings that came later: name → the value at which a model is the one it was before there was the setting
    later: ClassVar[Mapping[str, Any]] = {}

    seed: int = Field(default=0, ge=0, description="everything random is derived from it")

    @classmethod
    def __pydantic_init_subclass__(cls, **_: Any) -> None:
        """Let a recipe that only changes a default (`members: int = 2`) keep the field's limits and description.

        Raises `TypeError` where two groups have a setting of one name.
        """
        for name, info in cls.model_fields.items():
            bases = (base for base in cls.__mro__[1:] if issubclass(base, Recipe))
            inherited = next((b.model_fields[name] for b in bases if name in b.model_fields), info)
            info.metadata = info.metadata or inherited.metadata
            info.description = info.description or inherited.description
        cls.model_rebuild(force=True)
        names = [*cls.model_fields, *(name for group in cls.groups().values() for name in type(group).model_fields)]
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise TypeError(f"{cls.__name__} has two settings of one name: {', '.join(twice)}")

    @model_validator(mode="before")
    @classmethod
    def _in_groups(cls, given: Any) -> Any:
        """Move settings given by their own or their dotted name into their groups, over the recipe's own values."""
        if not isinstance(given, Mapping):
            return given
        groups = cls.groups()
        changed: dict[str, dict[str, Any]] = {name: {} for name in groups}
        result: dict[str, Any] = {}
        for name, value in given.items():
            if name in cls.removed:
                cls._refuse_removed(name, value)
                continue
            group, _, rest = cls.paths().get(str(name), str(name)).partition(".")
            if group not in groups or not (rest or isinstance(value, Mapping | Group | None)):
                result[name] = value  # of no group, or what pydantic refuses by its name
                continue
            for setting, its_value in {rest: value}.items() if rest else dict(value or {}).items():
                if setting in changed[group]:
                    raise ValueError(f"{group}.{setting} is given twice")
                changed[group][setting] = its_value
        return result | {name: dict(groups[name]) | values for name, values in changed.items() if values}

    @classmethod
    def _refuse_removed(cls, name: str, value: Any) -> None:
        before, instead = cls.removed[name]
        if value != before:
            raise ValueError(f"{name}={value} cannot be had: the setting was removed. {instead}")

    @classmethod
    def groups(cls) -> dict[str, Group]:
        """The groups by name, each with the values this recipe gives it."""
        return {name: info.default for name, info in cls.model_fields.items() if isinstance(info.default, Group)}

    @classmethod
    def paths(cls) -> dict[str, str]:
        """Name of every setting → its dotted name: `epochs` → `optimiser.epochs`, `seed` → `seed`."""
        groups = cls.groups()
        alone = {name: name for name in cls.model_fields if name not in groups}
        return alone | {name: f"{of}.{name}" for of, group in groups.items() for name in type(group).model_fields}

    def flat(self) -> dict[str, Any]:
        """Every setting by its own name, the values as JSON holds them, whatever the groups."""
        return leaves(self.model_dump(mode="json"))

    def identity(self) -> dict[str, Any]:
        """What of `flat` names a model: the same wherever it is trained."""
        silent = self.placement | {name for name, value in self.later.items() if self.flat()[name] == value}
        return {name: value for name, value in self.flat().items() if name not in silent}

    def but(self, **values: Any) -> Self:
        """The recipe with some settings, given by their own names, replaced."""
        return recipe_with(type(self), self.flat() | values)

    def changes(self) -> dict[str, tuple[Any, Any]]:
        """Dotted name → (the recipe's own value, this one), of the settings that somebody changed."""
        own, here = (dotted(recipe.model_dump(mode="json")) for recipe in (type(self)(), self))
        return {name: (own[name], value) for name, value in here.items() if value != own[name]}

    def holds(self, stored: Mapping[str, Any]) -> bool:
        """Whether the values a card holds, with groups or without, are this recipe's, wherever it was trained."""
        try:
            return type(self).model_validate(dict(stored)).identity() == self.identity()
        except ValidationError:
            return False

    @property
    def name(self) -> str:
        """The recipe's name: that of its class in snake case."""
        return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", type(self).__name__).lower()


def recipe_with(recipe: type[R], values: Mapping[str, Any]) -> R:
    """The recipe with some values replaced. Raises `WrongValue` naming each setting that is unknown or out of range."""
    try:
        return recipe.model_validate(dict(values))
    except ValidationError as error:
        raise WrongValue(of_values(error, recipe.paths() | {name: name for name in recipe.groups()})) from error


def dotted(values: Mapping[str, Any]) -> dict[str, Any]:
    """A recipe as a card holds it → `{"optimiser.epochs": 12, "seed": 0}`; one without groups stays as it is."""
    found: dict[str, Any] = {}
    for name, value in values.items():
        if isinstance(value, Mapping):
            found |= {f"{name}.{setting}": its_value for setting, its_value in value.items()}
        else:
            found[name] = value
    return found


def changed_settings(kind: type[Recipe] | None, settings: Mapping[str, Any]) -> dict[str, tuple[Any, Any]] | None:
    """The settings in which a recipe, as a card holds it, differs from a new one of its `kind`: name → (default, own).

    None where no recipe of that kind is known any more.
    """
    if kind is None:
        return None
    default, own = dotted(kind().model_dump(mode="json")), dotted(settings)
    return {name: (default.get(name, "–"), value) for name, value in own.items() if default.get(name, "–") != value}


def leaves(values: Mapping[str, Any]) -> dict[str, Any]:
    """A recipe as a card holds it, with groups or without → every value by the setting's own name."""
    return {name.rpartition(".")[2]: value for name, value in dotted(values).items()}
