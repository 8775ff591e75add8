"""Losses held against their definitions: a wrong weight or mask trains a wrong model without a word."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional

from derm_ml.losses.classification import asymmetric_loss, sigmoid_loss

pytestmark = pytest.mark.slow  # imports torch


def batch(seed: int, n: int = 7, labels: int = 3):
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(n, labels, generator=generator)
    targets = functional.one_hot(torch.randint(labels, (n,), generator=generator), labels).float()
    return logits, targets


@given(st.integers(0, 10_000))
def test_an_unknown_target_takes_no_part(seed):
    logits, targets = batch(seed)
    targets[0, 1] = float("nan")
    changed = logits.clone()
    changed[0, 1] += 5
    assert sigmoid_loss(logits, targets).item() == sigmoid_loss(changed, targets).item()


def test_all_targets_unknown_gives_zero_not_nan():
    assert sigmoid_loss(torch.zeros(2, 2), torch.full((2, 2), float("nan"))).item() == 0


@given(st.integers(0, 10_000))
def test_asymmetric_loss_without_asymmetry_is_cross_entropy(seed):
    logits, targets = batch(seed)
    targets[0, 1] = float("nan")
    plain = asymmetric_loss(logits, targets, negative=0, margin=0).item()
    assert plain == pytest.approx(sigmoid_loss(logits, targets).item(), rel=1e-5)


def test_asymmetric_loss_of_one_image_is_the_published_formula():
    """Ridnik et al. 2021, equation 7, by hand: a positive at p = 0.7, a negative at 0.6, one below the margin."""
    p = torch.tensor([[0.7, 0.6, 0.04]])
    found = asymmetric_loss(p.logit(), torch.tensor([[1.0, 0.0, 0.0]]), negative=4, margin=0.05).item()
    by_hand = -(math.log(0.7) + 0.55**4 * math.log(0.45) + 0) / 3
    assert found == pytest.approx(by_hand, rel=1e-5)


def test_an_unknown_target_teaches_nothing():
    logits = torch.zeros(2, 2, requires_grad=True)
    targets = torch.tensor([[1.0, float("nan")], [float("nan"), 0.0]])
    asymmetric_loss(logits, targets).backward()
    assert torch.equal(logits.grad != 0, torch.tensor([[True, False], [False, True]]))
