"""Labels in doubt: what is wrong is named, what is only hard is not, and nobody vouches for himself."""

from __future__ import annotations

import numpy as np
import pytest

from derm_ml.audit.labels import confident_learning, doubt, is_separable

CLASSES = ("melanoma", "nevus", "keratosis")


def points(n: int, apart: float, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(vectors, one-hot targets, groups) of three classes whose centres lie `apart` standard deviations from 0."""
    rng = np.random.default_rng(seed)
    classes = np.arange(n) % 3
    vectors = rng.normal(size=(n, 12))
    vectors[np.arange(n), classes] += apart
    return vectors, np.eye(3)[classes], np.arange(n).astype(str)


def test_the_confident_joint_of_a_case_counted_by_hand():
    """Northcutt et al., section 3.1: above the mean of another class, and not above that of its own."""
    probabilities = np.array([[0.9, 0.1], [0.8, 0.2], [0.05, 0.95], [0.1, 0.9], [0.2, 0.8], [0.55, 0.45]])
    margin, other, flagged = confident_learning(probabilities, np.array([0, 0, 0, 1, 1, 1]))
    assert margin == pytest.approx([-0.8, -0.6, 0.9, -0.8, -0.6, 0.1])
    assert other.tolist() == [1, 1, 1, 0, 0, 0]
    assert flagged.tolist() == [False, False, True, False, False, False]


def test_a_changed_label_is_in_doubt_with_the_right_one_beside_it():
    vectors, targets, groups = points(150, apart=5)
    wrong = [4, 50, 99]
    before = targets.argmax(axis=1)
    targets[wrong] = np.roll(targets[wrong], 1, axis=1)
    doubts = doubt(vectors, targets, CLASSES, groups)
    assert set(np.flatnonzero(doubts.flagged)) == set(wrong)
    assert [doubts.suggested[k] for k in wrong] == [CLASSES[before[k]] for k in wrong]
    assert [doubts.given[k] for k in wrong] == [CLASSES[targets[k].argmax()] for k in wrong]


def test_where_labels_do_not_follow_from_the_images_none_is_called_wrong():
    """Otherwise a clinic would relabel its hard cases into the most frequent class."""
    rng = np.random.default_rng(0)
    vectors, targets, groups = points(300, apart=0.8)
    rare = targets.argmax(axis=1) == 0
    kept = ~rare | (rng.random(300) < 0.15)  # as melanomas are among nevi
    doubts = doubt(vectors[kept], targets[kept], CLASSES, groups[kept])
    assert not is_separable(doubts.separated["label"])
    assert (doubts.score > 0.5).any()  # they are ranked
    assert not doubts.flagged.any()  # and no more


def test_a_copy_with_the_same_wrong_label_does_not_confirm_it():
    """Images of one group (patient, lesion, duplicates) are never learned from and asked about at once."""
    vectors, targets, groups = points(150, apart=3)
    targets[4] = np.roll(targets[4], 1)
    copies = 8  # of one image, all with its wrong label
    vectors = np.vstack([vectors, np.repeat(vectors[4:5], copies, axis=0)])
    targets = np.vstack([targets, np.repeat(targets[4:5], copies, axis=0)])
    together = np.concatenate([groups, ["4"] * copies])
    apart = np.concatenate([groups, [f"copy {k}" for k in range(copies)]])
    assert doubt(vectors, targets, CLASSES, together).score[4] > 0.5 > doubt(vectors, targets, CLASSES, apart).score[4]


def test_independent_labels_are_judged_one_by_one_and_an_unknown_one_is_not():
    rng = np.random.default_rng(0)
    targets = (rng.random((200, 2)) < 0.4).astype(float)
    vectors = np.hstack([targets * 5, np.zeros((200, 4))]) + rng.normal(size=(200, 6))
    targets[0] = np.nan
    targets[7, 1] = 1 - targets[7, 1]
    doubts = doubt(vectors, targets, ("glaucoma", "retinopathy"), np.arange(200).astype(str))
    assert np.flatnonzero(doubts.flagged).tolist() == [7]
    assert {doubts.given[7], doubts.suggested[7]} == {"retinopathy", "not retinopathy"}
    assert np.isnan(doubts.score[0])
    assert doubts.given[0] == ""
    assert set(doubts.separated) == {"glaucoma", "retinopathy"}


def test_a_class_of_a_few_images_is_named_and_not_judged():
    vectors, targets, groups = points(60, apart=5)
    few = (targets[:, 2] == 0) | (np.arange(60) < 12)
    doubts = doubt(vectors[few], targets[few], CLASSES, groups[few])
    assert doubts.unjudged == ("keratosis: 4 images in 4 groups, at least 10 in 5 are needed",)
    assert np.isnan(doubts.score[targets[few][:, 2] == 1]).all()
    assert is_separable(doubts.separated["label"])


def test_one_class_alone_gives_no_doubts_and_says_why():
    doubts = doubt(np.zeros((20, 3)), np.ones((20, 1)), ("lesion",), np.arange(20).astype(str))
    assert not doubts.flagged.any()
    assert "no two labels" in doubts.separated["lesion"].note
