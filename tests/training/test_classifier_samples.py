"""What a network is shown of an image, drawn from the seed of the sample alone."""

from __future__ import annotations

import numpy as np
import pytest

from derm_ml.registry import get_task
from derm_ml.sentences import WrongValue
from derm_ml.training.classifier_samples import select, training_samples

pytestmark = pytest.mark.slow  # imports torch

TASK = get_task("lesion_classification")


def test_the_share_of_images_on_another_background_shows_the_same_lesions(drawn_dataset):
    rows = drawn_dataset.split("train")

    def shown(share: float) -> np.ndarray:
        recipe = TASK.recipe("strong", augmentation="none", side=64, training_side=0, other_background=share)
        load = training_samples(drawn_dataset, rows, recipe.image, recipe.patient)
        return np.stack([load(index, seed=index)[0] for index in range(40)]).astype(int)

    own, half, all_other = (shown(share) for share in (0.0, 0.5, 1.0))
    middle, corner = (slice(None), slice(24, 40), slice(24, 40)), (slice(None), slice(0, 4), slice(0, 4))
    assert np.abs(all_other[middle] - own[middle]).max() <= 1
    changed = [np.abs(images[corner] - own[corner]).mean((1, 2, 3)) > 1 for images in (half, all_other)]
    assert changed[1].mean() > 0.8
    assert changed[0].mean() == pytest.approx(0.5, abs=0.25)
    assert (shown(0.5) == half).all()


def test_a_teacher_is_not_asked_about_one_image_and_taught_with_another(drawn_dataset, trained):
    recipe = TASK.recipe("distilled", teacher=str(trained), other_background=0.5)
    with pytest.raises(WrongValue, match="teacher and other_background cannot be set together"):
        select(drawn_dataset, recipe, lambda targets: targets)
