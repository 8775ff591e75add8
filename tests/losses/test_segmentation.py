"""A loss that is off by a term still trains, a little worse: only numbers show it."""

from __future__ import annotations

import math

import pytest
import torch

from derm_ml.losses.segmentation import dice_bce_loss, soft_dice_loss

pytestmark = pytest.mark.slow  # imports torch


def logit(p):
    return math.log(p / (1 - p))


def test_soft_dice_is_the_formula_on_a_picture_of_two_pixels():
    logits = torch.tensor([logit(0.9), logit(0.2)]).view(1, 1, 1, 2)
    masks = torch.tensor([1.0, 0.0]).view(1, 1, 1, 2)
    assert soft_dice_loss(logits, masks).item() == pytest.approx(1 - (2 * 0.9 + 1) / (1.1 + 1 + 1), abs=1e-6)


def test_dice_is_taken_of_each_picture_and_then_averaged():
    """A large lesion must not outweigh a small one in the same batch."""
    logits = torch.full((2, 1, 4, 4), -30.0)
    masks = torch.zeros(2, 1, 4, 4)
    logits[0], masks[0] = 30.0, 1.0  # the first is perfect, the second misses one pixel
    masks[1, 0, 0, 0] = 1.0
    assert soft_dice_loss(logits, masks).item() == pytest.approx((0 + (1 - 1 / 2)) / 2, abs=1e-5)


def test_nothing_predicted_where_nothing_is_costs_nothing():
    assert soft_dice_loss(torch.full((1, 1, 8, 8), -30.0), torch.zeros(1, 1, 8, 8)).item() == pytest.approx(0, abs=1e-6)


def test_dice_bce_is_their_sum():
    logits = torch.tensor([logit(0.9), logit(0.2)]).view(1, 1, 1, 2)
    masks = torch.tensor([1.0, 0.0]).view(1, 1, 1, 2)
    bce = -(math.log(0.9) + math.log(0.8)) / 2
    assert dice_bce_loss(logits, masks).item() == pytest.approx(soft_dice_loss(logits, masks).item() + bce, abs=1e-6)


def test_a_prediction_that_comes_nearer_to_the_mask_loses_less():
    torch.manual_seed(0)
    masks = (torch.rand(3, 1, 16, 16) > 0.6).float()
    losses = [
        [f((masks * 2 - 1) * sure, masks).item() for sure in (0.1, 1, 3, 9)] for f in (soft_dice_loss, dice_bce_loss)
    ]
    assert all(values == sorted(values, reverse=True) for values in losses)
