"""The recipes of lesion_segmentation. The first is what `derm fit lesion_segmentation` uses."""

from __future__ import annotations

from derm_ml.losses.choices import SegmentationLoss
from derm_ml.training.settings import Hardware, Mask, Networks, Optimiser, SegmenterImage, SegmenterRecipe


class Strong(SegmenterRecipe):
    """Two U-Nets on a pretrained encoder, sized for one machine.

    Dice + cross-entropy, symmetries, scale, colour, moving average of the weights, eight views averaged, the largest
    part kept and its holes filled. `members=1` is one U-Net: half of the time.

    Command: `derm fit lesion_segmentation --recipe strong`. What it reaches beside `faithful`: docs/results.md.
    """

    members: int = 2
    optimiser: Optimiser = Optimiser(
        epochs=8,  # the loss on the validation images stands still after it
        batch_size=8,  # of 1650 images: batches of 16 for 7 epochs were too few steps
        learning_rate=1e-3,
        weight_decay=0.01,
        ema=0.995,  # averages the last ~200 steps: one epoch of ISIC 2017
        keep="last",  # 120 validation images cannot tell neighbouring epochs apart
    )
    image: SegmenterImage = SegmenterImage(side=192)


class StrongGpu(Strong):
    """As strong with a larger encoder at 384 px, sized for one modern graphics card and an hour.

    Two U-Nets on EfficientNetV2-S, trained on ImageNet-21k, of which timm downloads the weights once; bfloat16 where
    the card has it, compiled. Every step was tried with small networks on a CPU; on a graphics card it was not run, and
    its score is not known.

    Command: `derm fit lesion_segmentation --recipe strong_gpu`.
    """

    optimiser: Optimiser = Strong().optimiser.but(epochs=16, batch_size=16)
    network: Networks = Strong().network.but(backbone="tf_efficientnetv2_s.in21k_ft_in1k")
    image: SegmenterImage = Strong().image.but(side=384)
    hardware: Hardware = Hardware(compile=True)


class Faithful(SegmenterRecipe):
    """The original: the Improved U-Net on 128 × 128, soft Dice, Adam at 1e-4, ten times less on a plateau.

    Command: `derm fit lesion_segmentation --recipe faithful`. With width 10, batches of 2 and 13 epochs (25 minutes on
    one busy CPU thread) its mean Dice was 0.898 on 291 unseen images.
    """

    network: Networks = Networks(networks=("improved_unet",), pretrained="none")
    optimiser: Optimiser = Optimiser(
        epochs=70,  # the original's 30 + 40
        batch_size=4,  # instance normalisation needs no large batch, and more steps learn faster at this rate
        optimizer="adam",
        learning_rate=1e-4,
        weight_decay=0.0,
        schedule="plateau",
        warmup_epochs=0.0,
        gradient_clip=0.0,
    )
    image: SegmenterImage = SegmenterImage(side=128, augmentation="flips", views="none")
    loss: SegmentationLoss = "dice"
    mask: Mask = Mask(largest_component=False, fill_holes=False)


class Drawn(SegmenterRecipe):
    """A small network from scratch for synthetic images: the demo and the tests. Under a minute on two cores.

    Expected on 240 synthetic images: mean Dice above 0.9 on the synthetic test split.
    """

    network: Networks = Networks(networks=("improved_unet",), pretrained="none", width=6, dropout=0.0)
    optimiser: Optimiser = Optimiser(epochs=4, batch_size=4, learning_rate=3e-3)
    image: SegmenterImage = SegmenterImage(side=64, augmentation="flips", views="flips")
