"""The Launchpad form is the recipe: same names, same defaults, same limits.

No `from __future__ import annotations` here: Dagster reads the config class from the annotation.
"""

import dagster as dg
import pytest

from derm_assets.config import chosen_recipe, model_config
from derm_ml.registry import all_tasks, get_task

TASK = get_task("lesion_classification")
FORM = model_config(TASK)


def filled(**recipe):
    """The config object Dagster makes of what a person typed."""
    seen = []

    @dg.op
    def model(config: FORM):
        seen.append(config)

    @dg.job
    def training():
        model()

    training.execute_in_process({"ops": {"model": {"config": {"recipe": recipe}}}} if recipe else {})
    return chosen_recipe(TASK.recipes, seen[0])


def test_an_empty_form_is_the_default_recipe():
    assert filled() == TASK.recipe()


@pytest.mark.parametrize("name", TASK.recipes)
def test_a_chosen_recipe_keeps_its_own_defaults(name):
    """`faithful` must not silently train with the learning rate of `strong`."""
    assert filled(**{name: {}}) == TASK.recipe(name)


def test_values_are_taken_over():
    recipe = filled(faithful={"epochs": 3, "hidden": [64, 32], "schedule": "cosine"})
    assert recipe == TASK.recipe("faithful", epochs=3, hidden=(64, 32), schedule="cosine")


@pytest.mark.parametrize("wrong", [{"gradient_clip": -1.0}, {"schedule": "linear"}, {"attributes": ["weight"]}])
def test_the_recipe_s_own_limits_hold(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        filled(strong=wrong)


def test_an_unknown_name_is_refused_by_the_form():
    with pytest.raises(dg.DagsterInvalidConfigError, match="no_such_value"):
        filled(strong={"no_such_value": 1})


def test_every_task_has_a_form():
    for task in all_tasks().values():
        assert chosen_recipe(task.recipes, model_config(task)()) == task.recipe()


def test_choices_are_named_in_the_form():
    """The form shows a text field; a person must see what may stand in it."""
    strong = FORM.model_fields["recipe"].annotation.__args__[0].model_fields
    assert "one of cosine, plateau, constant" in strong["schedule"].description
    assert "at most this many passes" in strong["epochs"].description  # said by the base class, kept by the recipe
