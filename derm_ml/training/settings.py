"""The settings trained tasks share, in groups. Light to import: the Launchpad form is made from them.

A group stands for one subject; a task's recipe chooses groups and gives them its own values (`derm_ml/recipe.py`).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Literal, Self

from pydantic import Field

from derm_ml.images.settings import Augmentation, Channel, Contrast, PairedAugmentation, Squaring, Views
from derm_ml.losses.choices import ClassificationLoss, SegmentationLoss
from derm_ml.nets.choices import HeadInit, SegmentationNetwork
from derm_ml.recipe import Group, Recipe, Removed

OptimizerName = Literal["adamw", "adam", "sgd"]
ScheduleName = Literal["cosine", "plateau", "constant"]
PatientFact = Literal["age", "sex"]
Precision = Literal["auto", "32-true", "bf16-mixed", "16-mixed"]
Accelerator = Literal["auto", "cpu", "cuda", "mps"]
Strategy = Literal["auto", "ddp"]


class Optimiser(Group):
    """How the weights are found: passes, steps, rate, and which epoch is kept."""

    epochs: int = Field(default=20, ge=1, description="passes over the training images")
    batch_size: int = Field(default=32, ge=1, description="images in one optimisation step, over all devices")
    optimizer: OptimizerName = Field(default="adamw", description="sgd is with Nesterov momentum 0.9")
    learning_rate: float = Field(default=1e-3, gt=0, description="at its highest")
    weight_decay: float = Field(default=1e-4, ge=0, description="of weights; biases and normalisation are left out")
    schedule: ScheduleName = Field(
        default="cosine", description="of the learning rate; plateau: see training/optimisation.py"
    )
    warmup_epochs: float = Field(
        default=1.0, ge=0, description="linear warm-up; a larger rate at the start breaks pretrained features"
    )
    keep: Literal["best", "last"] = Field(
        default="best", description="the epoch that becomes the model; with few validation images the best one is luck"
    )
    gradient_clip: float = Field(
        default=1.0, ge=0, description="largest norm of all gradients together (0: no clipping)"
    )
    ema: float = Field(
        default=0.0, ge=0, lt=1, description="decay of the exponential moving average of the weights (0: off)"
    )


class Hardware(Group):
    """What of the machines is used: devices, precision, processes that prepare images."""

    accelerator: Accelerator = Field(default="auto", description="auto: a GPU where there is one")
    devices: int = Field(
        default=1,
        ge=1,
        description="devices of each machine, one process each; the images of a batch are dealt out to them, and batch "
        "normalisation looks at the whole batch",
    )
    nodes: int = Field(
        default=1, ge=1, description="machines; with several, start torchrun on each of them, or train through SLURM"
    )
    strategy: Strategy = Field(
        default="auto", description="how several devices work together; auto: ddp, each has the whole network"
    )
    accumulate: int = Field(
        default=1,
        ge=1,
        description="parts a batch is worked through in, where memory does not hold it; batch normalisation then looks "
        "at one part",
    )
    compile: bool = Field(
        default=False, description="torch.compile: a slow start, then faster steps; needs a compiler on a CPU"
    )

    precision: Precision = Field(
        default="auto", description="auto: bf16-mixed on GPUs and on CPUs with matrix units for it, else 32-true"
    )
    workers: int = Field(
        default=-1, ge=-1, description="processes that prepare images; -1: all cores but one, at most 16"
    )


class TrainingRecipe(Recipe):
    """Optimisation, data feeding and device. A task's recipe adds its network and its images."""

    removed: ClassVar[Removed] = {
        "plateau_patience": (2, "The plateau schedule waits two epochs."),
        "plateau_factor": (0.1, "The plateau schedule divides the rate by ten."),
        "early_stop": (0, "Choose fewer epochs; keep=best takes the best of them."),
    }

    placement: ClassVar[frozenset[str]] = frozenset({"accelerator", "devices", "nodes", "strategy", "compile"})
    later: ClassVar[Mapping[str, Any]] = {"accumulate": 1}

    optimiser: Optimiser = Optimiser()
    hardware: Hardware = Hardware()


class ImageRecipe(TrainingRecipe):
    """What the recipes of networks for single images share."""

    later: ClassVar[Mapping[str, Any]] = {**TrainingRecipe.later, "int8": False}

    members: int = Field(
        default=1, ge=1, le=8, description="networks trained from seed, seed + 1, …, whose logits are averaged"
    )
    int8: bool = Field(
        default=False,
        description="the trained graph computes its convolutions with 8-bit integers: smaller, faster on CPUs",
    )

    def member(self, k: int) -> Self:
        """The recipe of the k-th member alone, counted from 0."""
        return self.model_copy(update={"seed": self.seed + k, "members": 1})


