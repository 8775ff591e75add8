"""The recipes of malignancy_screening. The first is what `derm fit malignancy_screening` uses.

The three `faithful_…` recipes are one experiment: the original claims that augmentation helps most at the high-recall
end and that the larger network does not pay. `derm compare malignancy_screening RUN RUN …` tests it on your data.
"""

from __future__ import annotations

from typing import ClassVar

from derm_ml.training.settings import (
    Balance,
    ClassifierImage,
    ClassifierRecipe,
    Hardware,
    HeadLayers,
    Network,
    Optimiser,
)


class Strong(ClassifierRecipe):
    """A pretrained encoder with strong augmentation, eight views averaged, sized for one machine.

    Half of the lesions are shown on the surroundings of another one. Cancers are drawn more often, half way to
    evenness; temperature and bias, fitted afterwards on validation, undo what that does to the probabilities. The last
    epoch is kept: validation then chooses no epoch before it fits calibration and thresholds.

    Command: `derm fit malignancy_screening --recipe strong`.
    """

    optimiser: Optimiser = Optimiser(
        epochs=8,  # of 6000 images: the AUC on validation is highest after the fourth and stays
        batch_size=32,
        learning_rate=5e-4,  # AdamW on a pretrained encoder
        weight_decay=0.02,
        ema=0.998,  # averages the last ~500 steps
        keep="last",
    )
    image: ClassifierImage = ClassifierImage(
        side=192,
        training_side=160,
        other_background=0.5,  # else it ranks by the skin around the lesion: docs/results.md
    )


class StrongGpu(Strong):
    """As strong with a larger encoder at 384 px, sized for one modern graphics card and an hour.

    ConvNeXt-small, trained on ImageNet-22k, of which timm downloads the weights once; bfloat16 where the card has it,
    compiled. Every step was tried with small networks on a CPU; on a graphics card it was not run, and its score is not
    known.

    Command: `derm fit malignancy_screening --recipe strong_gpu`.
    """

    optimiser: Optimiser = Strong().optimiser.but(epochs=15, batch_size=64, learning_rate=1e-4, weight_decay=0.05)
    network: Network = Strong().network.but(backbone="convnext_small.fb_in22k_ft_in1k_384")
    image: ClassifierImage = Strong().image.but(side=384, training_side=320)
    hardware: Hardware = Hardware(compile=True)


class FaithfulResnet18(ClassifierRecipe):
    """The original with augmentation: ResNet-18, one logit, Xavier head, BCE, Adam 2e-4, 20 epochs.

    Two epochs of warm-up, then cosine. Smallest side 256, affine (p 0.33), random crop 224, RGB shift and
    brightness/contrast (p 0.1 each); judged on the centre crop. Its author reports precision 70.8 % at recall 99.9 %
    (one miss among 1000 positives, the threshold chosen on the test set) and AUPRC 99.2 on a balanced set.

    Command: `derm fit malignancy_screening --recipe faithful_resnet18`.
    """

    optimiser: Optimiser = Optimiser(
        epochs=20,
        batch_size=32,  # the original's is not known
        optimizer="adam",
        learning_rate=2e-4,
        weight_decay=0.0,
        warmup_epochs=2.0,
        gradient_clip=0.0,
        keep="last",
    )
    network: Network = Network(backbone="resnet18")
    head: HeadLayers = HeadLayers(head_init="xavier", dropout=0.0)
    image: ClassifierImage = ClassifierImage(
        squaring="crop",
        smallest_side=256,
        side=224,
        augmentation="screening",
        views="none",
    )
    balance: Balance = Balance(class_balance="none")


class FaithfulResnet18Plain(FaithfulResnet18):
    """The same without augmentation: every epoch sees the same centre crops.

    Its author reports precision 52.1 % at recall 99.9 % and AUPRC 98.7.

    Command: `derm fit malignancy_screening --recipe faithful_resnet18_plain`.
    """

    image: ClassifierImage = FaithfulResnet18().image.but(augmentation="none")


class FaithfulResnext50(FaithfulResnet18):
    """The larger network of the original, ResNeXt-50 32×4d, smallest side 232, with augmentation.

    Its author reports precision 60.0 % at recall 99.9 % and AUPRC 99.0: below the smaller network.

    Command: `derm fit malignancy_screening --recipe faithful_resnext50`.
    """

    network: Network = FaithfulResnet18().network.but(backbone="resnext50_32x4d")
    image: ClassifierImage = FaithfulResnet18().image.but(smallest_side=232)


class Distilled(Strong):
    """One network, asked once an image, that learns the answers of a trained model with all its members and views.

    The teacher must have been trained beside the same validation and test split. docs/howto/recipes.md says what it
    costs, docs/results.md what it brings.

    Command: `derm fit malignancy_screening --recipe distilled --set teacher=out/malignancy_screening/strong-…`.
    """

    needs_teacher: ClassVar[bool] = True

    image: ClassifierImage = Strong.model_fields["image"].default.but(views="none", other_background=0.0)


class Drawn(ClassifierRecipe):
    """A small network from scratch for synthetic images: tests and first steps. Under a minute on two cores.

    Expected on 240 synthetic images: AUC above 0.9 on the synthetic test split.
    """

    optimiser: Optimiser = Optimiser(epochs=6, batch_size=16, learning_rate=1e-3, ema=0.95)
    network: Network = Network(backbone="resnet18", pretrained="none")
    image: ClassifierImage = ClassifierImage(side=64, augmentation="flips", views="flips")
