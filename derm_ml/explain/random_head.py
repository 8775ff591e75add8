"""A classifier whose head has random weights: what a heatmap shows then, it did not learn (Adebayo et al. 2018).

    with random_heads(classifier, 3) as others: ...      none where the head is not found in the graph

Sanity checks for saliency maps, arXiv:1810.03292: a map that stays as it is when the weights are drawn anew explains
the image, not the model. The graph of the bundle is what is asked, with the weights of every layer of its head replaced
wherever they stand in it: the exporter folds them into the Jacobian of the head too.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import onnx
from onnx import numpy_helper
from safetensors.numpy import load_file

from derm_ml.bundles.bundle import MODEL, Bundle
from derm_ml.bundles.classifier import Classifier

HEAD = "head"  # as the part of a network is called in the names of its weights

Form = Callable[[np.ndarray], np.ndarray]


@contextmanager
def random_heads(classifier: Classifier, count: int) -> Iterator[list[Classifier]]:
    """The classifier with `count` heads of random weights, the same ones every time; none where no head is found."""
    learned, model = _head_of(classifier.bundle), onnx.load(classifier.bundle.model)
    with TemporaryDirectory() as folder:
        others = []
        for seed in range(count):
            rng = np.random.default_rng(seed)
            drawn = {name: rng.normal(0, values.std(), values.shape) for name, values in learned.items()}
            if graph := with_weights(model, learned, drawn):
                onnx.save(graph, Path(folder) / f"{seed}_{MODEL}")
                others.append(classifier.with_graph(Path(folder) / f"{seed}_{MODEL}"))
        yield others


def with_weights(
    model: onnx.ModelProto, learned: Mapping[str, np.ndarray], others: Mapping[str, np.ndarray]
) -> onnx.ModelProto | None:
    """The graph with the `learned` weights (out, in), by name, exchanged for `others`; None where it holds none."""
    changed = onnx.ModelProto()
    changed.CopyFrom(model)
    found = 0
    for tensor in changed.graph.initializer:
        if place := _found(tensor, learned):
            name, form = place
            values = form(others[name]).reshape(tuple(tensor.dims)).astype(np.float32)
            tensor.CopyFrom(numpy_helper.from_array(values, tensor.name))
            found += 1
    return changed if found else None


def _head_of(bundle: Bundle) -> dict[str, np.ndarray]:
    """Name → weights (out, in) of the linear layers of the heads; nothing in a copy that was made to be served."""
    if not bundle.weights.is_file():
        return {}
    named = load_file(bundle.weights)
    return {name: values for name, values in named.items() if HEAD in name.split(".") and values.ndim == 2}


def _found(tensor: onnx.TensorProto, weights: Mapping[str, np.ndarray]) -> tuple[str, Form] | None:
    """Which weights a constant of the graph holds, and in which form; None where none."""
    if tensor.data_type != onnx.TensorProto.FLOAT or len(tensor.dims) < 2:
        return None
    values = numpy_helper.to_array(tensor).ravel()
    for name, learned in weights.items():
        if values.size > learned.size or values.size % len(learned):
            continue
        for form in _forms(values.size // len(learned)):
            if np.allclose(form(learned).ravel(), values, rtol=1e-4, atol=1e-7):
                return name, form
    return None


def _forms(channels: int) -> tuple[Form, Form]:
    """How weights (out, in) may stand in a graph: those of the first `channels` features, each averaged over the cells
    it has where maps are flattened; or transposed."""

    def straight(weights: np.ndarray) -> np.ndarray:
        cells = weights.shape[1] // channels
        return weights[:, : channels * cells].reshape(len(weights), channels, cells).mean(axis=2)

    return straight, lambda weights: straight(weights).T
