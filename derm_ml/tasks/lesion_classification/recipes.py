"""The recipes of lesion_classification. The first is what `derm fit lesion_classification` uses."""

from __future__ import annotations

from typing import ClassVar

from derm_ml.training.settings import (
    Balance,
    ClassifierImage,
    ClassifierObjective,
    ClassifierRecipe,
    Hardware,
    HeadLayers,
    Network,
    Optimiser,
    Patient,
)


class Strong(ClassifierRecipe):
    """What the winners of ISIC 2017 share, sized for one machine.

    Pretrained encoder, symmetries of the square, crops, a little colour, half of the images as a worse device gives
    them, moving average of the weights, age and sex where they are known, eight views averaged at a larger size than in
    training (Touvron et al. 2019, arXiv 1906.06423); extra data through a label map when `training_only` names a
    source.

    Expected on ISIC 2017: mean AUC 0.91 on unseen images of that set, before images of worse devices were among those
    it learns from; 0.02 more than then on another clinic's. docs/results.md says against what.

    Command: `derm fit lesion_classification --recipe strong`.
    """

    members: int = 2  # each alone has a mean AUC about 0.01 lower
    optimiser: Optimiser = Optimiser(
        epochs=12,
        batch_size=32,
        learning_rate=1e-3,  # AdamW with warm-up
        weight_decay=0.02,
        ema=0.99,  # averages the last ~100 steps: some two epochs of ISIC 2017
        keep="last",  # 150 validation images cannot tell neighbouring epochs apart
    )
    objective: ClassifierObjective = ClassifierObjective(label_smoothing=0.05)
    image: ClassifierImage = ClassifierImage(
        side=224,
        training_side=192,
        augmentation="robust",  # worse devices: +0.023 AUC at another clinic; `strong` cost keratosis 0.01 at home
    )
    balance: Balance = Balance(
        class_balance="none",  # AUC is what counts; calibration knows the shares
    )
    patient: Patient = Patient(attributes=("age", "sex"), attribute_dropout=0.1)


class StrongGpu(Strong):
    """As strong with a larger encoder at 384 px, sized for one modern graphics card and an hour.

    ConvNeXt-small, trained on ImageNet-22k, of which timm downloads the weights once; bfloat16 where the card has it,
    compiled. Every step was tried with small networks on a CPU; on a graphics card it was not run, and its score is not
    known.

    Command: `derm fit lesion_classification --recipe strong_gpu`.
    """

    optimiser: Optimiser = Strong().optimiser.but(
        epochs=20, batch_size=64, learning_rate=1e-4, weight_decay=0.05, ema=0.98
    )
    network: Network = Strong().network.but(backbone="convnext_small.fb_in22k_ft_in1k_384")
    image: ClassifierImage = Strong().image.but(side=384, training_side=320)
    hardware: Hardware = Hardware(compile=True)


class Faithful(ClassifierRecipe):
    """The original: ResNet-50, head 2048-512-128-3, first the head alone, then the whole network, flips only.

    Command: `derm fit lesion_classification --recipe faithful`.
    """

    optimiser: Optimiser = Optimiser(
        epochs=20,
        optimizer="adam",
        learning_rate=1e-4,
        weight_decay=0.0,
        schedule="plateau",
        warmup_epochs=0.0,
    )
    network: Network = Network(backbone="resnet50")
    head: HeadLayers = HeadLayers(hidden=(512, 128), dropout=0.2, frozen_epochs=5)
    image: ClassifierImage = ClassifierImage(augmentation="flips", views="none")
    balance: Balance = Balance(class_balance="none")


class Distilled(Strong):
    """One network, asked once an image, that learns the answers of a trained model with all its members and views.

    The teacher must have been trained beside the same validation and test split. docs/howto/recipes.md says what it
    costs, docs/results.md what it brings.

    Command: `derm fit lesion_classification --recipe distilled --set teacher=out/lesion_classification/strong-…`.
    """

    needs_teacher: ClassVar[bool] = True

    members: int = 1
    image: ClassifierImage = Strong.model_fields["image"].default.but(views="none")


class Drawn(ClassifierRecipe):
    """A small network from scratch for synthetic images: the demo and the tests. Under a minute on two cores.

    Expected on 240 synthetic images: mean AUC above 0.9 on the synthetic test split.
    """

    optimiser: Optimiser = Optimiser(epochs=6, batch_size=16, learning_rate=1e-3, ema=0.95)
    network: Network = Network(backbone="resnet18", pretrained="none")
    image: ClassifierImage = ClassifierImage(
        side=128,  # maps of 4 × 4: fewer cells show nothing
        augmentation="flips",
        views="flips",
    )
