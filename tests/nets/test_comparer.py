"""Two photos are laid together by what they show; without training nothing moves."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from derm_ml.nets.bi_autoencoder import inverse, sampled
from derm_ml.nets.comparer import Comparer, inverse3

pytestmark = pytest.mark.slow  # computes for long

TURNED = torch.tensor([[0.95, 0.2, 0.1], [-0.2, 0.95, -0.05], [0, 0, 1.0]])


@pytest.fixture
def comparer() -> Comparer:
    torch.manual_seed(0)
    return Comparer(3, 96, reach=4.0)


def scenes(n: int, seed: int) -> torch.Tensor:
    rng = torch.Generator().manual_seed(seed)
    return F.interpolate(torch.rand(n, 3, 14, 14, generator=rng), (96, 96), mode="bicubic").clamp(0, 1)


def apart(comparer: Comparer, first: torch.Tensor, turn: torch.Tensor) -> torch.Tensor:
    """How wrong the map between pictures and themselves turned is, the mean of its six numbers."""
    to_first, to_second = comparer(first, sampled(first, turn))
    return (to_first @ inverse(to_second) - turn).abs().mean()


def test_nothing_moves_before_training(comparer):
    for transform in comparer(scenes(2, 0), scenes(2, 1)):
        assert torch.allclose(transform, torch.eye(3).expand(2, 3, 3), atol=1e-6)


def test_a_turn_is_learned_from_some_pictures_and_found_on_others(comparer):
    """What it learns is what looks alike, not these pictures by heart."""
    turn, still = TURNED.expand(6, 3, 3), apart(comparer, scenes(6, 1), TURNED.expand(6, 3, 3)).item()
    optimizer = torch.optim.Adam(comparer.parameters(), lr=3e-3)
    for step in range(60):
        optimizer.zero_grad()
        apart(comparer, scenes(6, 100 + step), turn).backward()
        optimizer.step()
    assert apart(comparer, scenes(6, 1), turn).item() < 0.25 * still


def test_swapped_pictures_are_laid_together_alike(comparer):
    """Neither photo is the reference: each moves half way."""
    with torch.no_grad():
        comparer.trust.fill_(0.1)
    first, second = scenes(2, 0), scenes(2, 1)
    for one, other in zip(comparer(first, second), reversed(comparer(second, first)), strict=True):
        assert torch.allclose(one, other, atol=1e-4)


def test_pictures_that_show_nothing_do_not_move(comparer):
    """A black photo is alike everywhere: there is nothing to lay together, and no division by nothing."""
    with torch.no_grad():
        comparer.trust.fill_(0.1)
    for transform in comparer(torch.zeros(1, 3, 96, 96), torch.zeros(1, 3, 96, 96)):
        assert torch.allclose(transform, torch.eye(3)[None], atol=1e-3)


def test_the_inverse_is_numpy_s():
    m = torch.randn(5, 3, 3, generator=torch.Generator().manual_seed(0)) + 3 * torch.eye(3)
    assert torch.allclose(inverse3(m), torch.linalg.inv(m), atol=1e-5)
