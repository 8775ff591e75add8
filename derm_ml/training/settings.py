"""The settings every trained task shares. Light to import: the Launchpad form is made from them."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field

from derm_ml.task import Recipe

SegmentationNetwork = Literal["unet", "improved_unet"]
Augmentation = Literal["none", "flips", "moderate", "strong", "screening"]


class TrainingRecipe(Recipe):
    """Optimisation, data feeding and device. A task's recipe adds its network and its augmentation."""

    epochs: int = Field(20, ge=1, description="at most this many passes over the training images")
    batch_size: int = Field(32, ge=1, description="images in one optimisation step, over all devices")
    optimizer: Literal["adamw", "adam", "sgd"] = Field("adamw", description="sgd is with Nesterov momentum 0.9")
    learning_rate: float = Field(1e-3, gt=0, description="at its highest")
    weight_decay: float = Field(1e-4, ge=0, description="of weights; biases and normalisation are left out")
    schedule: Literal["cosine", "plateau", "constant"] = Field("cosine", description="of the learning rate")
    warmup_epochs: float = Field(
        1.0, ge=0, description="linear warm-up; a larger rate at the start breaks pretrained features"
    )
    plateau_patience: int = Field(
        2, ge=0, description="epochs without improvement before the plateau schedule steps down"
    )
    plateau_factor: float = Field(0.1, gt=0, lt=1, description="what the plateau schedule multiplies the rate by")
    keep: Literal["best", "last"] = Field(
        "best", description="the epoch that becomes the model; with few validation images the best one is luck"
    )
    early_stop: int = Field(0, ge=0, description="stop after this many epochs without improvement (0: never)")
    gradient_clip: float = Field(1.0, ge=0, description="largest norm of all gradients together (0: no clipping)")
    ema: float = Field(0.0, ge=0, lt=1, description="decay of the exponential moving average of the weights (0: off)")
    precision: Literal["auto", "32-true", "bf16-mixed", "16-mixed"] = Field(
        "auto", description="auto: bf16-mixed on GPUs and on CPUs with matrix units for it, else 32-true"
    )
    workers: int = Field(-1, ge=-1, description="processes that prepare images; -1: all cores but one, at most 16")


class PictureRecipe(TrainingRecipe):
    """What the recipes of networks for single pictures share."""

    members: int = Field(
        1, ge=1, le=8, description="networks trained from seed, seed + 1, …, whose logits are averaged"
    )

    def member(self, k: int) -> Self:
        """The recipe of the k-th member alone, counted from 0."""
        return self.model_copy(update={"seed": self.seed + k, "members": 1})


class ClassifierRecipe(PictureRecipe):
    """Backbone + head on square pictures: what every classification task can set."""

    backbone: str = Field("mobilenet_v2", description="a torchvision classification model, without its head")
    pretrained: str = Field("torchvision", description="'none', 'torchvision' (downloads once) or a .safetensors path")
    hidden: tuple[int, ...] = Field((), description="widths of hidden layers between pooling and logits")
    head_init: Literal["uniform", "xavier"] = Field(
        "uniform", description="first weights of the head: torch's own rule, or Xavier's with zero biases"
    )
    dropout: float = Field(0.2, ge=0, lt=1, description="in front of every linear layer of the head")
    frozen_epochs: int = Field(0, ge=0, description="epochs at the start in which only the head learns")
    side: int = Field(224, ge=32, le=1024, description="pixels of the square picture the network sees")
    training_side: int = Field(
        0,
        ge=0,
        le=1024,
        description="pixels of the square in training (0: side); random crops show things larger than they will be, "
        "so a smaller square shows them as large as they will be, and costs less",
    )
    squaring: Literal["squash", "crop", "pad"] = Field("squash", description="how a picture becomes a square")
    smallest_side: int = Field(
        0, ge=0, description="with squaring=crop: pixels of the shorter side before the square is cut (0: side)"
    )
    field_of_view: bool = Field(False, description="crop the black frame around a round field of view first")
    channel: Literal["rgb", "green"] = Field("rgb", description="green: all three channels are the green one")
    contrast: Literal["none", "clahe", "ben_graham"] = Field(
        "none", description="even the contrast first: adaptive histogram equalisation, or difference from a blur"
    )
    augmentation: Augmentation = Field("strong", description="see derm_ml/images/augment.py")
    views: Literal["none", "flips", "d4"] = Field(
        "d4", description="test-time augmentation, averaged over 1, 4 or 8 views"
    )
    fellow: bool = Field(
        False, description="let the same person's other eye count, as much for each label as validation says"
    )
    attributes: tuple[Literal["age", "sex"], ...] = Field(
        (), description="patient facts the network is told, missing ones flagged"
    )
    attribute_dropout: float = Field(
        0.3, ge=0, lt=1, description="share of training images shown without their facts: answers need not have them"
    )
    class_balance: Literal["none", "weights", "sampler"] = Field(
        "sampler", description="rare labels weigh more in the loss, or are drawn more often"
    )
    balance_power: float = Field(0.5, ge=0, le=1, description="0: as the data are; 1: every label alike; 0.5: half way")
    labelled_share: float = Field(
        1.0, gt=0, le=1, description="share of the training patients whose labels are used; the others' are put aside"
    )
    pseudo_labels: str = Field(
        "", description="path of a table `derm pseudo-label` made: its images are trained on too"
    )
    extra_weight: float = Field(
        1.0, ge=0, description="how often an image of a training-only source is drawn, against 1 for the others"
    )
    label_smoothing: float = Field(0.0, ge=0, lt=1, description="share of the target spread over all labels")
    loss: Literal["cross_entropy", "asymmetric"] = Field(
        "cross_entropy", description="asymmetric: easy negatives of independent labels count little"
    )
    focal_gamma: float = Field(0.0, ge=0, description="focal loss (0: plain cross-entropy)")
    negative_gamma: float = Field(4.0, ge=0, description="of the asymmetric loss: the focal exponent of negatives")


