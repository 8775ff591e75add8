"""Pseudo-labels: what they may see, how many there may be, and that nobody can slip others in."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from derm_ml.bundles.classifier import Classifier
from derm_ml.metrics.classification import mean_auc
from derm_ml.metrics.intervals import estimate
from derm_ml.model_folder import ModelFolder
from derm_ml.predictions.classifier import keep, predictions_of
from derm_ml.records import DataError
from derm_ml.registry import get_task
from derm_ml.training.pseudo_labels import (
    MOST_ENTROPY,
    SHOWN,
    audited,
    label_spreading,
    labelled_rows,
    propose,
    read_pseudo_labels,
    surest_classes,
    unlabelled_rows,
    write_proposal,
)

pytestmark = pytest.mark.slow  # imports torch

SHARE, SEED = 0.4, 0


def test_labels_spread_along_the_points_not_across_the_gap():
    """Two half circles that reach into each other, two labels: a straight line cannot separate them."""
    angles = np.linspace(0, np.pi, 60)
    upper = np.stack([np.cos(angles), np.sin(angles)], 1)
    lower = np.stack([1 - np.cos(angles), 0.4 - np.sin(angles)], 1)
    shares = label_spreading(
        np.stack([upper[0], lower[0]]), np.array([0, 1]), np.concatenate([upper[1:], lower[1:]]), 2
    )
    assert (shares[:59, 0] > 0.5).all()
    assert (shares[59:, 1] > 0.5).all()
    assert np.allclose(shares.sum(axis=1), 1)


def test_points_no_label_reaches_get_even_shares():
    far = np.random.default_rng(0).normal(100, 0.1, (30, 2))
    shares = label_spreading(np.array([[0.0, 0.0], [0.0, 1.0]]), np.array([0, 1]), far, 2)
    assert np.allclose(shares[5:].sum(axis=1), 1)
    assert np.isfinite(shares).all()


@given(st.integers(0, 10_000), st.floats(0.05, 0.95))
def test_of_no_class_are_there_more_than_its_share_and_only_sure_ones(seed, prior):
    rng = np.random.default_rng(seed)
    positive = rng.beta(0.3, 0.3, 200)
    shares, priors = np.stack([1 - positive, positive], 1), np.array([1 - prior, prior])
    found = surest_classes(shares, priors)
    for k in (0, 1):
        assert (found == k).sum() <= priors[k] * 200 + 1e-6
        chosen, refused = positive[found == k], positive[(found != k) & (shares.argmax(1) == k)]
        if len(chosen) and len(refused):
            assert np.abs(chosen - 0.5).min() >= np.abs(refused - 0.5).max() - 1e-9, "the surest come first"
    p = positive[found >= 0]
    p = p[(p > 0) & (p < 1)]
    entropy = -(p * np.log2(p) + (1 - p) * np.log2(1 - p))
    assert (entropy <= MOST_ENTROPY + 1e-9).all()


def test_the_audit_counts_what_was_given_and_known():
    given_, true = np.array([[1.0], [1.0], [0.0], [np.nan], [1.0]]), np.array([[1.0], [0.0], [0.0], [1.0], [np.nan]])
    present, absent = audited(given_, true, np.array(list("abcde")), ["glaucoma"])
    assert (present["n"], present["precision"]) == (2, 0.5)
    assert (absent["n"], absent["precision"]) == (1, 1.0)
    assert present["low"] < 0.05 < 0.95 < present["high"]  # one right of two says next to nothing


def test_twins_of_held_out_images_are_left_out(retinal_dataset):
    table = retinal_dataset.manifest.copy()
    stranger = table.index[table["split"] == "unlabelled"][0]
    table.loc[stranger, "group"] = table.loc[table["split"] == "test", "group"].iloc[0]
    changed = type(retinal_dataset)(retinal_dataset.path, retinal_dataset.info, table)
    pool, excluded = unlabelled_rows(changed, changed.split("train"))
    assert excluded == 1
    assert table.loc[stranger, "id"] not in set(pool["id"])
    assert set(pool["split"]) == {"unlabelled"}


def test_a_share_of_labels_takes_whole_patients(retinal_dataset):
    kept = labelled_rows(retinal_dataset, SHARE, SEED)
    rest = retinal_dataset.split("train")
    rest = rest[~rest["id"].isin(kept["id"])]
    assert not set(kept["group"]) & set(rest["group"])
    assert len(kept) / (len(kept) + len(rest)) == pytest.approx(SHARE, abs=0.1)


def test_test_images_take_part_in_nothing_and_a_changed_table_is_refused(retinal_trained, retinal_dataset, tmp_path):
    shutil.copytree(retinal_trained / "bundle", tmp_path / "bundle")
    predictor = Classifier(tmp_path / "bundle")
    proposal = propose(predictor, retinal_dataset)
    assert not ModelFolder(tmp_path).predicted(retinal_dataset.md5, "test").exists(), "nobody asked for it"
    said = predictions_of(predictor, retinal_dataset, "test").outputs
    elsewhere = replace(said, embedding=said.embedding + 100)
    keep(ModelFolder(tmp_path), predictor.bundle, retinal_dataset, "test", elsewhere)
    again = propose(predictor, retinal_dataset)
    pd.testing.assert_frame_equal(proposal.table, again.table)
    assert proposal.audit == again.audit
    assert set(proposal.table["id"]) <= set(retinal_dataset.split("unlabelled")["id"])
    made = write_proposal(proposal, predictor, retinal_dataset, tmp_path)
    assert made["surest"].read_bytes()[:4] == b"\x89PNG"
    shown = made["surest_page"].read_text(encoding="utf-8")
    assert shown.count("<li>") == min(proposal.used, SHOWN)
    share, seed = 1.0, predictor.card.recipe["seed"]
    if proposal.used:
        given_ = read_pseudo_labels(made["pseudo_labels"], retinal_dataset, share, seed)
        assert len(given_.rows) == len(given_.targets) == proposal.used
    with pytest.raises(DataError, match="labelled_share"):
        read_pseudo_labels(made["pseudo_labels"], retinal_dataset, 0.5, seed)
    made["pseudo_labels"].write_text(made["pseudo_labels"].read_text() + "\n")
    with pytest.raises(DataError, match="was changed"):
        read_pseudo_labels(made["pseudo_labels"], retinal_dataset, share, seed)
    audit = json.loads(made["audit"].read_text())
    assert {row["slice"] for row in audit["precision"]} == {"hidden validation images"}


def test_the_gain_is_that_of_the_probabilities_that_are_reported(tinted_dataset, tmp_path):
    """Where labels exclude each other, one logit ranks images otherwise: a student may win by it and lose."""
    task = get_task("lesion_classification")
    settings = {"epochs": 1, "side": 48, "workers": 0, "views": "none", "labelled_share": 0.5}
    teacher = Classifier(task.fit(tinted_dataset, task.recipe("drawn", **settings), tmp_path / "teacher"))
    proposal = propose(teacher, tinted_dataset)
    for label in teacher.labels:
        proposal.table[f"pseudo.{label}"] = proposal.table[f"truth.{label}"]
    proposal.table["used"] = True
    made = write_proposal(proposal, teacher, tinted_dataset, tmp_path / "table")
    taught = task.recipe("drawn", **settings, pseudo_labels=str(made["pseudo_labels"]))
    student = Classifier(task.fit(tinted_dataset, taught, tmp_path / "student"))
    columns = [teacher.labels.index(label) for label in ("melanoma", "seborrheic_keratosis")]
    truth = tinted_dataset.targets(tinted_dataset.split("validation"))[:, columns]
    before, after = (
        estimate(mean_auc, predictions_of(model, tinted_dataset, "validation").outputs.probabilities[:, columns], truth)
        for model in (teacher, student)
    )
    assert student.card.pseudo_labels.gain == pytest.approx(after - before)
