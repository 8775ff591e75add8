"""Golden answers: what a model said where it was built, it must say where it is loaded."""

from __future__ import annotations

import base64
import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from derm_ml.images.decode import decode
from derm_ml.registry import get_task
from serving import golden
from serving.golden import GOLDEN, GoldenError, difference, verify, write

pytestmark = pytest.mark.slow


@pytest.fixture(params=["lesion_classification", "lesion_segmentation", "persistent_conditions"])
def model(request, bundle, write_segmenter, write_pair_bundle, tmp_path):
    """A task and a predictor of it."""
    task = get_task(request.param)
    if request.param == "lesion_classification":
        path = bundle
    else:
        write = write_segmenter if request.param == "lesion_segmentation" else write_pair_bundle
        path = write(tmp_path / "bundle")
    return task, task.load(path)


def test_a_model_gives_its_golden_answers_and_one_that_does_not_is_named(model, tmp_path):
    task, predictor = model
    path = tmp_path / GOLDEN
    write(task, predictor, path)
    verify(task, predictor, path)
    stored = json.loads(path.read_text())
    assert all(case["numbers"] for case in stored["cases"])
    if predictor.card.head != "pairs":
        assert len({json.dumps(case["numbers"]) for case in stored["cases"]}) > 1  # answers that say something
    name = next(iter(stored["cases"][1]["numbers"]))
    stored["cases"][1]["numbers"][name] += 2e-5
    path.write_text(json.dumps(stored))
    with pytest.raises(GoldenError, match="golden answer 1 of"):
        verify(task, predictor, path)


def test_the_images_are_synthetic_and_the_same_everywhere(model, tmp_path):
    """A Bento leaves the machine: no patient may be in it."""
    task, predictor = model
    write(task, predictor, tmp_path / GOLDEN)
    cases = json.loads((tmp_path / GOLDEN).read_text())["cases"]
    for case, image in zip(cases, golden._images(), strict=True):
        shown = decode(base64.b64decode(case["images"][0]))  # of a pair the left part
        np.testing.assert_array_equal(shown, image[:, : shown.shape[1]])


@pytest.mark.parametrize("content", ["", "{", "[]", '{"model_version": "x"}', '{"model_version": "x", "cases": []}'])
def test_what_is_no_golden_file_is_refused_in_a_sentence(model, tmp_path, content):
    (tmp_path / GOLDEN).write_text(content)
    with pytest.raises(GoldenError, match="build the Bento again"):
        verify(*model, tmp_path / GOLDEN)


numbers = st.dictionaries(st.sampled_from("abc"), st.one_of(st.none(), st.floats(0, 1)), max_size=3)


@given(numbers, numbers)
def test_a_difference_is_zero_only_between_equals(first, second):
    """A name that is missing, or a number that became none, must never count as alike."""
    assert difference(first, first) == 0
    assert difference(first, second) == difference(second, first)
    assert (difference(first, second) == 0) == (first == second)
