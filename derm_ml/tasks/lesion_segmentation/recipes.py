"""The recipes of lesion_segmentation. The first is what `derm fit lesion_segmentation` uses."""

from __future__ import annotations

from typing import Literal

from derm_ml.training.settings import SegmentationNetwork, SegmenterRecipe


class Strong(SegmenterRecipe):
    """Three networks that answer together, sized for one machine: two U-Nets on a pretrained encoder, and an Improved
    U-Net between them, which errs on other pictures.

    Dice + cross-entropy, symmetries, scale, colour, moving average of the weights, eight views averaged, the largest
    part kept and its holes filled. `members=1` is one U-Net: a third of the time. Trained on 969 images it is +0.009
    (+0.003 to +0.014) above `faithful` in Dice on 969 others.

    Command: `derm fit lesion_segmentation --recipe strong`. What it reaches beside `faithful`: docs/results.md.
    """

    networks: tuple[SegmentationNetwork, ...] = ("unet", "improved_unet")
    members: int = 3
    width: int = 10
    epochs: int = 16  # at 192 px, with one network, the loss on the validation images stood still after the ninth
    batch_size: int = 8  # of 1650 images: batches of 16 for 7 epochs were too few steps
    learning_rate: float = 1e-3
    weight_decay: float = 0.01
    ema: float = 0.995  # averages the last ~200 steps: one epoch of ISIC 2017
    keep: Literal["best", "last"] = "last"  # 120 validation images cannot tell neighbouring epochs apart


class Faithful(SegmenterRecipe):
    """The original: the Improved U-Net on 128 × 128, soft Dice, Adam at 1e-4, ten times less on a plateau.

    Command: `derm fit lesion_segmentation --recipe faithful`. With width 10, batches of 2 and 13 epochs (25 minutes on
    one busy CPU thread) its mean Dice was 0.898 on 291 unseen images.
    """

    networks: tuple[SegmentationNetwork, ...] = ("improved_unet",)
    pretrained: str = "none"
    epochs: int = 70  # the original's 30 + 40
    batch_size: int = 4  # instance normalisation needs no large batch, and more steps learn faster at this rate
    optimizer: Literal["adamw", "adam", "sgd"] = "adam"
    learning_rate: float = 1e-4
    weight_decay: float = 0.0
    schedule: Literal["cosine", "plateau", "constant"] = "plateau"
    warmup_epochs: float = 0.0
    gradient_clip: float = 0.0
    side: int = 128
    augmentation: Literal["none", "flips", "moderate", "strong"] = "flips"
    loss: Literal["dice", "dice_bce"] = "dice"
    views: Literal["none", "flips", "d4"] = "none"
    largest_component: bool = False
    fill_holes: bool = False


class Drawn(SegmenterRecipe):
    """A small network from scratch for drawn pictures: the demo and the tests. Under a minute on two cores.

    Expected on 240 drawn pictures: mean Dice above 0.9 on the drawn test split.
    """

    networks: tuple[SegmentationNetwork, ...] = ("improved_unet",)
    pretrained: str = "none"
    width: int = 6
    dropout: float = 0.0
    epochs: int = 4
    batch_size: int = 4
    learning_rate: float = 3e-3
    side: int = 64
    augmentation: Literal["none", "flips", "moderate", "strong"] = "flips"
    views: Literal["none", "flips", "d4"] = "flips"
