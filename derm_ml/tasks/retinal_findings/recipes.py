"""The recipes of retinal_findings. The first is what `derm fit retinal_findings` uses."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field

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


class RetinalRecipe(ClassifierRecipe):
    """What every recipe of retinal_findings can set beside the rest."""

    against_normal: bool = Field(
        default=False, description="train each finding against normal eyes only, not against eyes with other findings"
    )


class Strong(RetinalRecipe):
    """A pretrained backbone on the cropped field of view, symmetries, crops and a little colour, eight views averaged.

    `loss=asymmetric` and `class_balance=sampler` are settings: with stronger augmentation they were behind on ODIR-5K
    (0.795 against 0.823 after five epochs), where a third of the targets are true and each finding has its calibration.
    On unseen patients its mean AUC is 0.020 above that of a careful script (0.014 to 0.026, n = 3400); evened contrast,
    more pixels and a second member did not help the recipe before it: docs/results.md.

    Command: `derm fit retinal_findings --recipe strong`.
    """

    optimiser: Optimiser = Optimiser(
        epochs=12,  # after 8, in batches of 32, the loss was still falling on training and validation images alike
        batch_size=16,
        learning_rate=7e-4,
        weight_decay=0.02,
        ema=0.995,  # averages the last ~200 steps, a little more than an epoch of ODIR-5K
        keep="last",  # the rate has come down to nothing by then; nothing is chosen
    )
    image: ClassifierImage = ClassifierImage(
        field_of_view=True,
        augmentation="moderate",  # small bleedings do not survive being resampled twice
    )
    balance: Balance = Balance(class_balance="none")
    patient: Patient = Patient(
        fellow=True,  # what one eye has the other often has too
    )
    objective: ClassifierObjective = ClassifierObjective(
        negative_gamma=2.0,  # of loss=asymmetric: 4 is for eighty labels of which two are true
    )


class StrongGpu(Strong):
    """As strong with a larger encoder at 384 px, sized for one modern graphics card and an hour.

    ConvNeXt-small, trained on ImageNet-22k, of which timm downloads the weights once; bfloat16 where the card has it,
    compiled. Every step was tried with small networks on a CPU; on a graphics card it was not run, and its score is not
    known.

    Command: `derm fit retinal_findings --recipe strong_gpu`.
    """

    optimiser: Optimiser = Strong().optimiser.but(batch_size=32, learning_rate=1e-4, weight_decay=0.05)
    network: Network = Strong().network.but(backbone="convnext_small.fb_in22k_ft_in1k_384")
    image: ClassifierImage = Strong().image.but(side=384)
    hardware: Hardware = Hardware(compile=True)


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

    optimiser: Optimiser = Optimiser(
        epochs=20,
        optimizer="adam",
        learning_rate=1e-4,  # Adam from scratch with batch normalisation; 1e-3 diverges in the dense layer
        weight_decay=0.0,
    )
    network: Network = Network(backbone="alexnet_bn", pretrained="none")
    head: HeadLayers = HeadLayers(hidden=(1024,), dropout=0.5)
    image: ClassifierImage = ClassifierImage(side=256, channel="green", augmentation="none", views="none")
    balance: Balance = Balance(class_balance="none")


class Distilled(Strong):
    """One network, asked once an image, that learns the answers of a trained model with all its members and views.

    The teacher must have been trained beside the same validation and test split. docs/howto/recipes.md says what it
    costs, docs/results.md what it brings.

    Command: `derm fit retinal_findings --recipe distilled --set teacher=out/retinal_findings/strong-…`.
    """

    needs_teacher: ClassVar[bool] = True

    image: ClassifierImage = Strong.model_fields["image"].default.but(views="none")


class Drawn(RetinalRecipe):
    """A small network from scratch for synthetic images: the demo and the tests. Under a minute on two cores."""

    optimiser: Optimiser = Optimiser(epochs=6, batch_size=16, learning_rate=1e-3, ema=0.95)
    network: Network = Network(backbone="resnet18", pretrained="none")
    image: ClassifierImage = ClassifierImage(side=128, field_of_view=True, augmentation="flips", views="flips")
    patient: Patient = Patient(fellow=True)
    objective: ClassifierObjective = ClassifierObjective(loss="asymmetric", negative_gamma=2.0)
