"""Computing with 8-bit integers: the answers stay, the heatmaps are still those of the network, a loss is refused."""

from __future__ import annotations

import shutil
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import onnx
import onnxruntime as ort
import pytest
import torch

from derm_ml.bundles.bundle import MODEL
from derm_ml.bundles.calibration import calibrated
from derm_ml.bundles.classifier import Classifier
from derm_ml.bundles.segmenter import Segmenter
from derm_ml.data.dataset import Dataset
from derm_ml.data.prepare import prepare
from derm_ml.evaluation.gates import int8_answers_alike
from derm_ml.metrics.classification import mean_auc
from derm_ml.metrics.intervals import estimate
from derm_ml.model_folder import ModelFolder
from derm_ml.nets.classifier import ClassifierNetwork
from derm_ml.predictions.classifier import predict_rows
from derm_ml.predictions.segmenter import segment_rows
from derm_ml.registry import get_task
from derm_ml.sentences import WrongValue
from derm_ml.training.export import export_classifier
from derm_ml.training.quantisation import require_convolutions, write_int8

pytestmark = pytest.mark.slow  # trained networks, exported graphs

TASK, SEGMENTATION = get_task("lesion_classification"), get_task("lesion_segmentation")


def test_a_trained_model_gets_integers_without_training_again(trained, drawn_dataset, tmp_path):
    """Whoever wants the faster graph of a model that took hours would otherwise wait for hours again."""
    recipe = TASK.recipe("drawn", epochs=6, side=64, workers=0)
    exact = ModelFolder.of(tmp_path, recipe, drawn_dataset.md5)
    shutil.copytree(trained, exact.path)
    told = []
    wanted = recipe.but(int8=True)
    made = ModelFolder(TASK.fit(drawn_dataset, wanted, tmp_path / "small", told.append).parent)
    assert told == []  # no epoch
    assert made.history.read_bytes() == exact.history.read_bytes()
    before, after = Classifier(exact.bundle), Classifier(made.bundle)
    assert after.card.recipe == wanted.model_dump(mode="json")
    assert after.bundle.version != before.bundle.version
    assert after.bundle.model.stat().st_size < 0.5 * before.bundle.model.stat().st_size
    rows = drawn_dataset.split("test").to_dict("records")
    images = [drawn_dataset.image(row) for row in rows]
    moved = np.abs(after(images).probabilities - before(images).probabilities)
    assert 0 < moved.mean() < 0.05

    evaluation = TASK.evaluate(after, drawn_dataset)
    difference, validation = evaluation.metrics["int8_difference"], drawn_dataset.split("validation")
    assert difference.n == len(validation)
    columns = [after.labels.index(label) for label in ("melanoma", "seborrheic_keratosis")]
    truth = drawn_dataset.targets(validation)[:, columns]
    logits = [predict_rows(model, drawn_dataset, validation).logits for model in (after, before)]
    # by probabilities, as an evaluation ranks them: one logit of a softmax ranks otherwise
    now, then = (estimate(mean_auc, calibrated(after.card, found)[:, columns], truth) for found in logits)
    assert difference.value == pytest.approx(now - then)
    assert int8_answers_alike(evaluation).passed == (difference.low >= -0.01)
    for low, passed in ((-0.009, True), (-0.011, False)):
        other = SimpleNamespace(metrics={"int8_difference": replace(difference, low=low)})
        assert int8_answers_alike(other).passed == passed
    assert "int8_difference" not in TASK.evaluate(before, drawn_dataset).metrics


@pytest.fixture(scope="module")
def outlined(tmp_path_factory) -> Dataset:
    """80 synthetic images with exact masks."""
    folder = tmp_path_factory.mktemp("outlined")
    SEGMENTATION.draw(folder / "raw", 80, seed=1)
    return prepare(SEGMENTATION, folder / "raw", SEGMENTATION.settings(), folder / "data")


