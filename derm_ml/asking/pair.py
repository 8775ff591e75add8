"""A pair: two images of one patient at two visits, with the conditions boxed in each.

    Pair(first, second, first_regions, second_regions)

Coordinates everywhere: pixels of the upright image, x to the right, y down, (0, 0) being the centre of the first
pixel, as OpenCV counts.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

from derm_ml.records import Region

FIRST, SECOND = "first", "second"  # the roles of a pair's pictures, in order of the visits
State = Literal["persistent", "resolved", "new", "not_visible"]
STATES: tuple[State, ...] = ("persistent", "resolved", "new", "not_visible")
ALONE: tuple[State, State] = ("resolved", "new")  # a condition of the first or second photo that the other has not
NOT_VISIBLE: State = "not_visible"


@dataclass(frozen=True)
class Pair:
    """RGB images (H, W, 3) uint8 of any two sizes, and the regions boxed in them.

    `sent`: (height, width) of the photos these images are smaller copies of; None: they are the photos.
    Raises `ValueError` naming the box that lies outside its image or is turned inside out.
    """

    first: np.ndarray
    second: np.ndarray
    first_regions: tuple[Region, ...] = ()
    second_regions: tuple[Region, ...] = ()
    sent: tuple[tuple[int, int], tuple[int, int]] | None = None

    def __post_init__(self) -> None:
        sides = ((FIRST, self.first, self.first_regions), (SECOND, self.second, self.second_regions))
        for name, picture, regions in sides:
            for number, region in enumerate(regions):
                if fault := box_fault(region, picture.shape[1], picture.shape[0]):
                    raise ValueError(f"box {number} of the {name} photo {fault}")

    @property
    def pictures(self) -> tuple[np.ndarray, np.ndarray]:
        return self.first, self.second

    @property
    def regions(self) -> tuple[tuple[Region, ...], tuple[Region, ...]]:
        return self.first_regions, self.second_regions

    @property
    def sizes(self) -> tuple[tuple[int, int], tuple[int, int]]:
        """(height, width) of both photos as they were sent."""
        (a, b), (c, d) = self.first.shape[:2], self.second.shape[:2]
        return self.sent or ((a, b), (c, d))


@dataclass(frozen=True)
class Truth:
    """What is known of a pair: which regions are the same lesion, and the state of each region.

    `matches` are (number in first, number in second); `states` one tuple an image, None where nobody has said it;
    `open_boxes` the numbers, an image, of the boxes whose partner nobody has said: no match of theirs is right or
    wrong. `parameters` say how hard the pair is (degrees, factors); `points` (N, 4) are x, y of the first and where
    they are in the second; `covers_known`: whether it was said what something in the way hides.
    """

    matches: tuple[tuple[int, int], ...]
    states: tuple[tuple[State | None, ...], tuple[State | None, ...]]
    parameters: Mapping[str, Any] = field(default_factory=dict)
    points: np.ndarray = field(default_factory=lambda: np.zeros((0, 4)))
    open_boxes: tuple[frozenset[int], frozenset[int]] = (frozenset(), frozenset())
    covers_known: bool = False

    def judged(self, matches: Iterable[tuple[int, int]]) -> list[tuple[int, int]]:
        """Those of some said matches that are known to be right or to be wrong."""
        before, after = self.open_boxes
        return [(a, b) for a, b in matches if a not in before and b not in after]


def truth_of_ids(pair: Pair) -> Truth:
    """The truth that region ids and states tell.

    Boxes with one id are one lesion, persistent. Of the others a state that was said holds (`resolved` of the first
    photo, `new` of the second, `not_visible` of either); an id without a partner is resolved or new, if every box of
    the other photo is known to be another one. All else is not known.
    """
    second = {region.id: k for k, region in enumerate(pair.second_regions) if region.id}
    matches = tuple((k, second[r.id]) for k, r in enumerate(pair.first_regions) if r.id in second)
    states, open_boxes = [], []
    for side, alone in enumerate(ALONE):
        partnered = {match[side] for match in matches}
        other = pair.regions[1 - side]
        others_known = all(r.id or said_state(r, ALONE[1 - side]) for r in other)
        said: list[State | None] = []
        for k, region in enumerate(pair.regions[side]):
            counted = alone if region.id and others_known else None
            persists = k in partnered or region.state == "persistent"
            said.append("persistent" if persists else said_state(region, alone) or counted)
        states.append(tuple(said))
        open_boxes.append(frozenset(k for k, s in enumerate(said) if s in (None, "persistent") and k not in partnered))
    stated = any(region.state for side in pair.regions for region in side)
    return Truth(matches, (states[0], states[1]), open_boxes=(open_boxes[0], open_boxes[1]), covers_known=stated)


def said_state(region: Region, alone: State) -> State | None:
    """The state somebody gave a box without a partner, of a photo where such a one can be `alone` (resolved or new)."""
    return next((state for state in (alone, NOT_VISIBLE) if region.state == state), None)


def box_fault(region: Region, width: float, height: float) -> str:
    """Why a box cannot be one of an image of that size, or "". A pixel beyond the frame is forgiven: Pascal VOC counts
    from 1 and includes the last.
    """
    if not all(np.isfinite(region.box)):
        return "has a coordinate that is no number"
    if not (region.x1 < region.x2 and region.y1 < region.y2):
        return f"is empty: x {region.x1:g} to {region.x2:g}, y {region.y1:g} to {region.y2:g}"
    if region.x1 < -1 or region.y1 < -1 or region.x2 > width + 1 or region.y2 > height + 1:
        return f"lies outside: x {region.x1:g} to {region.x2:g}, y {region.y1:g} to {region.y2:g} of {width}×{height}"
    return ""
