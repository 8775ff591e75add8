"""The recipes of retinal_findings. The first is what `derm fit retinal_findings` uses."""

from __future__ import annotations

from typing import Literal

from derm_ml.training.settings import Augmentation, ClassifierRecipe


class Strong(ClassifierRecipe):
    """A pretrained backbone on the cropped field of view, asymmetric loss, rare findings drawn more often.

    Symmetries of the square, scale and colour; moving average of the weights; eight views averaged.

    Command: `derm fit retinal_findings --recipe strong`.
    """

    epochs: int = 10
    learning_rate: float = 1e-3
    weight_decay: float = 0.02
    ema: float = 0.99  # averages the last ~100 steps, a little more than an epoch of ODIR-5K
    keep: Literal["best", "last"] = "last"  # the rate has come down to nothing by then; nothing is chosen
    field_of_view: bool = True
    loss: Literal["cross_entropy", "asymmetric"] = "asymmetric"
    negative_gamma: float = 2.0  # 4 is for eighty labels of which two are true; here a third of the targets are


class Drawn(ClassifierRecipe):
    """A small network from scratch for drawn pictures: the demo and the tests. Under a minute on two cores."""

    epochs: int = 6
    backbone: str = "resnet18"
    pretrained: str = "none"
    side: int = 128
    batch_size: int = 16
    learning_rate: float = 1e-3
    ema: float = 0.95
    field_of_view: bool = True
    augmentation: Augmentation = "flips"
    views: Literal["none", "flips", "d4"] = "flips"
    loss: Literal["cross_entropy", "asymmetric"] = "asymmetric"
    negative_gamma: float = 2.0
