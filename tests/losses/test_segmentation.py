"""A loss that is off by a term still trains, a little worse: only numbers show it."""

from __future__ import annotations

import math

import pytest
import torch

from derm_ml.losses.segmentation import boundary_loss, dice_bce_loss, soft_dice_loss

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
        [f((masks * 2 - 1) * sure, masks).item() for sure in (0.1, 1, 3, 9)]
        for f in (soft_dice_loss, dice_bce_loss, boundary_loss)
    ]
    assert all(values == sorted(values, reverse=True) for values in losses)


def test_the_boundary_loss_of_an_even_mask_is_that_of_dice_and_cross_entropy():
    """Where there is no border, all pixels weigh alike."""
    torch.manual_seed(0)
    logits = torch.randn(2, 1, 20, 20)
    masks = torch.stack([torch.ones(1, 20, 20), torch.zeros(1, 20, 20)])
    assert boundary_loss(logits, masks).item() == pytest.approx(dice_bce_loss(logits, masks).item(), abs=1e-5)


def test_the_boundary_loss_weighs_a_wrong_pixel_by_its_distance_to_the_border():
    masks = torch.zeros(1, 1, 40, 40)
    masks[..., :, 20:] = 1.0  # a straight border between columns 19 and 20
    right = (masks * 2 - 1) * 8

    def wrong_at(column):
        logits = right.clone()
        logits[0, 0, 20, column] *= -1
        return boundary_loss(logits, masks).item() - boundary_loss(right, masks).item()

    assert wrong_at(20) > wrong_at(21) > wrong_at(22) == pytest.approx(wrong_at(35), rel=1e-3)
    # a window of 5 × 5 pixels: beside the border 2 of 5 columns differ, 1 + 5 · 2/5 = 3 times the weight
    assert wrong_at(20) / wrong_at(35) == pytest.approx(3, rel=0.1)
