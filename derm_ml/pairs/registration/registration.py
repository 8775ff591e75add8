"""What registering two photos gives: a map between them, there and back, and what speaks for it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property

import cv2
import numpy as np

from derm_ml.images.geometry import looked_up, project
from derm_ml.pairs.faces.face import Face


@dataclass(frozen=True)
class Registration:
    """A map between two photos.

    `matrix` (3, 3) takes pixels of the first to the second; `flow` and `back` (h, w, 2) refine it in the frame
    `frame` (3, 3) maps the first's pixels to; `round_trip` (h, w) is the forward-backward error in that frame.
    `unit` is the distance of the eyes (or what stands for it) in pixels of the first. `evidence` are the numbers a
    refusal is decided on; `method` says which hypothesis won.
    """

    matrix: np.ndarray
    frame: np.ndarray
    flow: np.ndarray
    back: np.ndarray
    round_trip: np.ndarray
    unit: float
    is_mirrored: bool
    method: str
    sizes: tuple[tuple[int, int], tuple[int, int]]  # (height, width) of both photos
    faces: tuple[Face | None, Face | None] = (None, None)
    evidence: Mapping[str, float] = field(default_factory=dict)

    @cached_property
    def _inverse(self) -> np.ndarray:
        return np.linalg.inv(self.matrix)

    @cached_property
    def _unframe(self) -> np.ndarray:
        return np.linalg.inv(self.frame)

    def forward(self, points: np.ndarray) -> np.ndarray:
        """Points (N, 2) of the first photo → the second."""
        at = project(self.frame, points)
        return project(self.matrix @ self._unframe, at + looked_up(self.flow, at))

    def backward(self, points: np.ndarray) -> np.ndarray:
        """Points (N, 2) of the second photo → the first."""
        at = project(self.frame @ self._inverse, points)
        return project(self._unframe, at + looked_up(self.back, at))

    def error(self, points: np.ndarray) -> np.ndarray:
        """(N,) forward-backward error at points of the first photo, in units."""
        pixels = looked_up(self.round_trip[..., None], project(self.frame, points))[:, 0]
        return pixels / (self.frame[0, 0] * self.unit)

    def second_in_first(self, second: np.ndarray, flow: bool = True) -> np.ndarray:
        """The second photo as it would look from where the first was taken: (H, W, 3) uint8 of the first's size."""
        height, width = self.sizes[0]
        step = 8  # the map is smooth: every eighth pixel and interpolation between
        columns, rows = np.arange(0, width + step, step), np.arange(0, height + step, step)
        grid = np.column_stack([a.ravel() for a in np.meshgrid(columns, rows)]).astype(float)
        there = self.forward(grid) if flow else project(self.matrix, grid)
        coarse = there.reshape(len(rows), len(columns), 2).astype(np.float32)
        y, x = np.mgrid[:height, :width].astype(np.float32) / step
        where = cv2.remap(coarse, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
        return cv2.remap(second, where[..., 0], where[..., 1], cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT)
