"""From logits to the probabilities that are served: what a card says of calibration, applied. Nothing here has a graph.

The numbers themselves are fitted on validation by metrics/calibration.py.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from derm_ml.bundles.bundle import BundleCard


def calibrated(card: BundleCard, logits: np.ndarray) -> np.ndarray:
    """Logits (N, L) → probabilities (N, L) float32 in 0..1, by softmax or sigmoid as the card's head is.

    Those of a mask (N, L, S, S) are independent sigmoids.
    """
    temperature = card.temperatures or card.temperature
    scaled = logits.astype(np.float64) / temperature + (card.bias or 0.0)
    if card.head == "softmax":
        scaled = np.exp(scaled - scaled.max(axis=1, keepdims=True))
        return (scaled / scaled.sum(axis=1, keepdims=True)).astype(np.float32)
    return (0.5 * (1 + np.tanh(scaled / 2))).astype(np.float32)  # the sigmoid without overflow


def with_fellow_logits(logits: np.ndarray, fellows: np.ndarray, shares: Sequence[float]) -> np.ndarray:
    """Logits (N, L), each averaged with that of the person's other eye, which has the label's share (L,) in the mean.

    `fellows` (N,) int: the place of the other eye's photo among the logits, -1 where there is none. Without shares the
    logits stay as they are.
    """
    if not shares:
        return logits
    known = fellows >= 0
    told = logits.copy()
    told[known] += np.array(shares, np.float32) * (logits[fellows[known]] - told[known])
    return told
