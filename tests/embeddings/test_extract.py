"""The embedding table: a vector under the wrong id, or of another model, would poison all that is built on it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from derm_ml.bundles.classifier import Classifier
from derm_ml.embeddings.extract import codes_of, read_embeddings, table_of, unit, vectors, write_embeddings
from derm_ml.model_folder import ModelFolder
from derm_ml.predictions.classifier import keep, predictions_of


@pytest.fixture(scope="module")
def predictor(trained) -> Classifier:
    return Classifier(trained / "bundle")


def test_each_row_holds_the_vector_of_its_own_picture(predictor, drawn_dataset, tmp_path):
    table = table_of(predictor, drawn_dataset, ModelFolder(tmp_path))
    assert list(table["id"]) == list(drawn_dataset.manifest["id"])
    for place in (0, 5, len(table) - 1):
        outputs = predictor([drawn_dataset.image(drawn_dataset.manifest.iloc[place])])
        np.testing.assert_allclose(table["embedding"][place], outputs.embedding[0], atol=1e-4)
        assert table["predicted"][place] == predictor.labels[outputs.probabilities[0].argmax()]
        assert table[f"p.{predictor.labels[0]}"][place] == pytest.approx(outputs.probabilities[0, 0], abs=1e-5)


def test_what_was_predicted_for_another_purpose_is_not_predicted_again(predictor, drawn_dataset, tmp_path):
    """Embeddings of a large set take as long as its evaluation: 13 minutes of eight views on two cores."""
    predictions_of(predictor, drawn_dataset, "test", ModelFolder(tmp_path))
    done: list[int] = []
    whole = table_of(predictor, drawn_dataset, ModelFolder(tmp_path), done.append)
    assert sum(done) == len(drawn_dataset.manifest) - len(drawn_dataset.split("test"))
    some = table_of(predictor, drawn_dataset, ModelFolder(tmp_path), done.append, splits=("validation", "unlabelled"))
    assert sum(done) == len(drawn_dataset.manifest) - len(drawn_dataset.split("test"))
    assert list(some["id"]) == list(whole.loc[whole["split"] == "validation", "id"])


def test_vectors_that_are_no_numbers_are_refused_with_the_image(predictor, drawn_dataset, tmp_path):
    said = predictions_of(predictor, drawn_dataset, "test").outputs
    broken = said.embedding.copy()
    broken[3, 0] = np.nan
    keep(ModelFolder(tmp_path), predictor.bundle, drawn_dataset, "test", replace(said, embedding=broken))
    with pytest.raises(ValueError, match=f"the first is that of {drawn_dataset.split('test')['id'].iloc[3]}"):
        table_of(predictor, drawn_dataset, ModelFolder(tmp_path))


def test_codes_are_made_once_and_again_for_another_model(predictor, drawn_dataset, tmp_path):
    done: list[int] = []
    path = tmp_path / "codes.parquet"
    first = codes_of(predictor, drawn_dataset, path, {}, done.append)
    assert sum(done) == len(drawn_dataset.manifest) == len(first)
    again = codes_of(predictor, drawn_dataset, path, {}, done.append)
    assert sum(done) == len(first)
    np.testing.assert_array_equal(vectors(first), vectors(again))
    pd.testing.assert_frame_equal(first.drop(columns="embedding"), again.drop(columns="embedding"))

    stale = read_embeddings(path)
    stale["model_version"] = "another"
    write_embeddings(stale, path)
    known = dict(zip(first["id"][:7], first["embedding"][:7], strict=True))
    made = codes_of(predictor, drawn_dataset, path, known, done.append)
    assert (made["model_version"] != "another").all()
    assert sum(done) == 2 * len(first) - 7
    np.testing.assert_allclose(vectors(made), vectors(first), atol=1e-4)


def test_unit_vectors_have_length_one_and_zeros_do_not_become_nan():
    found = unit(np.array([[3.0, 4.0], [0.0, 0.0]]))
    np.testing.assert_allclose(found, [[0.6, 0.8], [0, 0]])
