"""Heatmaps of eyes on planted truth: a sign at a known place, a network that reads it, maps that show something else.

No network is trained: one that reads colours is written down, so that its heatmap is known to be right.
"""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import onnx
import pandas as pd
import pytest
from onnx import helper, numpy_helper
from safetensors.numpy import save_file

from derm_ml.bundles.bundle import MODEL, WEIGHTS, BundleCard, seal, writing_bundle
from derm_ml.bundles.classifier import Classifier
from derm_ml.evaluation.cases import Cases
from derm_ml.evaluation.faithful import Explained, faithful_metrics
from derm_ml.images.settings import Preprocessing
from derm_ml.predictions.classifier import predict_rows
from derm_ml.registry import get_task

pytestmark = pytest.mark.slow  # resamples

TASK = get_task("retinal_findings")
LABELS = TASK.labels
SIDE, CELL = 32, 40


def eye(number: int) -> np.ndarray:
    """A grey disc in a black frame, 160 pixels wide, and in one of its cells a patch in the colour of its finding."""
    rng = np.random.default_rng(number)
    y, x = np.indices((160, 160))
    image = np.where((np.hypot(x - 79.5, y - 79.5) < 79)[..., None], rng.integers(90, 110, (160, 160, 1)), 0)
    image = image.repeat(3, axis=2).astype(np.uint8)
    top, left = rng.choice([(0, 1), (0, 2), (1, 0), (1, 1), (1, 2), (1, 3), (2, 1), (2, 2), (3, 1), (3, 2)]) * CELL
    image[top + 8 : top + 32, left + 8 : left + 32, number % 3] = 250
    return image


@pytest.fixture(scope="module")
def eyes() -> SimpleNamespace:
    """48 eyes of as many people, as a dataset gives them."""
    rows = pd.DataFrame({"id": [f"eye-{n}" for n in range(48)], "group": [f"person-{n}" for n in range(48)]})
    for k, label in enumerate(LABELS):
        rows[f"target.{label}"] = [float(n % 3 == k) for n in range(48)]
    image = {name: eye(n) for n, name in enumerate(rows["id"])}
    return SimpleNamespace(rows=rows, image=lambda row: image[row["id"]], attributes=lambda row: {})


def bundle(folder: Path, colour_graph, maps: str = "") -> Path:
    """A network that reads colours; `maps`: what its heatmap is instead of what it reads."""
    head = np.float32(60) * (np.eye(3, dtype=np.float32) - np.float32(1 / 3))
    model = colour_graph(head, SIDE)
    if maps:
        relu = next(node for node in model.graph.node if node.output == ["maps"])
        relu.output[0] = "read"
        factor = -1.0 if maps == "reversed" else 0.0
        own = {"even": np.ones((1, 3, 4, 4)), "noise": np.random.default_rng(4).random((1, 3, 4, 4)),
               "reversed": np.full((1, 3, 4, 4), 100.0)}[maps]  # fmt: skip
        model.graph.initializer.extend(
            [numpy_helper.from_array(np.float32(factor), "factor"), numpy_helper.from_array(np.float32(own), "own")]
        )
        model.graph.node.extend(
            [helper.make_node("Mul", ["read", "factor"], ["kept"]), helper.make_node("Add", ["kept", "own"], ["maps"])]
        )
    card = BundleCard(
        task=TASK.name, recipe_name="drawn", recipe={}, labels=LABELS, head="sigmoid", dataset_md5="0" * 32 + ".dir",
        preprocessing=Preprocessing(side=SIDE, store_side=512, field_of_view=True), split_hashes={}, backbone="colour",
        pretrained="none", epochs=0,
    )  # fmt: skip
    with writing_bundle(folder) as path:
        onnx.save(model, path / MODEL)
        save_file({"head": head}, path / WEIGHTS)
        seal(path, card)
    return folder


def measured(model: Classifier, eyes: SimpleNamespace) -> SimpleNamespace:
    outputs = predict_rows(model, eyes, eyes.rows)
    cases = Cases.lined_up(model.card, eyes.rows, outputs)
    explained = Explained.made(model, eyes, eyes.rows, outputs, in_view=True)
    return SimpleNamespace(task=TASK.name, labels=LABELS, metrics=faithful_metrics(cases, explained), made=explained)


def check(found: SimpleNamespace):
    return next(gate for gate in TASK.gates if gate.name == "heatmaps_are_faithful").check(found)


def test_a_heatmap_of_the_sign_passes_in_all_and_by_each_finding(colour_graph, eyes, tmp_path):
    found = measured(Classifier(bundle(tmp_path / "bundle", colour_graph)), eyes)
    said = check(found)
    assert said.passed, said.message
    assert [row["finding"] for row in said.rows] == list(LABELS)
    for label in LABELS:
        gain = found.metrics[f"order_gain_{label}"]
        assert (gain.n, gain.low > 0) == (12, True)
    rows = found.made.table()
    assert all(row["hottest_first"] < row["random_order"] < row["coldest_first"] for row in rows[1:-1])


@pytest.mark.parametrize("maps", ["even", "noise", "reversed"])
def test_a_heatmap_that_shows_something_else_is_found(colour_graph, eyes, tmp_path, maps):
    """The same network gives the same answers, and a picture of reasons that are not its own."""
    said = check(found := measured(Classifier(bundle(tmp_path / "bundle", colour_graph, maps)), eyes))
    assert not said.passed
    assert "not shown to be better than the reverse" in said.message
    same = "they stay as they are when the weights of the head are random" in said.message
    assert same == (maps != "reversed")
    if maps == "even":
        assert found.metrics["order_gain"].value == 0
    if maps == "reversed":
        assert f"of {LABELS[0]} covering the coldest cells first costs more than the hottest" in said.message


def test_the_black_frame_is_never_covered(colour_graph, eyes, tmp_path, monkeypatch):
    model, asked = Classifier(bundle(tmp_path / "bundle", colour_graph)), []
    seen = type(model).seen
    monkeypatch.setattr(
        type(model), "seen", lambda self, squares, *more: asked.append(squares) or seen(self, squares, *more)
    )
    measured(model, eyes)
    squares = np.concatenate([one for one in asked if len(one) > 1])
    assert len(squares) > 36 * 12
    assert squares[:, [0, 0, -1, -1], [0, -1, 0, -1]].max() < 20