class Network(Group):
    """The pretrained part of the network."""

    backbone: str = Field(
        default="tf_efficientnet_lite0", description="a classification model of torchvision or timm, without its head"
    )
    pretrained: str = Field(
        default="auto",
        description="'none', 'torchvision' or 'timm' (downloads once), 'bundled' (installed), a .safetensors path; "
        "'auto': bundled where the backbone has such weights, else its library's",
    )


class HeadLayers(Group):
    """The layers between the backbone's features and the logits."""

    hidden: tuple[int, ...] = Field(default=(), description="widths of hidden layers between pooling and logits")
    head_init: HeadInit = Field(
        default="uniform", description="first weights of the head: torch's own rule, or Xavier's with zero biases"
    )
    dropout: float = Field(default=0.2, ge=0, lt=1, description="in front of every linear layer of the head")
    frozen_epochs: int = Field(default=0, ge=0, description="epochs at the start in which only the head learns")


class ClassifierImage(Group):
    """How an image becomes the square a network sees, in training and after it."""

    side: int = Field(default=224, ge=32, le=1024, description="pixels of the square image the network sees")
    training_side: int = Field(
        default=0,
        ge=0,
        le=1024,
        description="pixels of the square in training (0: side); random crops show things larger than they will be, "
        "so a smaller square shows them as large as they will be, and costs less",
    )
    squaring: Squaring = Field(default="squash", description="how an image becomes a square")
    smallest_side: int = Field(
        default=0, ge=0, description="with squaring=crop: pixels of the shorter side before the square is cut (0: side)"
    )
    field_of_view: bool = Field(default=False, description="crop the black frame around a round field of view first")
    channel: Channel = Field(default="rgb", description="green: all three channels are the green one")
    contrast: Contrast = Field(
        default="none",
        description="even the contrast first: adaptive histogram equalisation, or difference from a blur",
    )
    augmentation: Augmentation = Field(default="strong", description="see derm_ml/images/augment.py")
    other_background: float = Field(
        default=0.0,
        ge=0,
        le=1,
        description="share of training images whose middle is shown on what surrounds that of another one: a label can "
        "then not be told by the skin, the ruler or the camera beside the lesion",
    )
    views: Views = Field(default="d4", description="test-time augmentation, averaged over 1, 4 or 8 views")


class Patient(Group):
    """What else is known of the person: age and sex, the other eye."""

    attributes: tuple[PatientFact, ...] = Field(
        default=(), description="patient facts the network is told, missing ones flagged"
    )
    attribute_dropout: float = Field(
        default=0.3,
        ge=0,
        lt=1,
        description="share of training images shown without their facts: answers need not have them",
    )
    fellow: bool = Field(
        default=False, description="let the same person's other eye count, as much for each label as validation says"
    )


class Balance(Group):
    """How often images are drawn, and how much rare labels weigh."""

    class_balance: Literal["none", "weights", "sampler"] = Field(
        default="sampler",
        description="rare labels weigh more in the loss, or are drawn more often, by the square root of their rarity",
    )
    extra_weight: float = Field(
        default=1.0, ge=0, description="how often an image of a training-only source is drawn, against 1 for the others"
    )


class Labels(Group):
    """Which labels are learned from: all, a share, or proposed ones too."""

    labelled_share: float = Field(
        default=1.0,
        gt=0,
        le=1,
        description="share of the training patients whose labels are used; the others' are put aside",
    )
    pseudo_labels: str = Field(
        default="", description="path of a table `derm pseudo-label` made: its images are trained on too"
    )


class ClassifierObjective(Group):
    """What training minimises."""

    loss: ClassificationLoss = Field(
        default="cross_entropy", description="asymmetric: easy negatives of independent labels count little"
    )
    label_smoothing: float = Field(default=0.0, ge=0, lt=1, description="share of the target spread over all labels")
    negative_gamma: float = Field(
        default=4.0, ge=0, description="of the asymmetric loss: the focal exponent of negatives"
    )


