"""The lesion is hidden whole, what surrounds it is removed whole, and the tone of the skin is that of known colours."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from derm_ml.bundles.segmenter import Segmenter
from derm_ml.data.dataset import Dataset
from derm_ml.data.prepare import prepare
from derm_ml.images.changes import LEAKS, STRESS
from derm_ml.images.lesion_place import background_removed, boxed, central, lesion_hidden, on_background_of, skin_tone
from derm_ml.predictions.places import LesionPlaces
from derm_ml.registry import get_task
from derm_ml.synthetic.lesions import draw_lesion

FORMAT_1 = Path(__file__).parents[1] / "fixtures" / "format_1" / "out"


def test_of_a_hidden_lesion_nothing_is_left_and_its_surroundings_stay():
    lesion = draw_lesion("melanoma", 4, side=144, width=192)
    place = boxed(lesion.mask)
    assert place is not None
    assert place[lesion.mask > 0].all()
    hidden = lesion_hidden(lesion.image, place)
    assert np.ptp(hidden[place].reshape(-1, 3), axis=0).max() == 0  # one colour: not even the outline is seen
    far = ~cv2.dilate(place.astype(np.uint8), np.ones((31, 31))).astype(bool)
    assert (hidden[far] == lesion.image[far]).all()


def test_without_its_background_the_lesion_is_as_it_was_and_a_dot_in_the_corner_is_gone():
    lesion = draw_lesion("nevus", 5, side=144, width=192)
    image = lesion.image.copy()
    image[:12, :12] = (255, 0, 0)
    place = boxed(lesion.mask)
    assert place is not None
    alone = background_removed(image, place)
    inner = cv2.erode(place.astype(np.uint8), np.ones((31, 31))).astype(bool)
    assert (alone[inner] == image[inner]).all()
    assert np.ptp(alone[~place].reshape(-1, 3), axis=0).max() == 0
    assert boxed(np.zeros((10, 10), np.uint8)) is None


@pytest.mark.parametrize(
    ("colour", "low", "high"), [((240, 214, 196), 55, 90), ((198, 148, 118), 20, 41), ((90, 60, 44), -90, -10)]
)
def test_the_tone_of_skin_is_that_of_its_colour_whatever_the_lesion(colour, low, high):
    image = np.full((100, 120, 3), colour, np.uint8)
    image[30:70, 30:90] = (60, 30, 25)
    image[:8] = 0  # a black frame is no skin
    assert low < skin_tone(image, central(100, 120)) < high
    assert np.isnan(skin_tone(np.zeros((100, 120, 3), np.uint8), central(100, 120)))


def test_a_lesion_on_another_background_is_the_lesion_and_that_background():
    image = draw_lesion("melanoma", 4, side=144, width=192).image
    other = draw_lesion("nevus", 5, side=100, width=100).image
    place = central(*image.shape[:2])
    shown = on_background_of(other, image, place)
    around = cv2.resize(other, (192, 144), interpolation=cv2.INTER_AREA)
    edge = cv2.dilate(place.astype(np.uint8), np.ones((25, 25))).astype(bool)
    inside = cv2.erode(place.astype(np.uint8), np.ones((25, 25))).astype(bool)
    assert (shown[inside] == image[inside]).all()
    assert (shown[~edge] == around[~edge]).all()


@pytest.mark.parametrize("change", [*STRESS.values(), *LEAKS.values()])
def test_a_change_is_the_same_every_time_and_leaves_the_image_it_was_given(change):
    image = draw_lesion("nevus", 6).image
    before = image.copy()
    first, second = change(image), change(image)
    assert (first == second).all()
    assert (image == before).all()
    assert first.dtype == np.uint8
    assert first.shape != image.shape or (first != image).any()


def test_the_place_is_the_segmenters_then_the_datasets_then_the_middle(tmp_path):
    task = get_task("lesion_segmentation")
    task.draw(tmp_path / "raw", 12, 1)
    dataset = Dataset.open(prepare(task, tmp_path / "raw", task.settings(), tmp_path / task.name).path)
    row = dataset.split("train").iloc[0].to_dict()
    image = dataset.image(row)
    mask = cv2.resize(dataset.mask(row), image.shape[1::-1], interpolation=cv2.INTER_NEAREST) > 0
    given = LesionPlaces().of(dataset, row, image)
    assert given[mask].all()
    assert given.mean() < central(*image.shape[:2]).mean()
    nowhere = {name: value for name, value in row.items() if name != "mask.shard"}
    assert (LesionPlaces().of(dataset, nowhere, image) == central(*image.shape[:2])).all()
    segmenter = Segmenter(FORMAT_1 / "lesion_segmentation" / "drawn" / "bundle")
    found = boxed(segmenter.segment([image])[0].mask)
    drawn = LesionPlaces(segmenter).of(dataset, nowhere, image)
    assert (drawn == (central(*image.shape[:2]) if found is None else found)).all()
    assert segmenter.bundle.version in LesionPlaces(segmenter).said(dataset)
