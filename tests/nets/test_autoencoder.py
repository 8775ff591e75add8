"""The two autoencoders are what their recipes say: shapes, size, and a decoder that draws no checkerboards."""

from __future__ import annotations

import pytest
import torch

from derm_ml.metrics.reconstruction import checkerboard_energy
from derm_ml.nets.autoencoder import Autoencoder, autoencoder

pytestmark = pytest.mark.slow  # imports torch

SIDE = 96  # 224 says the same and takes five times as long


def size(network: Autoencoder) -> int:
    return sum(p.numel() for p in network.parameters())


def test_codes_have_the_stated_size():
    images = torch.zeros(2, 224, 224, 3, dtype=torch.uint8)
    with torch.no_grad():
        faithful, strong = autoencoder("faithful", 224).eval(), autoencoder("strong", 224, code=100).eval()
        assert faithful.encoder[:-1](torch.zeros(1, 3, 224, 224)).shape == (1, 8, 7, 7)
        assert faithful.encode(images).shape == (2, 8 * 7 * 7)
        assert strong.encode(images).shape == (2, 100)
        for network in (faithful, strong):
            found = network(images)
            assert found.shape == (2, 3, 224, 224)
            assert 0 <= found.min() <= found.max() <= 1


def test_strong_has_about_ten_times_the_parameters():
    assert 8 < size(autoencoder("strong", 224)) / size(autoencoder("faithful", 224)) < 12


def test_the_strong_bottleneck_is_linear():
    """Doubling the maps before it doubles what the code moves by: no activation squeezes it."""
    last = autoencoder("strong", SIDE).encoder[-1]
    assert isinstance(last, torch.nn.Linear)


@pytest.mark.parametrize("seed", range(3))
def test_upsampling_draws_no_checkerboards_and_transposed_convolution_does(seed):
    """Energy at the stride frequency over that beside it, of random codes through untrained decoders."""
    torch.manual_seed(seed)
    energy = {}
    for name in ("faithful", "strong"):
        network = autoencoder(name, SIDE).eval()
        with torch.no_grad():
            pictures = network.decode(torch.randn(4, network.code)).permute(0, 2, 3, 1).numpy()
        energy[name] = checkerboard_energy(pictures * 255)
    assert energy["strong"] < 2
    assert energy["faithful"] > 50


def test_a_side_that_cannot_be_halved_five_times_is_refused():
    with pytest.raises(ValueError, match="multiple of 32"):
        autoencoder("strong", 100)
