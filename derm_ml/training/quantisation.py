"""A classifier whose convolutions compute with 8-bit integers: less than half the size, and faster on CPUs.

    derm fit malignancy_screening --set int8=true

Static quantisation by ONNX Runtime: the range of every activation is what some training images reach, weights have a
scale for each channel. The first convolution, and everything from the last one on (pooling, head, Grad-CAM), keeps its
float32 numbers, so that a heatmap is exactly that of the network that answers. Whether the answers lost anything is
measured on the validation split, and the check `int8_answers_alike` refuses promotion where it is not shown to be next
to nothing.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import onnx
import pandas as pd

from derm_ml.bundles.attributes import encode_attributes
from derm_ml.bundles.bundle import MODEL, Quantisation, seal
from derm_ml.bundles.classifier import Classifier, Outputs
from derm_ml.bundles.square_predictor import batched
from derm_ml.data.dataset import Dataset
from derm_ml.metrics.classification import mean_auc
from derm_ml.metrics.intervals import paired_difference
from derm_ml.predictions.classifier import predict_rows
from derm_ml.sentences import WrongValue
from derm_ml.training.seeding import generator

IMAGES = 200  # of training, whose activations say how far each goes
TOGETHER = 8  # images in one run of the graph that notes every activation: 0.1 GB each at 224 pixels
_KINDS = ("Conv", "Add", "Clip", "Relu", "MaxPool", "Concat")


def quantise(dataset: Dataset, validation: pd.DataFrame, seed: int, folder: Path) -> Outputs:
    """Exchange the graph of the sealed bundle in `folder` for one of 8-bit integers, and seal it again.

    Returns what the graph said of the validation rows before. Raises `WrongValue` for a network of few convolutions.
    """
    before = Classifier(folder)
    exact = predict_rows(before, dataset, validation)
    learned = dataset.split("train")
    some = np.sort(generator(seed, "int8").permutation(len(learned))[:IMAGES])
    write_int8(folder / MODEL, _inputs(before, dataset, learned.iloc[some]))
    seal(folder, before.card)
    return exact


def quantisation_of(
    exact: Outputs, outputs: Outputs, dataset: Dataset, validation: pd.DataFrame, scored: Sequence[str]
) -> Quantisation:
    """What the 8-bit graph lost against the float32 graph on the same validation images, over the same patients."""
    columns = [dataset.labels.index(label) for label in scored]
    y, patients = dataset.targets(validation)[:, columns], validation["group"].to_numpy(str)
    lost = paired_difference(mean_auc, patients, outputs.logits[:, columns], exact.logits[:, columns], y)
    return Quantisation(
        images=min(IMAGES, len(dataset.split("train"))),
        difference=lost.value,
        low=lost.low,
        high=lost.high,
        n=lost.n,
        split_hash=dataset.split_hashes["validation"],
    )


def _inputs(classifier: Classifier, dataset: Dataset, rows: pd.DataFrame) -> Iterator[dict[str, np.ndarray]]:
    """What the graph is given for these images, a few at a time."""
    names = classifier.card.attributes
    for some in batched(rows.to_dict("records"), TOGETHER):
        given = {"image": classifier.squares([dataset.image(row) for row in some])}
        if names:
            given["attributes"] = encode_attributes([dataset.attributes(row) for row in some], names)
        yield given


def write_int8(path: Path, given: Iterator[dict[str, np.ndarray]]) -> None:
    """Replace the graph at `path` by one whose convolutions compute with 8-bit integers.

    `given` are inputs of the graph that show how far each activation goes. Weights use 7 of 8 bits: with 8, CPUs
    without instructions for integer dot products (VNNI) add up to more than 16 bits hold, and answer otherwise.
    Raises `WrongValue` for a graph whose work is not in convolutions.
    """
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    class Reader(CalibrationDataReader):
        def get_next(self) -> dict[str, np.ndarray] | None:  # pyright: ignore[reportIncompatibleMethodOverride]  None ends
            return next(given, None)

    with TemporaryDirectory(dir=path.parent) as scratch:
        named, prepared, made = (Path(scratch) / name for name in ("named.onnx", "prepared.onnx", "made.onnx"))
        graph = onnx.load(path)
        for number, node in enumerate(graph.graph.node):
            node.name = f"{node.op_type}_{number}"
        onnx.save(graph, named)
        quant_pre_process(str(named), str(prepared), skip_optimization=True, skip_symbolic_shape=True)
        quantize_static(
            str(prepared),
            str(made),
            Reader(),
            quant_format=QuantFormat.QDQ,
            op_types_to_quantize=list(_KINDS),
            nodes_to_quantize=_between_the_ends(graph),
            per_channel=True,
            reduce_range=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
        )
        os.replace(made, path)


def _between_the_ends(model: onnx.ModelProto) -> list[str]:
    """The names of all nodes that lie behind a convolution and lead to one, which may be of either.

    The first and the last convolution of each network stay as they are: they lose most, and take little of the time.
    """
    nodes = list(model.graph.node)
    convolutions = [node for node in nodes if node.op_type == "Conv"]
    products = [node for node in nodes if node.op_type in ("MatMul", "Gemm")]
    if len(convolutions) <= len(products):
        raise WrongValue(
            f"int8=true: the network has {len(convolutions)} convolutions beside {len(products)} matrix products, and "
            "only convolutions are computed with 8-bit integers: choose a convolutional backbone, or int8=false"
        )
    behind, leads = set[str](), set[str]()  # tensors
    for node in nodes:  # in the order of computation
        if node in convolutions or behind.intersection(node.input):
            behind.update(node.output)
    for node in reversed(nodes):
        if node in convolutions or leads.intersection(node.output):
            leads.update(node.input)
    return [node.name for node in nodes if behind.intersection(node.input) and leads.intersection(node.output)]
