"""Where the figures of a page come from, as every page of an evaluation says it: in its head, and in full below."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from derm_ml.evaluation.record import Evaluation
from derm_ml.provenance import NOT_RECORDED, rows


def measured_line(evaluation: Evaluation) -> str:
    """One line below the title: when it was measured, the dataset, how long the training took."""
    found = evaluation.provenance
    images = ", ".join(f"{split} {n}" for split, n in found.images.items())
    return (
        f"Measured {found.measured.day}. Dataset {evaluation.dataset_md5[:12]}: "
        f"{f'{images} images' if images else f'number of images {NOT_RECORDED}'}. "
        f"Training time {found.trained.took}."
    )


def provenance_lines(evaluation: Evaluation, changed: Mapping[str, tuple[Any, Any]] | None = None) -> dict[str, str]:
    """Everything that leads back to model, data and code; what nobody noted is "not recorded".

    `changed`: the settings in which the recipe differs from its default, name → default and own value; None: not known.
    """
    made = rows(evaluation.provenance)
    return {
        "Task": evaluation.task,
        "Model version": evaluation.model_version,
        "Dataset md5": evaluation.dataset_md5,
        "Images of the dataset": made.pop("Images of the dataset"),
        "Split, hash": f"{evaluation.split}, {evaluation.split_hash}",
        "Labels": ", ".join(evaluation.labels),
        "Recipe": evaluation.recipe_name,
        "Changed in it": changed_in_words(changed),
        "Git commit": evaluation.git_commit,
        **made,
    }


def changed_in_words(changed: Mapping[str, tuple[Any, Any]] | None) -> str:
    """The settings in which a recipe differs from its default, in words."""
    if changed is None:
        return "the default of this recipe is not known here"
    told = ", ".join(f"{name} {own} (default {default})" for name, (default, own) in changed.items())
    return told or "nothing: the default"
