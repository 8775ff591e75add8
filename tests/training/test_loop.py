"""The training loop: what it does with bad numbers, schedules, averages and early stops."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
from torch import nn

from derm_ml.training.ema import MovingAverage
from derm_ml.training.feeding import in_order
from derm_ml.training.loop import TrainingError, fit_network
from derm_ml.training.optimisation import Schedule, optimizer_for
from derm_ml.training.settings import Hardware, Optimiser, TrainingRecipe

pytestmark = pytest.mark.slow


def line(rng_seed: int = 0):
    rng = np.random.default_rng(rng_seed)
    x = rng.normal(size=(64, 3)).astype(np.float32)
    y = (x @ [1.0, -2.0, 0.5] > 0).astype(np.float32)[:, None]
    return x, y


def trained(**optimiser) -> TrainingRecipe:
    return TrainingRecipe(optimiser=Optimiser(**optimiser), hardware=Hardware(workers=0, precision="32-true"))


def fit(folder, recipe, scores=None, loss_scale=1.0, on_epoch=lambda r: None):
    x, y = line()
    torch.manual_seed(0)
    given = iter(scores) if scores else None

    def loss(model, batch):
        return nn.functional.binary_cross_entropy_with_logits(model(batch[0]), batch[1]) * loss_scale

    def validate(model):
        score = next(given) if given else 1.0
        return {"loss": 0.5} | ({} if score is None else {"score": score})

    return fit_network(
        nn.Linear(3, 1), lambda i, seed: (x[i], y[i]), 64, loss, validate, "score", recipe, folder, "id", on_epoch
    )


def test_a_loss_that_is_not_finite_stops_training_and_names_the_kept_checkpoint(tmp_path):
    recipe = trained(epochs=2)
    with pytest.raises(TrainingError, match="the loss became nan in epoch 1"):
        fit(tmp_path, recipe, loss_scale=math.nan)


def test_the_best_epoch_is_kept_not_the_last(tmp_path):
    fitted = fit(tmp_path, trained(epochs=4), scores=[0.5, 0.9, 0.7, 0.6])
    assert fitted.epoch == 2
    assert [r.best for r in fitted.history] == [True, True, False, False]


def test_keep_last_takes_the_last_epoch_however_it_scored(tmp_path):
    recipe = trained(epochs=3, keep="last")
    assert fit(tmp_path, recipe, scores=[0.5, 0.9, 0.7]).epoch == 3


def test_an_undefined_validation_score_never_becomes_the_best(tmp_path):
    recipe = trained(epochs=3)
    fitted = fit(tmp_path, recipe, scores=[None, 0.6, None])
    assert fitted.epoch == 2
    assert [r.best for r in fitted.history] == [False, True, False]


def test_where_no_epoch_has_a_score_none_is_called_the_best(tmp_path):
    """The first epoch was, in silence: an untrained network that could be promoted."""
    recipe = trained(epochs=2)
    with pytest.raises(TrainingError, match="gave no score in any of 2 epochs"):
        fit(tmp_path, recipe, scores=[None, None])
    last = fit(tmp_path / "last", trained(epochs=2, keep="last"), scores=[None, None])
    assert last.epoch == 2


@pytest.mark.parametrize("keep", ["best", "last"])
def test_a_validation_that_is_nan_stops_and_keeps_the_last_good_epoch(tmp_path, keep):
    recipe = trained(epochs=3, keep=keep)
    with pytest.raises(TrainingError, match=r"score of the validation split became nan in epoch 2.*good epoch \(1\)"):
        fit(tmp_path, recipe, scores=[0.5, math.nan, 0.6])
    assert fit(tmp_path, recipe, scores=[0.7, 0.6]).history[0].metrics["score"] == 0.5, "epoch 1 was trained again"


def test_warm_up_rises_then_cosine_falls_to_nothing():
    settings = Optimiser(epochs=10, warmup_epochs=2, learning_rate=1.0)
    schedule = Schedule(optimizer_for(nn.Linear(2, 1), settings), settings, steps_per_epoch=10)
    rates = [schedule.rate(step) for step in range(100)]
    assert rates[0] == pytest.approx(1 / 20)
    assert max(rates) == rates[19] == 1.0
    assert all(a >= b for a, b in itertools.pairwise(rates[19:]))
    assert rates[-1] < 0.001


def test_plateau_steps_down_after_its_patience():
    settings = Optimiser(schedule="plateau", warmup_epochs=0, learning_rate=1.0)
    schedule = Schedule(optimizer_for(nn.Linear(2, 1), settings), settings, 10)
    for improved in (True, False, False):
        schedule.after_epoch(improved)
    assert schedule.rate(50) == 1.0
    schedule.after_epoch(False)
    assert schedule.rate(50) == pytest.approx(0.1)


def test_the_moving_average_follows_its_definition():
    network = nn.BatchNorm1d(2)
    average = MovingAverage(network, 0.9)
    expected = network.weight.detach().clone()
    for step in range(30):
        with torch.no_grad():
            network.weight.add_(1.0)
        decay = min(0.9, (1 + step) / (10 + step))
        expected = decay * expected + (1 - decay) * network.weight.detach()
        average.update(network)
    assert torch.allclose(average.network.weight, expected, atol=1e-5)
    assert not average.network.weight.requires_grad


def test_biases_and_normalisation_are_not_decayed():
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))
    decayed, free = optimizer_for(network, Optimiser(weight_decay=0.1)).param_groups
    assert [p.ndim for p in decayed["params"]] == [4]
    assert free["weight_decay"] == 0
    assert len(free["params"]) == 3


@pytest.mark.parametrize(("n", "batch"), [(0, 4), (3, 4), (4, 4), (9, 4), (17, 4)])
def test_validation_sees_every_sample_once_and_in_order(n, batch):
    asked = []

    def load(index: int) -> tuple[np.ndarray, ...]:
        asked.append(index)
        return np.array([index]), np.array([[index, -index]])

    batches = []
    for number, (first, second) in enumerate(in_order(load, range(n), batch)):
        assert len(asked) <= (number + 3) * batch  # two batches ahead, not all of them
        assert second.shape == (len(first), 1, 2)
        batches.append(first)
    assert [len(b) for b in batches[:-1]] == [batch] * (len(batches) - 1)
    assert [int(v) for b in batches for v in b] == list(range(n))
