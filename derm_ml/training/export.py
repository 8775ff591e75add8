"""A trained classifier as the two files of a bundle: weights.safetensors and model.onnx."""

from __future__ import annotations

import contextlib
import io
import logging
import warnings
from pathlib import Path

import onnx
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from derm_ml.bundle import MODEL, WEIGHTS
from derm_ml.nets.classifier import Classifier


class _Explained(nn.Module):
    def __init__(self, network: Classifier) -> None:
        super().__init__()
        self.network = network

    def forward(self, image: Tensor, attributes: Tensor | None = None) -> tuple[Tensor, Tensor, Tensor]:
        return self.network.explained(image, attributes)


def export_classifier(network: Classifier, side: int, attributes: int, folder: Path) -> None:
    """Write the network's weights, and its graph: image (N, side, side, 3) uint8 [, attributes (N, A) float32] →
    logits (N, L), embedding (N, C), maps (N, L, h, w), with a free batch dimension.
    """
    network = network.to("cpu").eval()
    save_file({k: v.contiguous() for k, v in network.state_dict().items()}, folder / WEIGHTS)
    images = torch.zeros(2, side, side, 3, dtype=torch.uint8)
    inputs, names = (images,), ["image"]
    if attributes:
        inputs, names = (images, torch.zeros(2, attributes)), ["image", "attributes"]
    shapes = tuple({0: torch.export.Dim("batch")} for _ in inputs)
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()), torch.no_grad():
        warnings.simplefilter("ignore")  # the exporter warns of its own internals; its result is checked by Predictor
        logging.getLogger("torch.onnx").setLevel(logging.ERROR)
        program = torch.onnx.export(
            _Explained(network),
            inputs,
            dynamo=True,
            input_names=names,
            output_names=["logits", "embedding", "maps"],
            dynamic_shapes=shapes,
            verbose=False,
        )
    assert program is not None
    program.save(folder / MODEL, external_data=False)
    onnx.checker.check_model(folder / MODEL)
