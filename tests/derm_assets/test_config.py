"""The Launchpad form is the recipe: same groups, same limits, and what is left out is the recipe's own."""

from __future__ import annotations

import dagster as dg
import pytest

from derm_assets.config import chosen_recipe, model_form
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


def shown(task, name):
    """The form of a recipe as Dagster sends it to the Launchpad: dotted name → (type, description)."""

    @dg.op(config_schema=model_form(task))
    def model():
        pass

    @dg.job
    def training():
        model()

    types = training.get_job_snapshot().config_schema_snapshot.all_config_snaps_by_key

    def fields(key, before=""):
        for field in types[key].fields or []:
            yield before + field.name, types[field.type_key].given_name, field.description
            yield from fields(field.type_key, f"{before}{field.name}.")

    (choice,) = (kind for kind in types.values() if kind.fields and {f.name for f in kind.fields} == set(task.recipes))
    (chosen,) = (field for field in choice.fields if field.name == name)
    return {dotted: (kind, description) for dotted, kind, description in fields(types[chosen.type_key].inner_type_key)}


@pytest.mark.parametrize("task", all_tasks().values(), ids=lambda task: task.name)
def test_an_empty_form_is_the_default_recipe(task):
    assert filled(None, task) == task.recipe()


@pytest.mark.parametrize("name", TASK.recipes)
@pytest.mark.parametrize("nothing", [{}, None])
def test_a_chosen_recipe_keeps_its_own_values(name, nothing):
    """`faithful` must not silently train with the learning rate of `strong`."""
    assert filled({"recipe": {name: nothing}}) == TASK.recipe(name)


def test_values_are_taken_over():
    values = {"optimiser": {"epochs": 3, "schedule": "cosine"}, "head": {"hidden": [64, 32], "dropout": 0}}
    recipe = filled({"recipe": {"faithful": values}})
    assert recipe == TASK.recipe("faithful", epochs=3, hidden=(64, 32), schedule="cosine", dropout=0.0)


def test_settings_without_their_group_are_taken_too():
    """What was typed, scheduled or scripted before there were groups goes on."""
    short = filled({"recipe": {"faithful": {"epochs": 3, "members": 2, "hidden": [64], "image": {"side": 64}}}})
    assert short == TASK.recipe("faithful", epochs=3, members=2, hidden=(64,), side=64)


@pytest.mark.parametrize(
    ("wrong", "why"),
    [
        ({"optimiser": {"epochs": -3}}, "optimiser:epochs of original value -3 failed:\n.*write 1 or more, not -3"),
        ({"image": {"side": 1025}}, "side of original value 1025 failed:\n.*write 1024 or less, not 1025"),
        ({"optimiser": {"schedule": "linear"}}, "schedule not in enum type cosine_or_plateau_or_constant got linear"),
        ({"patient": {"attributes": ["weight"]}}, "not in enum type age_or_sex got weight"),
        ({"optimiser": {"epochs": "many"}}, 'not valid for expected type "Int ≥ 1"'),
        ({"optimiser": {"epohcs": 3}}, 'unexpected config entry "epohcs".*epochs'),
        ({"epohcs": 3}, r"there is no setting 'epohcs' \(did you mean 'optimiser.epochs'\?\)"),
        ({"epochs": -3}, "optimiser.epochs: write 1 or more, not -3"),
        ({"epochs": 3, "optimiser": {"epochs": 3}}, "optimiser.epochs is given twice"),
        ({"early_stop": 3}, "early_stop=3 cannot be had: the setting was removed"),
    ],
)
def test_a_wrong_value_is_refused_before_anything_runs(wrong, why):
    """A night's training must not fail in the morning for a typing error."""
    with pytest.raises(dg.DagsterInvalidConfigError, match=why):
        filled({"recipe": {"strong": wrong}})


def test_what_only_the_recipe_knows_to_be_wrong_is_refused_then_too():
    with pytest.raises(dg.DagsterInvalidConfigError, match=r"network\.networks: tuple should have at least 1 item"):
        filled({"recipe": {"strong": {"network": {"networks": []}}}}, get_task("lesion_segmentation"))


def test_the_form_says_what_a_field_means_and_what_it_is_if_left_out():
    """The form shows no values of its own; a person must see what they would be."""
    strong, faithful = (shown(TASK, name) for name in ("strong", "faithful"))
    assert strong["optimiser.epochs"] == ("Int ≥ 1", "passes over the training images [default: 12]")
    assert faithful["optimiser.epochs"] == ("Int ≥ 1", "passes over the training images [default: 20]")
    assert strong["optimiser"][1] == "How the weights are found: passes, steps, rate, and which epoch is kept."
    assert strong["members"][1].endswith("logits are averaged [default: 2]")


@pytest.mark.parametrize("task", all_tasks().values(), ids=lambda task: task.name)
def test_the_form_shows_every_setting_in_its_group_with_a_sentence(task):
    for name, recipe in task.recipes.items():
        form = shown(task, name)
        assert set(form) == {*recipe.paths().values(), *recipe.groups()}
        assert all(len(description.split()) > 2 for _, description in form.values())
