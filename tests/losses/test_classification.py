"""Losses held against their definitions: a wrong weight or mask trains a wrong model without a word."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional

from derm_ml.losses.classification import sigmoid_loss, softmax_loss


def batch(seed: int, n: int = 7, labels: int = 3):
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(n, labels, generator=generator)
    targets = functional.one_hot(torch.randint(labels, (n,), generator=generator), labels).float()
    return logits, targets


@given(st.integers(0, 10_000))
def test_focal_loss_without_focus_is_cross_entropy(seed):
    logits, targets = batch(seed)
    weights = torch.tensor([1.0, 2.0, 0.5])
    tiny = softmax_loss(logits, targets, weights, focal=1e-12)
    assert tiny.item() == pytest.approx(softmax_loss(logits, targets, weights).item(), rel=1e-4)


def test_focal_loss_of_one_image_is_the_published_formula():
    logits = torch.tensor([[2.0, 0.0, -1.0]])
    p = logits.softmax(1)[0, 0]
    assert softmax_loss(logits, torch.tensor([[1.0, 0, 0]]), focal=2.0).item() == pytest.approx(
        (-((1 - p) ** 2) * p.log()).item()
    )


@given(st.integers(0, 10_000))
def test_an_unknown_target_takes_no_part(seed):
    logits, targets = batch(seed)
    targets[0, 1] = float("nan")
    changed = logits.clone()
    changed[0, 1] += 5
    assert sigmoid_loss(logits, targets).item() == sigmoid_loss(changed, targets).item()


def test_all_targets_unknown_gives_zero_not_nan():
    assert sigmoid_loss(torch.zeros(2, 2), torch.full((2, 2), float("nan"))).item() == 0
