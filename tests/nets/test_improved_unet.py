"""The network of the faithful recipe must be the one of the paper: another shape or size is another method."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch

from derm_ml.nets.improved_unet import Context, ImprovedUNet, Localisation, Upsampling

pytestmark = pytest.mark.slow  # imports torch


def test_every_level_of_both_pathways_has_the_shape_of_the_paper():
    network = ImprovedUNet(width=16).eval()
    with torch.no_grad():
        levels = network.encode(torch.zeros(2, 3, 128, 128))
        assert [tuple(x.shape) for x in levels] == [
            (2, 16, 128, 128),
            (2, 32, 64, 64),
            (2, 64, 32, 32),
            (2, 128, 16, 16),
            (2, 256, 8, 8),
        ]
        decoded = network.decode(levels)
        assert [tuple(x.shape) for x in decoded] == [(2, 32, 128, 128), (2, 32, 64, 64), (2, 64, 32, 32)]
        assert network(torch.zeros(2, 3, 128, 128)).shape == (2, 1, 128, 128)


@pytest.mark.parametrize("width", [2, 16])
def test_the_number_of_parameters_is_what_the_layers_add_up_to(width):
    """Counted from the table in the module's docstring, layer by layer, w being the width."""

    def conv(a, b, kernel):  # weights, and scale and shift of the instance norm
        return a * b * kernel**2 + 2 * b

    w = [width * 2**k for k in range(5)]
    count = conv(3, w[0], 3) + sum(conv(a, b, 3) for a, b in pairwise(w))
    count += sum(2 * conv(c, c, 3) for c in w)  # context modules
    count += sum(conv(2 * c, c, 3) for c in w[:4])  # upsampling
    count += sum(conv(2 * c, 2 * c, 3) + conv(2 * c, c, 1) for c in w[1:4])  # localisation, levels 2 to 4
    count += conv(2 * w[0], 2 * w[0], 3) + (2 * w[0] + 1) + (w[1] + 1) + (w[2] + 1)  # last convolution, three heads
    assert sum(p.numel() for p in ImprovedUNet(width).parameters()) == count
    if width == 16:
        assert count == 3_186_483


def test_the_three_heads_are_summed():
    """Deep supervision by summation: each head alone must reach the output."""
    torch.manual_seed(0)
    network = ImprovedUNet(width=2).eval()
    x = torch.randn(1, 3, 32, 32)
    with torch.no_grad():
        before = network(x)
        for head in network.heads:
            head.bias += 1.0
            after = network(x)
            torch.testing.assert_close(after, before + 1, atol=1e-5, rtol=0)
            before = after


def test_a_context_module_is_its_input_plus_a_residual_with_dropout_of_whole_maps():
    context = Context(8, 0.3)
    assert context.dropout.p == 0.3
    torch.nn.init.zeros_(context.second[1].weight)  # no residual: what is left is the input
    x = torch.randn(2, 8, 6, 6)
    torch.testing.assert_close(context(x), x)


def test_modules_halve_and_double_as_they_say():
    assert Upsampling(4)(torch.zeros(1, 8, 5, 5)).shape == (1, 4, 10, 10)
    assert Localisation(4)(torch.zeros(1, 8, 5, 5)).shape == (1, 4, 5, 5)


def test_a_size_that_cannot_be_halved_four_times_is_refused():
    with pytest.raises(ValueError, match="multiples of 16"):
        ImprovedUNet(2)(torch.zeros(1, 3, 100, 100))
