"""The autoencoder from drawn pictures to its report: trained, sealed, asked, compared with a classifier's embedding."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from derm_ml.bundles.bundle import BundleError
from derm_ml.bundles.classifier import Classifier
from derm_ml.embeddings.autoencoder import AutoencoderPredictor
from derm_ml.evaluation.autoencoder import report_autoencoder
from derm_ml.evaluation.report import save as save_report
from derm_ml.metrics.reconstruction import psnr
from derm_ml.training.autoencoder import fit_autoencoder
from derm_ml.training.autoencoder_recipes import AUTOENCODERS

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def folder(drawn_dataset, tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("autoencoder")
    recipe = AUTOENCODERS["drawn_autoencoder"](epochs=20, batch_size=8, side=32, code=16, workers=0)
    fit_autoencoder(drawn_dataset, recipe, out, lambda _: None)
    return out


@pytest.fixture(scope="module")
def model(folder) -> AutoencoderPredictor:
    return AutoencoderPredictor(folder / "bundle")


def test_it_learns_more_than_the_mean_colour(model, drawn_dataset):
    rows = drawn_dataset.split("test").head(8)
    found = model([drawn_dataset.image(row) for _, row in rows.iterrows()])
    assert found.embedding.shape == (8, 16)
    flat = np.broadcast_to(found.square.mean(axis=(0, 1, 2)), found.square.shape).astype(np.uint8)
    gained = [psnr(a, b) - psnr(a, c) for a, b, c in zip(found.square, found.reconstruction, flat, strict=True)]
    assert np.mean(gained) > 0


def test_a_code_does_not_depend_on_the_other_pictures_of_its_batch(model, drawn_dataset):
    images = [drawn_dataset.image(row) for _, row in drawn_dataset.split("test").head(3).iterrows()]
    np.testing.assert_allclose(model(images).embedding[1], model(images[1:2]).embedding[0], atol=1e-4)


def test_the_report_shows_reconstructions_and_compares_the_codes(model, folder, drawn_dataset, table, tmp_path):
    report = report_autoencoder(model, drawn_dataset, "drawn", classifier=table)
    assert {"psnr", "ssim", "checkerboard_energy", "code_silhouette", "code_precision_at_5"} <= set(report.metrics)
    assert report.metrics["psnr"].low <= report.metrics["psnr"].value <= report.metrics["psnr"].high
    assert [row["label"] for row in report.tables["by_class"]] == sorted(drawn_dataset.labels)
    for row in report.tables["against_classifier"]:  # the table of the fixture separates the classes by construction
        assert row["classifier"] > 0.9
        assert row["difference"] == pytest.approx(row["classifier"] - row["autoencoder"])
    assert {"reconstructions", "loss", "precision"} == set(report.figures)
    page = (save_report(report, tmp_path / "report") / "report.html").read_text()
    assert "Reconstructions" in page
    assert (folder / "codes.parquet").exists()


def test_a_classifier_is_not_taken_for_an_autoencoder_nor_the_other_way(folder, trained):
    with pytest.raises(BundleError, match="is a classifier, not an autoencoder"):
        AutoencoderPredictor(trained / "bundle")
    with pytest.raises(BundleError, match="is an autoencoder, not a classifier"):
        Classifier(folder / "bundle")


def test_a_fit_that_is_done_is_not_done_again(folder, drawn_dataset):
    told = []
    recipe = AUTOENCODERS["drawn_autoencoder"](epochs=20, batch_size=8, side=32, code=16, workers=0)
    assert fit_autoencoder(drawn_dataset, recipe, folder, told.append) == folder / "bundle"
    assert not told
