"""A trained network as the two files of a bundle: weights.safetensors and model.onnx."""

from __future__ import annotations

import contextlib
import io
import logging
import warnings
from collections.abc import Mapping
from pathlib import Path

import onnx
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from derm_ml.bundles.bundle import MODEL, WEIGHTS
from derm_ml.nets.bi_autoencoder import BiAutoencoder
from derm_ml.nets.classifier import ClassifierNetwork
from derm_ml.nets.members import Members
from derm_ml.nets.segmenter import SegmenterNetwork


class _Explained(nn.Module):
    def __init__(self, network: ClassifierNetwork | Members) -> None:
        super().__init__()
        self.network = network

    def forward(self, image: Tensor, attributes: Tensor | None = None) -> tuple[Tensor, Tensor, Tensor]:
        return self.network.explained(image, attributes)


def export_classifier(network: ClassifierNetwork | Members, side: int, attributes: int, folder: Path) -> None:
    """Write the network's weights, and its graph: image (N, side, side, 3) uint8 [, attributes (N, A) float32] →
    logits (N, L), embedding (N, C), maps (N, L, h, w), with a free batch dimension.
    """
    images = torch.zeros(2, side, side, 3, dtype=torch.uint8)
    inputs = {"image": images} | ({"attributes": torch.zeros(2, attributes)} if attributes else {})
    export_graph(network, _Explained(network), inputs, ["logits", "embedding", "maps"], folder)


class _Embedded(nn.Module):
    def __init__(self, network: SegmenterNetwork | Members) -> None:
        super().__init__()
        self.network = network

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        return self.network.with_embedding(image)


def export_segmenter(network: SegmenterNetwork | Members, side: int, folder: Path) -> None:
    """Write the network's weights, and its graph: image (N, side, side, 3) uint8 → logits (N, 1, side, side),
    embedding (N, D).
    """
    images = torch.zeros(2, side, side, 3, dtype=torch.uint8)
    export_graph(network, _Embedded(network), {"image": images}, ["logits", "embedding"], folder)


class _Registered(nn.Module):
    def __init__(self, network: BiAutoencoder) -> None:
        super().__init__()
        self.network = network

    def forward(self, first: Tensor, second: Tensor) -> tuple[Tensor, ...]:
        return self.network.registered(first, second)


def export_registration(network: BiAutoencoder, folder: Path) -> None:
    """Write the bi-autoencoder's weights, and its encoders' graph: first, second (N, side, side, 3) uint8 →
    transform (N, 3, 3), difference (N,), and lattice (N, G, G, 2) where the network bends.
    """
    photos = torch.zeros(2, network.side, network.side, 3, dtype=torch.uint8)
    inputs = {"first": photos, "second": photos.clone()}
    outputs = ["transform", "difference", *(["lattice"] if network.bender else [])]
    export_graph(network, _Registered(network), inputs, outputs, folder)


def export_graph(
    network: nn.Module, graph: nn.Module, inputs: Mapping[str, Tensor], outputs: list[str], folder: Path
) -> None:
    """Write the weights of `network`, and `graph`, the module around it whose forward takes the example `inputs`
    (2, …) in their order and returns `outputs`. The batch dimension is free.
    """
    network.to("cpu").eval()
    graph.eval()
    save_file({k: v.contiguous() for k, v in network.state_dict().items()}, folder / WEIGHTS)
    shapes = tuple({0: torch.export.Dim("batch")} for _ in inputs)
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()), torch.no_grad():
        warnings.simplefilter("ignore")  # the exporter warns of its own internals; `Session` checks what it makes
        logging.getLogger("torch.onnx").setLevel(logging.ERROR)
        program = torch.onnx.export(
            graph,
            tuple(inputs.values()),
            dynamo=True,
            input_names=list(inputs),
            output_names=outputs,
            dynamic_shapes=shapes,
            verbose=False,
        )
    assert program is not None
    program.save(folder / MODEL, external_data=False)
    graph_file = onnx.load(folder / MODEL)
    for node in graph_file.graph.node:  # the exporter notes where in which file of this machine each was called
        node.ClearField("metadata_props")
    onnx.checker.check_model(graph_file)
    onnx.save(graph_file, folder / MODEL)