def test_an_ensemble_of_segmenters_outlines_alike_with_integers(outlined, tmp_path):
    """Two networks in one graph, of which one divides by the spread of each image: a coarse spread moves edges."""
    both = {"networks": ("unet", "improved_unet"), "members": 2, "backbone": "mobilenet_v2"}
    recipe = SEGMENTATION.recipe("drawn", workers=0, precision="32-true", **both)
    exact = ModelFolder.of(tmp_path, recipe, outlined.md5)
    SEGMENTATION.fit(outlined, recipe, exact.path)
    told = []
    wanted = recipe.but(int8=True)
    made = ModelFolder(SEGMENTATION.fit(outlined, wanted, tmp_path / "small", told.append).parent)
    assert told == []  # no epoch
    assert made.history.read_bytes() == exact.history.read_bytes()
    before, after = Segmenter(exact.bundle), Segmenter(made.bundle)
    assert after.card.recipe == wanted.model_dump(mode="json")
    assert after.bundle.model.stat().st_size < 0.35 * before.bundle.model.stat().st_size
    graph = onnx.load(after.bundle.model).graph
    integers = {name for node in graph.node if node.op_type == "DequantizeLinear" for name in node.output}
    exactly = [node for node in graph.node if node.op_type == "Conv" and node.input[1] not in integers]
    assert len(exactly) == 2 + 1 + 3  # the first of each, the head of the one and the three of the other

    rows = outlined.split("test")
    masks = [segment_rows(model, outlined, rows) for model in (before, after)]
    moved = [(masks[0].mask(place) != masks[1].mask(place)).mean() for place in range(len(rows))]
    assert 0 < np.mean(moved) < 0.01, "of the pixels"

    evaluation, validation = SEGMENTATION.evaluate(after, outlined), outlined.split("validation")
    difference = evaluation.metrics["int8_difference"]
    assert difference.n == len(validation)
    now, then = (SEGMENTATION.evaluate(m, outlined, "validation").metrics["dice"].value for m in (after, before))
    assert difference.value == pytest.approx(now - then)
    gate = next(gate for gate in SEGMENTATION.gates if gate.name == "int8_answers_alike")
    assert gate.blocking
    for low, passed in ((-0.004, True), (-0.006, False)):
        other = SimpleNamespace(metrics={"int8_difference": replace(difference, low=low)})
        assert gate.check(other).passed == passed
        assert "difference in Dice" in gate.check(other).message
    assert "int8_difference" not in SEGMENTATION.evaluate(before, outlined).metrics
    counted = SEGMENTATION.recount(after.card, evaluation.predictions, outlined, "test")
    assert counted["int8_difference"] == difference


@pytest.mark.parametrize(
    ("backbone", "hidden", "attributes"), [("resnet18", (16,), 4), ("tf_efficientnet_lite0", (), 0)]
)
def test_heatmaps_are_those_of_the_network_that_answers(backbone, hidden, attributes, tmp_path):
    """A map from other numbers than the answer explains another network."""
    torch.manual_seed(0)
    network = ClassifierNetwork(backbone, 3, "none", hidden, 0.0, attributes, side=64).eval()
    export_classifier(network, 64, attributes, tmp_path)
    rng = np.random.default_rng(0)
    given = {"image": rng.integers(0, 255, (4, 64, 64, 3), np.uint8)}
    given |= {"attributes": rng.random((4, attributes), np.float32)} if attributes else {}
    write_int8(tmp_path / MODEL, iter([given]))

    model = onnx.load(tmp_path / MODEL)
    assert sum(node.op_type == "DequantizeLinear" for node in model.graph.node) > 20
    activated = {node.output[0] for node in model.graph.node if node.op_type in ("Relu", "Clip")}
    pooling = next(n for n in model.graph.node if n.op_type == "ReduceMean" and n.input[0] in activated)
    model.graph.output.append(onnx.ValueInfoProto(name=pooling.input[0]))
    session = ort.InferenceSession(model.SerializeToString())
    logits, maps, found = session.run(["logits", "maps", pooling.input[0]], given)
    last = torch.from_numpy(found).requires_grad_()
    extra = network.attributes(torch.from_numpy(given["attributes"])) if attributes else None
    answered = network.head(last.mean(dim=(2, 3)), extra)
    np.testing.assert_allclose(logits, answered.detach(), rtol=1e-4, atol=1e-5)
    for label in range(3):  # Grad-CAM as it is defined, by a backward pass
        (gradient,) = torch.autograd.grad(answered[:, label].sum(), last, retain_graph=True)
        expected = (gradient.mean(dim=(2, 3), keepdim=True) * last).sum(dim=1).relu().detach()
        np.testing.assert_allclose(maps[:, label], expected, rtol=1e-3, atol=1e-6)


def test_a_network_of_matrix_products_is_refused(tmp_path):
    """Of a transformer one layer would be quantised: nothing smaller, nothing faster, and answers moved. It is said
    before hours of training, and of a graph that comes from elsewhere."""
    network = ClassifierNetwork("vit_tiny_patch16_224", 2, "none").eval()
    with pytest.raises(WrongValue, match=r"int8=true: the network has 1 convolutions beside \d+ matrix products"):
        require_convolutions(network)
    export_classifier(network, 224, 0, tmp_path)
    with pytest.raises(WrongValue, match=r"int8=true: the network has 1 convolutions beside \d+ matrix products"):
        write_int8(tmp_path / MODEL, iter([]))
