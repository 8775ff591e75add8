"""What users write of a recipe, and what cards of earlier versions hold, must go on meaning the same."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from derm_ml.recipe import Group, Recipe, dotted, leaves, recipe_with
from derm_ml.registry import all_tasks, get_task
from derm_ml.sentences import WrongValue
from derm_ml.training.autoencoder_recipes import AUTOENCODERS
from derm_ml.training.settings import ClassifierRecipe, Optimiser, SegmenterRecipe, TrainingRecipe

TASK = get_task("lesion_classification")
KEPT = Path(__file__).parent / "fixtures/format_1/out"
RECIPES = [recipe for task in all_tasks().values() for recipe in task.recipes.values()] + list(AUTOENCODERS.values())

# As a card of `derm fit lesion_classification --set epochs=5 --set side=128` held it before recipes had groups.
BEFORE_GROUPS = json.loads("""{
    "seed": 0, "epochs": 5, "batch_size": 32, "optimizer": "adamw", "learning_rate": 0.001, "weight_decay": 0.02,
    "schedule": "cosine", "warmup_epochs": 1.0, "plateau_patience": 2, "plateau_factor": 0.1, "keep": "last",
    "early_stop": 0, "gradient_clip": 1.0, "ema": 0.99, "precision": "auto", "workers": -1, "members": 2,
    "backbone": "mobilenet_v2", "pretrained": "torchvision", "hidden": [], "head_init": "uniform", "dropout": 0.2,
    "frozen_epochs": 0, "side": 128, "training_side": 192, "squaring": "squash", "smallest_side": 0,
    "field_of_view": false, "channel": "rgb", "contrast": "none", "augmentation": "moderate", "views": "d4",
    "fellow": false, "attributes": ["age", "sex"], "attribute_dropout": 0.1, "class_balance": "none",
    "balance_power": 0.5, "labelled_share": 1.0, "pseudo_labels": "", "extra_weight": 1.0, "label_smoothing": 0.05,
    "loss": "cross_entropy", "focal_gamma": 0.0, "negative_gamma": 4.0
}""")


@pytest.mark.parametrize(
    "values",
    [{"epochs": 5, "seed": 3}, {"optimiser.epochs": 5, "seed": 3}, {"optimiser": {"epochs": 5}, "seed": 3}],
    ids=["short", "dotted", "nested"],
)
def test_a_setting_may_be_given_by_its_name_its_dotted_name_or_in_its_group(values):
    found = TASK.recipe("faithful", **values)
    assert found.changes() == {"optimiser.epochs": (20, 5), "seed": (0, 3)}
    assert found.optimiser.learning_rate == 1e-4, "the rest of the group is no longer the recipe's own"


def test_the_recipe_of_a_card_from_before_groups_is_read():
    found = TASK.recipe("strong", **BEFORE_GROUPS)
    changed = {"optimiser.epochs": 5, "image.side": 128, "network.backbone": "mobilenet_v2"}
    since = {"network.pretrained": "torchvision", "image.augmentation": "moderate"}
    assert {name: value for name, (_, value) in found.changes().items()} == changed | since
    assert found.holds(BEFORE_GROUPS)
    assert found.holds(found.model_dump(mode="json"))
    assert not TASK.recipe("strong").holds(BEFORE_GROUPS)


def test_the_recipes_of_kept_bundles_are_read():
    """Cards as the code before wrote them, not as this test remembers them."""
    cards = [json.loads(path.read_text(encoding="utf-8")) for path in KEPT.rglob("bundle.json")]
    whole = [card for card in cards if card["task"] == "persistent_conditions"]
    assert whole
    for card in whole:
        assert get_task(card["task"]).recipe(card["recipe_name"]).holds(card["recipe"])


@pytest.mark.parametrize(
    ("values", "why"),
    [
        ({"early_stop": 3}, "early_stop=3 cannot be had: the setting was removed. Choose fewer epochs"),
        ({"focal_gamma": 2.0}, "focal_gamma=2.0 cannot be had"),
        ({"momentum": 0.9}, "there is no setting 'momentum'"),
        ({"epohcs": 3}, r"'epohcs' \(did you mean 'optimiser.epochs'\?\)"),
        ({"head.epochs": 3}, r"'head.epochs' \(did you mean 'optimiser.epochs'\?\)"),
        ({"optimiser": {"epohcs": 3}}, r"'optimiser.epohcs' \(did you mean 'optimiser.epochs'\?\)"),
        ({"imgae": {"side": 64}}, r"'imgae' \(did you mean 'image'\?\)"),
        ({"epochs": 3, "optimiser": {"epochs": 4}}, "optimiser.epochs is given twice"),
        ({"optimiser": "adam"}, "optimiser: write names and values"),
        ({"image": {"side": 5000}}, "image.side: write 1024 or less, not 5000"),
    ],
)
def test_what_cannot_be_meant_is_named_with_where_it_would_belong(values, why):
    with pytest.raises(WrongValue, match=why):
        TASK.recipe("strong", **(BEFORE_GROUPS | values if "early_stop" in values else values))


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda r: f"{r.__module__.split('.')[2]}-{r.__name__}")
def test_a_recipe_is_the_same_after_a_card_in_either_form(recipe):
    own = recipe()
    assert own.changes() == {}
    assert recipe_with(recipe, json.loads(json.dumps(own.model_dump(mode="json")))) == own
    assert recipe_with(recipe, own.flat()) == own
    assert leaves(own.model_dump(mode="json")) == leaves(own.flat()) == own.flat()
    assert set(dotted(own.model_dump(mode="json"))) == set(recipe.paths().values())


def test_every_setting_is_changed_by_a_recipe_or_named_with_its_use():
    """A setting nobody needs is one more to read, to test and to be wrong about."""
    changed: set[str] = set()
    for recipe in RECIPES:
        base = next(b for b in recipe.__mro__ if b.__name__.endswith("Recipe"))
        plain = base().flat()
        changed |= {name for name, value in recipe().flat().items() if value != plain[name]}
    with_a_use = {
        "seed", "workers", "precision", "accelerator", "devices", "nodes", "strategy", "accumulate",
            "compile",  # of the run and its machines: docs/scaling.md
        "contrast", "labelled_share", "pseudo_labels", "extra_weight", "int8", "local_cases",  # docs/results.md
        "teacher", "teacher_version", "teacher_share", "teacher_temperature", "teacher_crops",  # docs/howto/recipes.md
        "face_weights", "landmark_weights", "recognition_weights",  # README: files somebody has
    }  # fmt: skip
    assert {name for recipe in RECIPES for name in recipe.paths()} - changed - with_a_use == set()


def test_no_model_of_before_is_renamed_by_integers():
    """Whoever trained for hours would find nothing where the model lies, and train again."""
    for recipe in RECIPES:
        assert "int8" not in recipe().identity()
    for task in ("lesion_classification", "lesion_segmentation"):
        assert get_task(task).recipe("drawn", int8=True).identity()["int8"] is True


def test_no_two_settings_have_one_name():
    class Other(Group):
        epochs: int = 1

    with pytest.raises(TypeError, match="two settings of one name: epochs"):

        class Ambiguous(TrainingRecipe):
            other: Other = Other()


def test_a_recipe_that_only_changes_a_default_keeps_limit_and_description():
    for recipe in RECIPES:
        assert all(field.description for name, field in recipe.model_fields.items() if name not in recipe.groups())
        with pytest.raises(WrongValue, match="seed: write 0 or more"):
            recipe_with(recipe, {"seed": -1})
    with pytest.raises(WrongValue, match="members: write 8 or less"):
        TASK.recipe("strong", members=9)


def test_members_are_the_recipe_with_one_network():
    recipe = get_task("lesion_segmentation").recipe("strong", seed=4, networks=["unet", "improved_unet"])
    assert isinstance(recipe, SegmenterRecipe)
    second = recipe.member(1)
    changed = {"seed": (0, 5), "members": (2, 1), "network.networks": (["unet"], ["improved_unet"])}
    assert second.changes() == changed
    assert second.optimiser == recipe.optimiser


def test_but_changes_what_it_names_and_checks_it():
    recipe = ClassifierRecipe(optimiser=Optimiser(epochs=3))
    assert recipe.but(workers=2).changes() == {"optimiser.epochs": (20, 3), "hardware.workers": (-1, 2)}
    with pytest.raises(ValueError, match="batch_size"):
        recipe.optimiser.but(batch_size=0)
    assert issubclass(ClassifierRecipe, Recipe)
