"""The recipe a run trains with: the form somebody filled; in a run that nobody launched, what its settings say."""

from __future__ import annotations

from typing import Any

import dagster as dg

from derm_assets.automation_settings import RECIPE, choice_in, fixed_recipe
from derm_assets.config import chosen_recipe
from derm_assets.display import say
from derm_assets.resources.model_registry import ModelRegistry
from derm_assets.resources.promotions import Promotions
from derm_ml.bundles.bundle import Bundle
from derm_ml.recipe import Recipe
from derm_ml.task import Task


def recipe_of_run(context: dg.AssetExecutionContext, task: Task, registry: ModelRegistry) -> Recipe:
    """Raises `RecipeError` or `WrongValue` for values the recipe refuses, and `DermError` where the champion, whose
    recipe is asked for, cannot be read."""
    tag, form = context.run.tags.get(RECIPE, ""), context.op_execution_context.op_config
    if not tag or _was_filled(context):
        return chosen_recipe(task.recipes, form)
    fixed = fixed_recipe(task, choice_in(tag))
    return champions_recipe(context, task, registry) if fixed is None else fixed


def champions_recipe(context: dg.AssetExecutionContext, task: Task, registry: ModelRegistry) -> Recipe:
    """The recipe on the champion's card, with its values; the task's default where there is no champion."""
    champion = Promotions(registry).champion_version(task)
    if champion is None:
        say(context, f"{task.name} has no champion: its default recipe, {task.default_recipe}, is used")
        return task.recipe()
    card = Bundle.open(champion.bundle).card
    say(context, f"the recipe {card.recipe_name} of the champion, version {champion.number}")
    return task.recipe(card.recipe_name, **card.recipe)


def _was_filled(context: dg.AssetExecutionContext) -> bool:
    """Whether the run was given a recipe: somebody started a run again that nobody had launched, with another one."""
    ops: Any = context.run.run_config.get("ops", {})
    return "recipe" in (ops.get(context.op_execution_context.op.name) or {}).get("config", {})