class Distillation(Group):
    """A trained model whose answers are learned beside the labels: the teacher, most often an ensemble with views."""

    teacher: str = Field(
        default="", description="model folder of the teacher: its path, its name below out/TASK, or its version"
    )
    teacher_version: str = Field(
        default="", description="the version of the teacher; left empty, it is that of the model that is there"
    )
    teacher_share: float = Field(
        default=0.7,
        gt=0,
        le=1,
        description="share of the teacher's answers in what is learned; the rest are the labels",
    )
    teacher_temperature: float = Field(
        default=2.0,
        ge=0.1,
        le=20,
        description="logits of both are divided by it: higher tells more of the unlikely labels",
    )
    teacher_crops: int = Field(
        default=0,
        ge=0,
        le=64,
        description="crops of each image the teacher is asked about, and which are then learned from; 0: it is asked "
        "about the whole image, and every epoch learns from a new crop",
    )


class ClassifierRecipe(ImageRecipe):
    """Backbone + head on square images: what every classification task can set."""

    removed: ClassVar[Removed] = TrainingRecipe.removed | {
        "balance_power": (
            0.5,
            "class_balance goes half way to even labels; class_balance=none leaves them as they are.",
        ),
        "focal_gamma": (0.0, "loss=asymmetric lets easy negatives count little; class_balance lets rare labels count."),
    }

    placement: ClassVar[frozenset[str]] = TrainingRecipe.placement | {"teacher"}  # its version names it
    later: ClassVar[Mapping[str, Any]] = {
        **ImageRecipe.later,
        "local_cases": "",
        "other_background": 0.0,
        "teacher_version": "",
        "teacher_share": 0.7,
        "teacher_temperature": 2.0,
        "teacher_crops": 0,
    }
    needs_teacher: ClassVar[bool] = False  # nothing to train without one

    local_cases: str = Field(
        default="",
        description="data version of labelled cases of the place of use, as `derm calibrate` prints it: probabilities "
        "and operating points are fitted on them",
    )
    network: Network = Network()
    head: HeadLayers = HeadLayers()
    image: ClassifierImage = ClassifierImage()
    patient: Patient = Patient()
    balance: Balance = Balance()
    labels: Labels = Labels()
    distillation: Distillation = Distillation()
    objective: ClassifierObjective = ClassifierObjective()


class Networks(Network):
    """The networks, and what each of them is made of."""

    networks: tuple[SegmentationNetwork, ...] = Field(
        default=("unet",), min_length=1, description="see derm_ml/nets; several: the members are these by turns"
    )
    backbone: str = Field(
        default="tf_efficientnet_lite0", description="of the unet: a model of torchvision or timm as its encoder"
    )
    pretrained: str = Field(
        default="auto",
        description="of the unet: 'auto', 'none', 'torchvision', 'timm', 'bundled' or a .safetensors path",
    )
    width: int = Field(
        default=16, ge=1, le=128, description="of the improved_unet: maps at full resolution, 16 in the paper"
    )
    dropout: float = Field(
        default=0.3, ge=0, lt=1, description="of the improved_unet: between the convolutions of a context"
    )


class SegmenterImage(Group):
    """How an image and its mask become the square a network sees."""

    side: int = Field(
        default=256, ge=32, le=1024, multiple_of=32, description="pixels of the square image the network sees"
    )
    squaring: Squaring = Field(default="squash", description="how an image becomes a square")
    augmentation: PairedAugmentation = Field(default="strong", description="see derm_ml/images/augment.py")
    views: Views = Field(default="d4", description="test-time augmentation, averaged over 1, 4 or 8 views")


class Mask(Group):
    """What becomes of the pixels with a probability of a half and more."""

    largest_component: bool = Field(default=True, description="keep only the largest connected part of a mask")
    fill_holes: bool = Field(default=True, description="holes in a mask belong to it")


class SegmenterRecipe(ImageRecipe):
    """Network, image and mask: what every segmentation task can set."""

    removed: ClassVar[Removed] = TrainingRecipe.removed | {
        "threshold": (0.5, "A mask is where the calibrated probability is a half or more."),
    }

    loss: SegmentationLoss = Field(
        default="dice_bce",
        description="soft Dice, alone or with cross-entropy; boundary: both, and pixels near the border weigh more",
    )
    network: Networks = Networks()
    image: SegmenterImage = SegmenterImage()
    mask: Mask = Mask()

    def member(self, k: int) -> Self:
        networks = self.network.networks
        alone = super().member(k)
        return alone.model_copy(update={"network": self.network.but(networks=(networks[k % len(networks)],))})
