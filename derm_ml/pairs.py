"""A pair: two pictures of one patient at two visits, with the conditions boxed in each.

    Pair(first, second, first_regions, second_regions)

Coordinates everywhere: pixels of the upright picture, x to the right, y down, (0, 0) being the centre of the first
pixel, as OpenCV counts.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

from derm_ml.records import Region

FIRST, SECOND = "first", "second"  # the roles of a pair's pictures, in order of the visits
State = Literal["persistent", "resolved", "new", "not_visible"]
STATES: tuple[State, ...] = ("persistent", "resolved", "new", "not_visible")


@dataclass(frozen=True)
class Pair:
    """RGB pictures (H, W, 3) uint8 of any two sizes, and the regions boxed in them.

    `sent`: (height, width) of the photos these pictures are smaller copies of; None: they are the photos.
    Raises `ValueError` naming the box that lies outside its picture or is turned inside out.
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

    `matches` are (number in first, number in second); `states` one tuple a picture; `parameters` say how hard the
    pair is (degrees, factors); `centres` (N, 4) are points x, y of the first and where they are in the second.
    """

    matches: tuple[tuple[int, int], ...]
    states: tuple[tuple[State, ...], tuple[State, ...]]
    parameters: Mapping[str, Any] = field(default_factory=dict)
    points: np.ndarray = field(default_factory=lambda: np.zeros((0, 4)))


def truth_of_ids(pair: Pair) -> Truth:
    """The truth that equal region ids tell: matched ones are persistent, the others resolved or new."""
    second = {region.id: k for k, region in enumerate(pair.second_regions) if region.id}
    matches = tuple((k, second[r.id]) for k, r in enumerate(pair.first_regions) if r.id in second)
    kept, found = {a for a, _ in matches}, {b for _, b in matches}
    before: tuple[State, ...] = tuple("persistent" if k in kept else "resolved" for k in range(len(pair.first_regions)))
    after: tuple[State, ...] = tuple("persistent" if k in found else "new" for k in range(len(pair.second_regions)))
    return Truth(matches, (before, after))


def box_fault(region: Region, width: float, height: float) -> str:
    """Why a box cannot be one of a picture of that size, or "". A pixel beyond the frame is forgiven: Pascal VOC counts
    from 1 and includes the last.
    """
    if not all(np.isfinite(region.box)):
        return "has a coordinate that is no number"
    if not (region.x1 < region.x2 and region.y1 < region.y2):
        return f"is empty: x {region.x1:g} to {region.x2:g}, y {region.y1:g} to {region.y2:g}"
    if region.x1 < -1 or region.y1 < -1 or region.x2 > width + 1 or region.y2 > height + 1:
        return f"lies outside: x {region.x1:g} to {region.x2:g}, y {region.y1:g} to {region.y2:g} of {width}×{height}"
    return ""
