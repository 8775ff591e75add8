"""The recipes of persistent_conditions. The first is what `derm fit persistent_conditions` uses."""

from __future__ import annotations

from derm_ml.pairs.settings import (
    BiAutoencoderNetwork,
    BiAutoencoderObjective,
    BiAutoencoderRecipe,
    Faces,
    LearnedVersion,
    PairRecipe,
)
from derm_ml.training.settings import Hardware, Optimiser


class Classical(PairRecipe):
    """Version 1: faces and features align the photos, optimal assignment matches the boxes, four regressions decide.

    Command: `derm fit persistent_conditions`. No network; one to two seconds of CPU a training pair (some 400 pairs of
    ACNE04 and Caltech faces: 8 minutes on 2 cores). Expected on generated two-visit pairs: F1 above 0.95.
    """


class Drawn(PairRecipe):
    """Version 1 for synthetic faces: the demo and the tests. Seconds; needs no file."""

    faces: Faces = Faces(face_detector="dlib_hog")
    visits: int = 1


class Learned(BiAutoencoderRecipe):
    """Version 2: the bi-autoencoder, all its parts trained; its transforms alone carry the boxes.

    Command: `derm fit persistent_conditions --recipe learned`. 25,000 pairs of ACNE04 and Caltech faces: 9 minutes of
    one core, and 4 to fit confidence and refusal. Expected: F1 0.99 on held-out pairs, as version 1.
    """

    network: BiAutoencoderNetwork = BiAutoencoderNetwork(
        side=96,  # a seventh of the cost of the original's 256; a face's pose is seen as well
        dropout=0.05,
        shared=True,
        looks=2,  # and one after the first convolution: the later ones halve what the first leaves
        bends=True,  # no affine map follows a turned head or an expression
    )
    optimiser: Optimiser = Optimiser(
        epochs=12,
        batch_size=32,
        learning_rate=2e-3,
        weight_decay=0.0,
        ema=0.995,  # 200 steps, three epochs of 256 photos: places come out steadier
    )
    pairs_per_photo: int = 8  # of 256 photos or visits 25,000 pairs in all
    hardware: Hardware = Hardware(
        precision="32-true",  # places need more than eight bits
    )
    objective: BiAutoencoderObjective = BiAutoencoderObjective(
        first_weight=0.3,
        second_weight=0.3,
        latent_weight=0.3,
        map_weight=3.0,  # of a made pair the map is known exactly: nothing teaches as well
        latent="cosine",  # bce and mse are won by codes that say nothing
    )


class Both(Learned):
    """Versions 1 and 2 together: the network's transform is one more hypothesis, the evidence decides.

    Command: `derm fit persistent_conditions --recipe both`.
    """

    version: LearnedVersion = "both"
