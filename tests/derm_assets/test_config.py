"""The Launchpad form is the recipe: same names, same limits, and what is left out is the recipe's own."""

from __future__ import annotations

import dagster as dg
import pytest

from derm_assets.config import RecipeError, chosen_recipe, model_form
from derm_ml.registry import all_tasks, get_task

TASK = get_task("lesion_classification")


def filled(form, task=TASK):
    """The recipe Dagster makes of what a person typed."""
    seen = []

    @dg.op(config_schema=model_form(task))
    def model(context):
        seen.append(context.op_config)

    @dg.job
    def training():
        model()

    training.execute_in_process({"ops": {"model": {"config": form}}} if form is not None else {})
    return chosen_recipe(task.recipes, seen[0])


@pytest.mark.parametrize("task", all_tasks().values(), ids=lambda task: task.name)
def test_an_empty_form_is_the_default_recipe(task):
    assert filled(None, task) == task.recipe()


@pytest.mark.parametrize("name", TASK.recipes)
@pytest.mark.parametrize("nothing", [{}, None])
def test_a_chosen_recipe_keeps_its_own_values(name, nothing):
    """`faithful` must not silently train with the learning rate of `strong`."""
    assert filled({"recipe": {name: nothing}}) == TASK.recipe(name)


def test_values_are_taken_over():
    recipe = filled({"recipe": {"faithful": {"epochs": 3, "hidden": [64, 32], "schedule": "cosine", "dropout": 0}}})
    assert recipe == TASK.recipe("faithful", epochs=3, hidden=(64, 32), schedule="cosine", dropout=0.0)


@pytest.mark.parametrize(
    ("wrong", "why"),
    [
        ({"epochs": -3}, "strong:epochs of original value -3 failed:\n.*greater than or equal to 1, not -3"),
        ({"side": 1025}, "side of original value 1025 failed:\n.*less than or equal to 1024"),
        ({"schedule": "linear"}, "strong:schedule not in enum type cosine_or_plateau_or_constant got linear"),
        ({"attributes": ["weight"]}, "not in enum type age_or_sex got weight"),
        ({"epochs": "many"}, 'not valid for expected type "Int ≥ 1"'),
        ({"epohcs": 3}, 'unexpected config entry "epohcs".*epochs'),
    ],
)
def test_a_wrong_value_is_refused_before_anything_runs(wrong, why):
    """A night's training must not fail in the morning for a typing error."""
    with pytest.raises(dg.DagsterInvalidConfigError, match=why):
        filled({"recipe": {"strong": wrong}})


def test_what_only_the_recipe_knows_to_be_wrong_is_one_sentence():
    task = get_task("lesion_segmentation")
    with pytest.raises(RecipeError, match=r"^recipe strong, networks: tuple should have at least 1 item.*, not \[\]$"):
        filled({"recipe": {"strong": {"networks": []}}}, task)


def test_the_form_says_what_a_field_means_and_what_it_is_if_left_out():
    """The form shows no values of its own; a person must see what they would be."""
    forms = model_form(TASK)["recipe"].config_type.fields
    strong, faithful = (forms[name].config_type.inner_type.fields for name in ("strong", "faithful"))
    assert strong["epochs"].description.startswith("at most this many passes")  # said by the base class
    assert strong["epochs"].description.endswith("[default: 12]")
    assert faithful["epochs"].description.endswith("[default: 20]")
    assert strong["epochs"].config_type.given_name == "Int ≥ 1"
