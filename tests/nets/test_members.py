"""Networks that answer together: their heatmap must be Grad-CAM of the answer they give together."""

from __future__ import annotations

from contextlib import ExitStack

import numpy as np
import onnxruntime as ort
import pytest
import torch

from derm_ml.explain.gradcam import recorded
from derm_ml.nets.classifier import ClassifierNetwork
from derm_ml.nets.members import Members
from derm_ml.training.export import export_classifier

pytestmark = pytest.mark.slow

SIDE, LABELS = 64, 8


@pytest.fixture(scope="module")
def together() -> Members:
    torch.manual_seed(0)
    members = [ClassifierNetwork("resnet18", LABELS, "none", (16,), attributes=4).eval() for _ in range(2)]
    for module in (m for net in members for m in net.modules() if isinstance(m, torch.nn.BatchNorm2d)):
        torch.nn.init.uniform_(module.weight, 0.5, 1.5)
        torch.nn.init.uniform_(module.bias, -0.5, 0.5)
    return Members(members)


@pytest.fixture(scope="module")
def given() -> tuple[torch.Tensor, torch.Tensor]:
    torch.manual_seed(1)
    return torch.randint(0, 255, (3, SIDE, SIDE, 3), dtype=torch.uint8), torch.randn(3, 4)


def test_the_heatmap_of_several_is_grad_cam_over_all_their_maps_side_by_side(together, given):
    with torch.no_grad():
        logits, embedding, maps = together.explained(*given)
    assert torch.allclose(logits, together(*given))
    assert embedding.shape == (3, 2 * 512)
    assert maps.max() > 0
    for label in range(LABELS):
        with ExitStack() as hooks:
            outputs = [hooks.enter_context(recorded(member.features)) for member in together.members]
            together(*given)[:, label].sum().backward()
        side_by_side = torch.cat([found for (found,) in outputs], dim=1)
        gradient = torch.cat([found.grad for (found,) in outputs], dim=1)
        expected = (gradient.mean(dim=(2, 3), keepdim=True) * side_by_side).sum(dim=1).relu()
        assert torch.allclose(maps[:, label], expected, atol=1e-4 * maps.max().item())


def test_the_exported_graph_of_several_says_what_torch_says(together, given, tmp_path):
    export_classifier(together, SIDE, 4, tmp_path)
    images, attributes = given
    with torch.no_grad():
        expected = together.explained(images, attributes)
    found = ort.InferenceSession(tmp_path / "model.onnx").run(
        None, {"image": images.numpy(), "attributes": attributes.numpy()}
    )
    for got, want in zip(found, expected, strict=True):
        np.testing.assert_allclose(got, want.numpy(), atol=1e-4, rtol=1e-3)
