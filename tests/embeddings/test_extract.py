"""The embedding table: a vector under the wrong id, or of another model, would poison all that is built on it."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from derm_ml.bundles.classifier import Classifier
from derm_ml.embeddings.extract import embed, embeddings_of, read_embeddings, unit, vectors, write_embeddings


@pytest.fixture(scope="module")
def predictor(trained) -> Classifier:
    return Classifier(trained / "bundle")


def test_each_row_holds_the_vector_of_its_own_picture(predictor, drawn_dataset):
    rows = drawn_dataset.split("test").sample(frac=1, random_state=0)  # not the order of the manifest
    table = embed(predictor, drawn_dataset, rows)
    assert list(table["id"]) == list(rows["id"])
    for place in (0, 5, len(table) - 1):
        outputs = predictor([drawn_dataset.image(rows.iloc[place])])
        np.testing.assert_allclose(table["embedding"][place], outputs.embedding[0], atol=1e-4)
        assert table["predicted"][place] == predictor.labels[outputs.probabilities[0].argmax()]
        assert table[f"p.{predictor.labels[0]}"][place] == pytest.approx(outputs.probabilities[0, 0], abs=1e-5)


def test_the_table_is_made_once_and_again_for_another_model_or_other_data(predictor, drawn_dataset, tmp_path):
    done: list[int] = []
    path = tmp_path / "embeddings.parquet"
    first = embeddings_of(predictor, drawn_dataset, path, done.append)
    assert sum(done) == len(drawn_dataset.manifest) == len(first)
    again = embeddings_of(predictor, drawn_dataset, path, done.append)
    assert sum(done) == len(first)
    np.testing.assert_array_equal(vectors(first), vectors(again))
    pd.testing.assert_frame_equal(first.drop(columns="embedding"), again.drop(columns="embedding"))

    stale = read_embeddings(path)
    stale["model_version"] = "another"
    write_embeddings(stale, path)
    assert (embeddings_of(predictor, drawn_dataset, path, done.append)["model_version"] != "another").all()


def test_unit_vectors_have_length_one_and_zeros_do_not_become_nan():
    found = unit(np.array([[3.0, 4.0], [0.0, 0.0]]))
    np.testing.assert_allclose(found, [[0.6, 0.8], [0, 0]])