class SegmenterRecipe(PictureRecipe):
    """Network, picture and mask: what every segmentation task can set."""

    networks: tuple[SegmentationNetwork, ...] = Field(
        ("unet",), min_length=1, description="see derm_ml/nets; several: the members are these by turns"
    )
    backbone: str = Field("mobilenet_v2", description="of the unet: a torchvision classification model as its encoder")
    pretrained: str = Field(
        "torchvision", description="of the unet: 'none', 'torchvision' (downloads once) or a .safetensors path"
    )
    width: int = Field(16, ge=1, le=128, description="of the improved_unet: maps at full resolution, 16 in the paper")
    dropout: float = Field(0.3, ge=0, lt=1, description="of the improved_unet: between the convolutions of a context")
    side: int = Field(256, ge=32, le=1024, multiple_of=32, description="pixels of the square picture the network sees")
    squaring: Literal["squash", "crop", "pad"] = Field("squash", description="how a picture becomes a square")
    augmentation: Literal["none", "flips", "moderate", "strong"] = Field(
        "strong", description="see derm_ml/images/augment.py"
    )
    loss: Literal["dice", "dice_bce"] = Field("dice_bce", description="soft Dice, alone or with cross-entropy")
    views: Literal["none", "flips", "d4"] = Field(
        "d4", description="test-time augmentation, averaged over 1, 4 or 8 views"
    )
    threshold: float = Field(0.5, gt=0, lt=1, description="a pixel of at least this probability belongs to the mask")
    largest_component: bool = Field(True, description="keep only the largest connected part of a mask")
    fill_holes: bool = Field(True, description="holes in a mask belong to it")

    def member(self, k: int) -> Self:
        alone = super().member(k)
        return alone.model_copy(update={"networks": (self.networks[k % len(self.networks)],)})


class PairRecipe(Recipe):
    """What both versions of pair matching share: how faces are found, and the pairs the numbers are fitted on."""

    face_detector: Literal["auto", "yunet", "dlib_hog", "dlib_cnn", "none"] = Field(
        "auto", description="auto: YuNet if its file is there (derm fetch yunet), else dlib's HOG, which needs none"
    )
    face_weights: str = Field("", description="file of YuNet or of dlib's CNN; empty: where derm fetch puts it")
    landmark_weights: str = Field("", description="dlib's 5- or 68-point file, if you have one")
    recognition_weights: str = Field(
        "",
        description="file of dlib's face recognition; empty: where derm fetch dlib_recognition puts it, and without it "
        "the training photos teach who is alike",
    )
    visits: int = Field(3, ge=1, le=50, description="second visits made of each photo that stands alone")


class BiAutoencoderRecipe(PairRecipe, TrainingRecipe):
    """The bi-autoencoder with spatial transformers: what version 2 can set."""

    side: int = Field(256, ge=84, le=1024, description="pixels of the square photos the network sees")
    dropout: float = Field(0.1, ge=0, lt=1, description="of whole feature maps, after the first convolution")
    first_weight: float = Field(1.0, ge=0, description="of showing the first photo again (cross-entropy)")
    second_weight: float = Field(1.0, ge=0, description="of showing the second photo again")
    latent_weight: float = Field(1.0, ge=0, description="of the distance of the two codes")
    latent: Literal["bce", "cosine", "mse"] = Field("bce", description="that distance; bce is the original's")
    map_weight: float = Field(
        0.0, ge=0, description="of the error of the found map, known where both photos are made of one (0: original)"
    )
    frozen_epochs: int = Field(
        0,
        ge=0,
        description="epochs at the start in which the encoders' convolutions rest: with random features, moving "
        "the photos is the only way to make the codes alike; later, blurring them is another",
    )
    shared: bool = Field(False, description="one branch for both photos (the original has two)")
    looks: int = Field(
        0,
        ge=0,
        le=8,
        description="how often the two photos are compared and moved before they are encoded, and once more after the "
        "first convolution (0: original; each transformer then sees one photo alone)",
    )
    pairs_per_photo: int = Field(4, ge=1, description="pairs made of each photo in one epoch")
    version: Literal["learned", "both"] = Field(
        "learned", description="learned: the network alone registers; both: it is one hypothesis of version 1"
    )
