"""Any backbone must serve as encoder: a user picks one by name and expects a mask of the picture's size."""

from __future__ import annotations

import pytest
import torch
from safetensors.torch import save_file
from torchvision.models import get_model

from derm_ml.nets.backbones import pyramid
from derm_ml.nets.segmenter import SegmenterNetwork
from derm_ml.nets.unet import UNet

pytestmark = pytest.mark.slow  # computes for long

CHANNELS = {
    "mobilenet_v2": (16, 24, 32, 96, 1280),
    "resnet18": (64, 64, 128, 256, 512),
    "resnet50": (64, 256, 512, 1024, 2048),
    "efficientnet_b0": (16, 24, 40, 112, 1280),
    "regnet_y_400mf": (32, 48, 104, 208, 440),
    "densenet121": (64, 128, 256, 512, 1024),
}


@pytest.mark.parametrize("name", CHANNELS)
def test_the_levels_of_a_backbone_are_its_maps_before_each_halving(name):
    encoder = pyramid(name, "none").levels.eval()
    assert encoder.channels == CHANNELS[name]
    with torch.no_grad():
        levels = encoder(torch.zeros(1, 3, 64, 64))
    assert [tuple(x.shape) for x in levels] == [
        (1, channels, 32 // 2**k, 32 // 2**k) for k, channels in enumerate(CHANNELS[name])
    ]


@pytest.mark.parametrize("name", ["mobilenet_v2", "resnet18", "squeezenet1_1"])
def test_there_is_one_logit_a_pixel_and_every_weight_learns(name):
    network = UNet(name, "none")
    logits = network(torch.randn(2, 3, 64, 64))
    assert logits.shape == (2, 1, 64, 64)
    logits.square().mean().backward()
    assert not [n for n, p in network.named_parameters() if p.grad is None]


def test_the_encoder_starts_from_the_weights_of_the_file(tmp_path):
    whole = get_model("resnet18", weights=None)
    save_file(whole.state_dict(), tmp_path / "resnet18.safetensors")
    encoder = pyramid("resnet18", str(tmp_path / "resnet18.safetensors")).levels
    x = torch.randn(1, 3, 64, 64)
    whole.eval()
    encoder.eval()
    expected = whole.relu(whole.bn1(whole.conv1(x)))
    for step in (whole.maxpool, whole.layer1, whole.layer2, whole.layer3, whole.layer4):
        expected = step(expected)
    torch.testing.assert_close(encoder(x)[-1], expected)


def test_looking_for_the_levels_does_not_touch_the_batch_statistics():
    encoder = pyramid("mobilenet_v2", "none").levels
    tracked = {n: b for n, b in encoder.named_buffers() if n.endswith("num_batches_tracked")}
    assert tracked
    assert all(int(count) == 0 for count in tracked.values())
    assert encoder.features.training


def test_a_segmenter_normalises_colour_itself():
    """Else training and serving could differ in it."""

    class Recorder(torch.nn.Module):
        def forward(self, x):
            return x

    white = torch.full((1, 2, 2, 3), 255, dtype=torch.uint8)
    normal = SegmenterNetwork(Recorder())(white)[0, :, 0, 0]
    torch.testing.assert_close(normal, torch.tensor([(1 - 0.485) / 0.229, (1 - 0.456) / 0.224, (1 - 0.406) / 0.225]))
