"""The recipes of malignancy_screening. The first is what `derm fit malignancy_screening` uses.

The three `faithful_…` recipes are one experiment: the original claims that augmentation helps most at the high-recall
end and that the larger network does not pay. `derm compare malignancy_screening RUN RUN …` tests it on your data.
"""

from __future__ import annotations

from typing import Literal

from derm_ml.training.settings import Augmentation, ClassifierRecipe


class Strong(ClassifierRecipe):
    """A pretrained encoder with strong augmentation, eight views averaged, sized for one machine.

    Cancers are drawn more often, half way to evenness; temperature and bias, fitted afterwards on validation, undo
    what that does to the probabilities. The last epoch is kept: validation then chooses no epoch before it fits
    calibration and thresholds.

    Command: `derm fit malignancy_screening --recipe strong`.
    """

    epochs: int = 12
    batch_size: int = 32
    learning_rate: float = 5e-4  # AdamW on a pretrained encoder
    weight_decay: float = 0.02
    ema: float = 0.998  # averages the last ~500 steps
    side: int = 224
    keep: Literal["best", "last"] = "last"


class FaithfulResnet18(ClassifierRecipe):
    """The original with augmentation: ResNet-18, one logit, Xavier head, BCE, Adam 2e-4, 20 epochs.

    Two epochs of warm-up, then cosine. Smallest side 256, affine (p 0.33), random crop 224, RGB shift and
    brightness/contrast (p 0.1 each); judged on the centre crop. Its author reports precision 70.8 % at recall 99.9 %
    (one miss among 1000 positives, the threshold chosen on the test set) and AUPRC 99.2 on a balanced set.

    Command: `derm fit malignancy_screening --recipe faithful_resnet18`.
    """

    epochs: int = 20
    batch_size: int = 32  # the original's is not known
    backbone: str = "resnet18"
    head_init: Literal["uniform", "xavier"] = "xavier"
    dropout: float = 0.0
    optimizer: Literal["adamw", "adam", "sgd"] = "adam"
    learning_rate: float = 2e-4
    weight_decay: float = 0.0
    warmup_epochs: float = 2.0
    gradient_clip: float = 0.0
    keep: Literal["best", "last"] = "last"
    squaring: Literal["squash", "crop", "pad"] = "crop"
    smallest_side: int = 256
    side: int = 224
    augmentation: Augmentation = "screening"
    views: Literal["none", "flips", "d4"] = "none"
    class_balance: Literal["none", "weights", "sampler"] = "none"


class FaithfulResnet18Plain(FaithfulResnet18):
    """The same without augmentation: every epoch sees the same centre crops.

    Its author reports precision 52.1 % at recall 99.9 % and AUPRC 98.7.

    Command: `derm fit malignancy_screening --recipe faithful_resnet18_plain`.
    """

    augmentation: Augmentation = "none"


class FaithfulResnext50(FaithfulResnet18):
    """The larger network of the original, ResNeXt-50 32×4d, smallest side 232, with augmentation.

    Its author reports precision 60.0 % at recall 99.9 % and AUPRC 99.0: below the smaller network.

    Command: `derm fit malignancy_screening --recipe faithful_resnext50`.
    """

    backbone: str = "resnext50_32x4d"
    smallest_side: int = 232


class Drawn(ClassifierRecipe):
    """A small network from scratch for drawn pictures: tests and first steps. Under a minute on two cores.

    Expected on 240 drawn pictures: AUC above 0.9 on the drawn test split.
    """

    epochs: int = 6
    backbone: str = "resnet18"
    pretrained: str = "none"
    side: int = 64
    batch_size: int = 16
    learning_rate: float = 1e-3
    ema: float = 0.95
    augmentation: Augmentation = "flips"
    views: Literal["none", "flips", "d4"] = "flips"
