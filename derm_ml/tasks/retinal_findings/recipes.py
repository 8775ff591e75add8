"""The recipes of retinal_findings. The first is what `derm fit retinal_findings` uses."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from derm_ml.training.settings import Augmentation, ClassifierRecipe


class RetinalRecipe(ClassifierRecipe):
    """What every recipe of retinal_findings can set beside the rest."""

    against_normal: bool = Field(
        False, description="train each finding against normal eyes only, not against eyes with other findings"
    )


class Strong(RetinalRecipe):
    """A pretrained backbone on the cropped field of view, symmetries, crops and a little colour, eight views averaged.

    `loss=asymmetric` and `class_balance=sampler` are settings: with stronger augmentation they were behind on ODIR-5K
    (0.795 against 0.823 after five epochs), where a third of the targets are true and each finding has its calibration.
    On unseen patients its mean AUC is 0.020 above that of a careful script (0.014 to 0.026, n = 3400); evened contrast,
    more pixels and a second member did not help the recipe before it: docs/results.md.

    Command: `derm fit retinal_findings --recipe strong`.
    """

    epochs: int = 12  # after 8, in batches of 32, the loss was still falling on training and validation images alike
    batch_size: int = 16
    learning_rate: float = 7e-4
    weight_decay: float = 0.02
    ema: float = 0.995  # averages the last ~200 steps, a little more than an epoch of ODIR-5K
    keep: Literal["best", "last"] = "last"  # the rate has come down to nothing by then; nothing is chosen
    field_of_view: bool = True
    augmentation: Augmentation = "moderate"  # small bleedings do not survive being resampled twice
    class_balance: Literal["none", "weights", "sampler"] = "none"
    fellow: bool = True  # what one eye has the other often has too
    negative_gamma: float = 2.0  # of loss=asymmetric: 4 is for eighty labels of which two are true


class OneVsNormal(Strong):
    """As strong, but one head a finding, each trained against normal eyes only: the original's wish.

    Its probabilities are still calibrated and measured against all eyes, which is what it will meet.

    Command: `derm fit retinal_findings --recipe one_vs_normal`.
    """

    against_normal: bool = True


class Faithful(RetinalRecipe):
    """The original: AlexNet with batch normalisation on the green channel, from scratch, no augmentation.

    The description leaves the width of the dense layer open; 1024 keeps the model below 60 MB.

    Command: `derm fit retinal_findings --recipe faithful`.
    """

    epochs: int = 20
    backbone: str = "alexnet_bn"
    pretrained: str = "none"
    hidden: tuple[int, ...] = (1024,)
    dropout: float = 0.5
    side: int = 256
    channel: Literal["rgb", "green"] = "green"
    optimizer: Literal["adamw", "adam", "sgd"] = "adam"
    learning_rate: float = 1e-4  # Adam from scratch with batch normalisation; 1e-3 diverges in the dense layer
    weight_decay: float = 0.0
    augmentation: Augmentation = "none"
    views: Literal["none", "flips", "d4"] = "none"
    class_balance: Literal["none", "weights", "sampler"] = "none"


class Drawn(RetinalRecipe):
    """A small network from scratch for drawn pictures: the demo and the tests. Under a minute on two cores."""

    epochs: int = 6
    backbone: str = "resnet18"
    pretrained: str = "none"
    side: int = 128
    batch_size: int = 16
    learning_rate: float = 1e-3
    ema: float = 0.95
    field_of_view: bool = True
    fellow: bool = True
    augmentation: Augmentation = "flips"
    views: Literal["none", "flips", "d4"] = "flips"
    loss: Literal["cross_entropy", "asymmetric"] = "asymmetric"
    negative_gamma: float = 2.0
