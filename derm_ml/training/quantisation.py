"""A network whose convolutions compute with 8-bit integers: less than half the size, and faster on CPUs.

    derm fit malignancy_screening --set int8=true
    derm fit lesion_segmentation --set int8=true

Static quantisation by ONNX Runtime: the range of every activation is what some training images reach, weights have a
scale for each channel. The first convolution, and everything from the last one on, keeps its float32 numbers: of a
classifier pooling, head and Grad-CAM, so that a heatmap is exactly that of the network that answers; of a segmenter the
1×1 convolutions that give the logits, and what enlarges them. Of several networks in one graph this holds for each.

Whether the answers lost anything is measured on the validation split, and the check `int8_answers_alike` refuses
promotion where it is not shown to be next to nothing.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import onnx
import pandas as pd
from torch import nn

from derm_ml.bundles.attributes import encode_attributes
from derm_ml.bundles.bundle import Quantisation, seal
from derm_ml.bundles.square_predictor import SquarePredictor, batched
from derm_ml.data.dataset import Dataset
from derm_ml.metrics.intervals import Statistic, paired_difference
from derm_ml.sentences import WrongValue
from derm_ml.training.seeding import generator

IMAGES = 200  # of training, whose activations say how far each goes
TOGETHER = 8  # images in one run of the graph that notes every activation: 0.1 GB each at 224 pixels
_KINDS = ("Conv", "Add", "Clip", "Relu", "MaxPool", "Concat")


def quantise(predictor: SquarePredictor, dataset: Dataset, seed: int) -> None:
    """Exchange the graph of the predictor's sealed bundle for one of 8-bit integers, and seal it again.

    The predictor goes on answering with the float32 graph. Raises `WrongValue` for a network of few convolutions.
    """
    learned = dataset.split("train")
    some = np.sort(generator(seed, "int8").permutation(len(learned))[:IMAGES])
    write_int8(predictor.bundle.model, _inputs(predictor, dataset, learned.iloc[some]))
    seal(predictor.bundle.path, predictor.card)


def quantisation_of(
    dataset: Dataset,
    validation: pd.DataFrame,
    statistic: Statistic,
    now: np.ndarray,
    exact: np.ndarray,
    *true: np.ndarray,
) -> Quantisation:
    """What the 8-bit graph lost against the float32 graph on the same validation images, over the same patients.

    `statistic(now, *true, weights)` against `statistic(exact, *true, weights)`: `now` (N, …) is what is measured of the
    8-bit graph on each of the validation rows, `exact` of the float32 graph.
    """
    lost = paired_difference(statistic, validation["group"].to_numpy(str), now, exact, *true)
    return Quantisation(
        images=min(IMAGES, len(dataset.split("train"))),
        difference=lost.value,
        low=lost.low,
        high=lost.high,
        n=lost.n,
        split_hash=dataset.split_hashes["validation"],
    )


def _inputs(predictor: SquarePredictor, dataset: Dataset, rows: pd.DataFrame) -> Iterator[dict[str, np.ndarray]]:
    """What the graph is given for these images, a few at a time."""
    names = predictor.card.attributes
    for some in batched(rows.to_dict("records"), TOGETHER):
        given = {"image": predictor.squares([dataset.image(row) for row in some])}
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


def require_convolutions(network: nn.Module) -> None:
    """Raises `WrongValue` for a network whose work is not in convolutions: before it is trained rather than after."""
    layers = list(network.modules())
    _refuse_few(*(sum(isinstance(layer, kind) for layer in layers) for kind in (nn.Conv2d, nn.Linear)))


def _refuse_few(convolutions: int, products: int) -> None:
    if convolutions <= products:
        raise WrongValue(
            f"int8=true: the network has {convolutions} convolutions beside {products} matrix products, and only "
            "convolutions are computed with 8-bit integers: choose a convolutional backbone, or int8=false"
        )


def _between_the_ends(model: onnx.ModelProto) -> list[str]:
    """The names of all nodes that lie behind a convolution and lead to one, which may be of either.

    The first and the last convolution of each network stay as they are: they lose most, and take little of the time.
    """
    nodes = list(model.graph.node)
    convolutions = [node for node in nodes if node.op_type == "Conv"]
    _refuse_few(len(convolutions), sum(node.op_type in ("MatMul", "Gemm") for node in nodes))
    behind, leads = set[str](), set[str]()  # tensors
    for node in nodes:  # in the order of computation
        if node in convolutions or behind.intersection(node.input):
            behind.update(node.output)
    for node in reversed(nodes):
        if node in convolutions or leads.intersection(node.output):
            leads.update(node.input)
    return [node.name for node in nodes if behind.intersection(node.input) and leads.intersection(node.output)]
