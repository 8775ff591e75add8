"""One Classifier for all: were it not deterministic or not exact, what is served would not be what was evaluated."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from derm_ml.bundles.bundle import Bundle, BundleError
from derm_ml.bundles.classifier import Classifier
from derm_ml.bundles.segmenter import Segmenter


def test_a_batch_says_what_single_pictures_say(trained, drawn_dataset):
    predictor = Classifier(trained / "bundle")
    images = [drawn_dataset.image(row) for _, row in drawn_dataset.split("test").head(5).iterrows()]
    together = predictor(images)
    for number, image in enumerate(images):
        alone = predictor([image])
        np.testing.assert_allclose(alone.probabilities[0], together.probabilities[number], atol=1e-5)
        np.testing.assert_allclose(alone.maps[0], together.maps[number], atol=1e-5)


def test_a_turned_picture_gets_the_same_answer_and_a_turned_heatmap(trained, drawn_dataset):
    """Flips are averaged over, so the answer may not depend on how the dermatoscope was held."""
    predictor = Classifier(trained / "bundle")
    image = drawn_dataset.image(drawn_dataset.split("test").iloc[0])
    a, b = predictor([image]), predictor([image[:, ::-1]])
    np.testing.assert_allclose(a.probabilities, b.probabilities, atol=1e-4)
    np.testing.assert_allclose(a.maps, b.maps[..., ::-1], atol=1e-4 * float(a.maps.max()))


@pytest.fixture
def copied(trained, tmp_path) -> Path:
    return Path(shutil.copytree(trained / "bundle", tmp_path / "bundle"))


def test_a_bundle_with_one_changed_byte_is_not_loaded(copied):
    weights = copied / "weights.safetensors"
    data = bytearray(weights.read_bytes())
    data[-1] ^= 1
    weights.write_bytes(data)
    with pytest.raises(BundleError, match=r"weights\.safetensors: its sha256"):
        Classifier(copied)


def test_a_graph_that_cannot_run_is_a_bundle_error_though_its_sha256_is_right(copied):
    """A service then stays alive and not ready, instead of starting over and over."""
    import onnx

    from derm_ml.bundles.bundle import read_card, seal

    graph = onnx.load(copied / "model.onnx")
    graph.graph.node[0].op_type = "OperatorThatNobodyKnows"
    onnx.save(graph, copied / "model.onnx")
    seal(copied, read_card(copied))
    with pytest.raises(BundleError, match=r"model\.onnx"):
        Classifier(copied)


def test_a_bundle_without_a_file_or_card_says_which(copied):
    (copied / "model.onnx").unlink()
    with pytest.raises(BundleError, match=r"model\.onnx: missing"):
        Bundle.open(copied)
    with pytest.raises(BundleError, match="derm fit"):
        Bundle.open(copied / "nowhere")


def test_an_operating_point_fitted_on_the_test_split_cannot_be_in_a_bundle(copied):
    card = json.loads((copied / "bundle.json").read_text())
    card["operating_points"][0]["split"] = "test"
    (copied / "bundle.json").write_text(json.dumps(card))
    with pytest.raises(BundleError, match="validation"):
        Bundle.open(copied)


def test_a_classifier_is_not_taken_for_a_segmenter(trained):
    with pytest.raises(BundleError, match="is a classifier, not a segmenter: choose another model"):
        Segmenter(trained / "bundle")


def test_the_card_a_predictor_answers_by_is_the_one_that_was_verified(trained):
    """A card put in its place would calibrate what is served by numbers no sha256 names."""
    classifier = Classifier(trained / "bundle")
    with pytest.raises(AttributeError):
        classifier.card = classifier.card.model_copy(update={"temperature": 2.0})
