"""Two photos are laid together by what they show; without training nothing moves."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from derm_ml.nets.bi_autoencoder import sampled
from derm_ml.nets.comparer import Bender, Comparer, carried, inverse, inverse3

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


STILL = torch.eye(3)


def bent(pictures: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Pictures (N, 3, S, S) whose middle is moved to the right, and where they now show what they showed at `AT`."""
    side = pictures.shape[-1]
    line = (2 * torch.arange(side) + 1) / side - 1
    y, x = torch.meshgrid(line, line, indexing="ij")
    back = torch.stack([x - 0.1 * torch.exp(-2 * (x**2 + y**2)), y], dim=2).expand(len(pictures), -1, -1, -1)
    there = AT.clone()
    for _ in range(20):
        there[:, 0] = AT[:, 0] + 0.1 * torch.exp(-2 * there.square().sum(dim=1))
    return F.grid_sample(pictures, back, padding_mode="border", align_corners=False), there


AT = torch.tensor([[x, y] for x in (-0.6, -0.2, 0.2, 0.6) for y in (-0.6, -0.2, 0.2, 0.6)])


@pytest.fixture
def bender() -> Bender:
    torch.manual_seed(0)
    return Bender(3, 96, reach=0.25)


def missed(bender: Bender, first: torch.Tensor) -> torch.Tensor:
    second, there = bent(first)
    still = STILL.expand(len(first), 3, 3)
    return (carried(AT, still, still, bender(first, second)) - there).norm(dim=2).mean()


def test_nothing_bends_before_training(bender):
    assert bender(scenes(2, 0), scenes(2, 1)).abs().max() == 0


def test_what_no_affine_map_follows_is_learned_from_some_pictures_and_found_on_others(bender):
    before = missed(bender, scenes(6, 1)).item()
    optimizer = torch.optim.Adam(bender.parameters(), lr=3e-3)
    for step in range(60):
        optimizer.zero_grad()
        missed(bender, scenes(6, 100 + step)).backward()
        optimizer.step()
    assert missed(bender, scenes(6, 1)).item() < 0.4 * before


def test_the_bend_back_undoes_the_bend_there(bender):
    """Neither photo is the reference, so a pair has one answer whichever visit comes first."""
    with torch.no_grad():
        bender.trust.fill_(0.1)
    first, turn = scenes(2, 0), TURNED.expand(2, 3, 3)
    second, still = bent(first)[0], STILL.expand(2, 3, 3)
    there, back = bender(first, second), bender(second, first)
    assert torch.allclose(there, -back, atol=1e-5)
    moved = carried(AT, turn, still, there)
    assert (moved - carried(AT, turn, still)).abs().max() > 0.02
    for k in range(2):
        again = carried(moved[k], still[k : k + 1], turn[k : k + 1], back[k : k + 1])[0]
        assert (again - AT).abs().max() < 0.01


def test_pictures_that_show_nothing_do_not_bend(bender):
    with torch.no_grad():
        bender.trust.fill_(0.1)
    assert bender(torch.zeros(1, 3, 96, 96), torch.zeros(1, 3, 96, 96)).abs().max() < 0.02
