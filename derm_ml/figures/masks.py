"""Figures of how well masks match."""

from __future__ import annotations

import numpy as np

from derm_ml.figures.style import BLUE, RED, SOFT, drawing


def dice_figure(dice: np.ndarray, area: np.ndarray, confidence: np.ndarray) -> bytes:
    """Three panels of N pictures: histogram of Dice, Dice against true area share, Dice against confidence (0..1)."""
    dice, area, confidence = (np.asarray(values, float) for values in (dice, area, confidence))
    with drawing(10.2, 3.2, columns=3) as picture:
        left, middle, right = picture.axes
        left.hist(dice, np.linspace(0, 1, 26).tolist(), color=BLUE, alpha=0.85)
        left.axvline(float(dice.mean()), color=RED, linewidth=1.2, label=f"mean {dice.mean():.3f}")
        left.axvline(float(np.median(dice)), color=SOFT, linewidth=1.2, label=f"median {np.median(dice):.3f}")
        left.set(xlabel="Dice", ylabel="Pictures", xlim=(0, 1))
        left.legend(loc="upper left")
        middle.scatter(area, dice, s=9, color=BLUE, alpha=0.6, linewidths=0)
        middle.set(xlabel="Lesion's share of the image", ylabel="Dice", xlim=(0, 1), ylim=(-0.02, 1.02))
        right.plot([0, 1], [0, 1], color=SOFT, linewidth=0.9, linestyle=":")
        right.scatter(confidence, dice, s=9, color=BLUE, alpha=0.6, linewidths=0)
        right.set(xlabel="Confidence (expected Dice)", ylabel="Dice", xlim=(0, 1.02), ylim=(-0.02, 1.02))
    return picture.png
