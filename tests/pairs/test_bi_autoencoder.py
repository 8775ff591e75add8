"""Version 2 is trained by the three terms of the original and by the map of made pairs, in one batch with real ones."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
import torch

from derm_ml.nets.bi_autoencoder import BiAutoencoder
from derm_ml.pairs.bi_autoencoder import bi_autoencoder_loss
from derm_ml.pairs.photo_pairs import training_pairs
from derm_ml.pairs.settings import BiAutoencoderObjective
from derm_ml.training.feeding import EpochSampler, training_loader

pytestmark = pytest.mark.slow


def test_the_loss_of_made_and_real_pairs_falls():
    rng = np.random.default_rng(0)
    people = [cv2.resize(rng.integers(0, 255, (9, 9, 3), np.uint8), (120, 120)) for _ in range(4)]
    visits = [[person, np.clip(person * 0.8, 0, 255).astype(np.uint8)] for person in people]
    torch.manual_seed(0)
    network = BiAutoencoder(84, dropout=0.0, shared=True, looks=1, bends=True)
    loss = bi_autoencoder_loss(BiAutoencoderObjective(latent="cosine", map_weight=3.0))
    loader = training_loader(training_pairs(visits, 84), EpochSampler(160, 8, seed=0), seed=0, workers=0)
    optimizer = torch.optim.Adam(network.parameters(), lr=5e-3)
    values, unknown = [], 0
    for batch in loader:
        unknown += int(batch[2].isnan().all(dim=2).all(dim=1).sum())
        value = loss(network, batch)
        optimizer.zero_grad()
        value.backward()
        optimizer.step()
        values.append(value.item())
    assert unknown > 0
    assert np.isfinite(values).all()
    assert np.mean(values[-5:]) < 0.8 * np.mean(values[:5])
