"""The recipes of persistent_conditions. The first is what `derm fit persistent_conditions` uses."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from derm_ml.task import Recipe


class PairRecipe(Recipe):
    """What both versions share: how faces are found, and the pairs the numbers are fitted on."""

    face_detector: Literal["auto", "yunet", "dlib_hog", "dlib_cnn", "none"] = Field(
        "auto", description="auto: YuNet if its file is there (derm fetch yunet), else dlib's HOG, which needs none"
    )
    face_weights: str = Field("", description="file of YuNet or of dlib's CNN; empty: where derm fetch puts it")
    landmark_weights: str = Field("", description="dlib's 5- or 68-point file, if you have one")
    visits: int = Field(3, ge=1, le=50, description="second visits made of each photo that stands alone")


class Classical(PairRecipe):
    """Version 1: faces and features align the photos, optimal assignment matches the boxes, four regressions decide.

    Command: `derm fit persistent_conditions`. No network; one to two seconds of CPU a training pair (some 400 pairs of
    ACNE04 and Caltech faces: 8 minutes on 2 cores). Expected on generated two-visit pairs: F1 above 0.95.
    """


class Drawn(PairRecipe):
    """Version 1 for drawn faces: the demo and the tests. Seconds; needs no file."""

    face_detector: Literal["auto", "yunet", "dlib_hog", "dlib_cnn", "none"] = "dlib_hog"
    visits: int = 1
