"""How much a second visit differs from the first: a month later, or `HARDER`."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class VisitChange:
    """How much a second visit differs. Angles in degrees, lengths as a share of the photo's longer side."""

    healed: float = 0.2  # share of the conditions that are gone
    new: float = 0.2  # share, of the number there were, that is new
    changed: float = 0.3  # share of the others that grew or faded
    rotation: float = 25.0  # at most, either way
    scale: float = 1.3  # at most this much larger or smaller
    perspective: float = 0.06  # at most, of each corner: a turned head
    expression: float = 0.012  # standard deviation of the thin-plate warp
    light: float = 1.0  # strength of gain, gamma, gradient and white balance; 0 is the same light
    softness: float = 1.0  # strength of blur, lost resolution and JPEG; 0 is the same camera
    mirrored: float = 0.25  # share of second photos a selfie camera mirrored
    occluded: float = 0.25  # share of second photos with something in the way
    crop: float = 0.08  # at most cut from each side of the first photo
    hand: float = 0.06  # uncertainty of each side of a box, of the box's size
    turn: float = 0.0  # degrees, at most: a head turned or nodded, its relief moving what is near more than what is far
    lens: float = 0.0  # at most, either way: radial distortion at the corner of the photo
    made_up: float = 0.0  # share of second photos with foundation over the skin
    bearded: float = 0.0  # share with stubble or a beard
    glasses: float = 0.0  # share with glasses


HARDER = VisitChange(
    healed=0.35,
    new=0.35,
    changed=0.5,
    rotation=40.0,
    scale=1.6,
    perspective=0.1,
    expression=0.018,
    light=1.5,
    softness=1.6,
    occluded=0.4,
    turn=30.0,
    lens=0.06,
    made_up=0.4,
    bearded=0.3,
    glasses=0.3,
)
