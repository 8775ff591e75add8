"""What a recipe that matches pairs of photos can set. Light to import: the Launchpad form is made from it."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field

from derm_ml.losses.choices import CodeDistance
from derm_ml.recipe import Group, Recipe, Removed
from derm_ml.training.settings import TrainingRecipe

Detector = Literal["auto", "yunet", "dlib_hog", "dlib_cnn", "none"]
LearnedVersion = Literal["learned", "both"]  # the network alone registers; it is one hypothesis of version 1
Version = Literal["classical", LearnedVersion]


class Faces(Group):
    """How faces are found and told apart, and the files for it."""

    face_detector: Detector = Field(
        default="auto",
        description="auto: YuNet if its file is there (derm fetch yunet), else dlib's HOG, which needs none",
    )
    face_weights: str = Field(default="", description="file of YuNet or of dlib's CNN; empty: where derm fetch puts it")
    landmark_weights: str = Field(default="", description="dlib's 5- or 68-point file, if you have one")
    recognition_weights: str = Field(
        default="",
        description="file of dlib's face recognition; empty: where derm fetch dlib_recognition puts it, and without it "
        "the training photos teach who is alike",
    )


class PairRecipe(Recipe):
    """What both versions of pair matching share: how faces are found, and the pairs the numbers are fitted on."""

    faces: Faces = Faces()
    visits: int = Field(default=3, ge=1, le=50, description="second visits made of each photo that stands alone")


class BiAutoencoderNetwork(Group):
    """The photos the network sees, and what it is made of."""

    side: int = Field(default=256, ge=84, le=1024, description="pixels of the square photos the network sees")
    dropout: float = Field(default=0.1, ge=0, lt=1, description="of whole feature maps, after the first convolution")
    shared: bool = Field(default=False, description="one branch for both photos (the original has two)")
    looks: int = Field(
        default=0,
        ge=0,
        le=8,
        description="how often the two photos are compared and moved before they are encoded, and once more after the "
        "first convolution (0: original; each transformer then sees one photo alone)",
    )
    bends: bool = Field(
        default=False,
        description="whether the map bends: what the affine transforms leave over, as a smooth field (off: original)",
    )


class BiAutoencoderObjective(Group):
    """What training minimises: the weights of its terms."""

    first_weight: float = Field(default=1.0, ge=0, description="of showing the first photo again (cross-entropy)")
    second_weight: float = Field(default=1.0, ge=0, description="of showing the second photo again")
    latent_weight: float = Field(default=1.0, ge=0, description="of the distance of the two codes")
    latent: CodeDistance = Field(default="bce", description="that distance; bce is the original's")
    map_weight: float = Field(
        default=0.0,
        ge=0,
        description="of the error of the found map, known where both photos are made of one (0: original)",
    )


class BiAutoencoderRecipe(PairRecipe, TrainingRecipe):
    """The bi-autoencoder with spatial transformers: what version 2 can set."""

    removed: ClassVar[Removed] = TrainingRecipe.removed | {
        "frozen_epochs": (0, "All parts of the network learn from the first epoch on."),
    }

    network: BiAutoencoderNetwork = BiAutoencoderNetwork()
    objective: BiAutoencoderObjective = BiAutoencoderObjective()
    pairs_per_photo: int = Field(default=4, ge=1, description="pairs made of each photo in one epoch")
    version: LearnedVersion = Field(
        default="learned", description="learned: the network alone registers; both: it is one hypothesis of version 1"
    )
