"""The recipes of lesion_classification. The first is what `derm fit lesion_classification` uses."""

from __future__ import annotations

from typing import Literal

from derm_ml.training.settings import Augmentation, ClassifierRecipe


class Strong(ClassifierRecipe):
    """What the winners of ISIC 2017 share, sized for one machine.

    Pretrained encoder, symmetries of the square, crops and a little colour, moving average of the weights, age and
    sex where they are known, eight views averaged at a larger size than in training (Touvron et al. 2019,
    arXiv 1906.06423); extra data through a label map when `training_only` names a source.

    Expected on ISIC 2017 (training and validation, MobileNetV2): mean AUC 0.911 (0.897 to 0.926) on 1428 unseen images,
    in two folds of a cross-validation; docs/results.md says against what.

    Command: `derm fit lesion_classification --recipe strong`.
    """

    members: int = 2  # each alone has a mean AUC about 0.01 lower
    epochs: int = 12
    batch_size: int = 32
    learning_rate: float = 1e-3  # AdamW with warm-up
    weight_decay: float = 0.02
    ema: float = 0.99  # averages the last ~100 steps: some two epochs of ISIC 2017
    keep: Literal["best", "last"] = "last"  # 150 validation images cannot tell neighbouring epochs apart
    label_smoothing: float = 0.05
    side: int = 224
    training_side: int = 192
    augmentation: Augmentation = "moderate"  # on 2000 images stronger ones cost keratosis 0.01 of its AUC
    class_balance: Literal["none", "weights", "sampler"] = "none"  # AUC is what counts; calibration knows the shares
    attributes: tuple[Literal["age", "sex"], ...] = ("age", "sex")
    attribute_dropout: float = 0.1


class Faithful(ClassifierRecipe):
    """The original: ResNet-50, head 2048-512-128-3, first the head alone, then the whole network, flips only.

    Command: `derm fit lesion_classification --recipe faithful`.
    """

    epochs: int = 20
    backbone: str = "resnet50"
    hidden: tuple[int, ...] = (512, 128)
    dropout: float = 0.2
    frozen_epochs: int = 5
    optimizer: Literal["adamw", "adam", "sgd"] = "adam"
    learning_rate: float = 1e-4
    weight_decay: float = 0.0
    schedule: Literal["cosine", "plateau", "constant"] = "plateau"
    warmup_epochs: float = 0.0
    augmentation: Augmentation = "flips"
    views: Literal["none", "flips", "d4"] = "none"
    class_balance: Literal["none", "weights", "sampler"] = "none"


class Drawn(ClassifierRecipe):
    """A small network from scratch for drawn pictures: the demo and the tests. Under a minute on two cores.

    Expected on 240 drawn pictures: mean AUC above 0.9 on the drawn test split.
    """

    epochs: int = 6
    backbone: str = "resnet18"
    pretrained: str = "none"
    side: int = 128  # maps of 4 × 4: fewer cells show nothing
    batch_size: int = 16
    learning_rate: float = 1e-3
    ema: float = 0.95
    augmentation: Augmentation = "flips"
    views: Literal["none", "flips", "d4"] = "flips"
