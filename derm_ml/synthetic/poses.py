"""Where a second photo shows what the first does: a pose, a turned head, another lens, an expression, as one exact map.

facing, facts = pose(size, change, rng)                     # a homography
beyond, more = relief(size, change, rng)                    # what it does not do: a turned head, a lens
shift = expression(size, spread, beyond, rng)               # a smooth displacement with an expression on top
forward, backward = there_and_back(facing, shift)           # points of the first → the second, and back
"""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np
from scipy.interpolate import RBFInterpolator

from derm_ml.images.geometry import looked_up, project
from derm_ml.synthetic.visit_change import VisitChange

Points = np.ndarray  # (N, 2) float64: x, y
RELIEF, ROUND = 0.22, 0.3  # of the longer side: how far a face stands out, and over what radius it falls away


def pose(size: tuple[int, int], change: VisitChange, rng: np.random.Generator) -> tuple[np.ndarray, dict[str, float]]:
    """A homography (3, 3) about the middle of the picture, and what it does."""
    width, height = size
    angle = rng.uniform(-change.rotation, change.rotation)
    scale = float(np.exp(rng.uniform(-1, 1) * np.log(change.scale)))
    mirrored = rng.random() < change.mirrored
    turn = np.vstack([cv2.getRotationMatrix2D((width / 2, height / 2), angle, scale), [0, 0, 1]])
    turn[:2, 2] += rng.uniform(-0.04, 0.04, 2) * (width, height)
    corners = np.array([[0, 0], [width, 0], [width, height], [0, height]], np.float32)
    moved = corners + rng.uniform(-1, 1, (4, 2)) * change.perspective * np.array([width, height])
    tilt = cv2.getPerspectiveTransform(corners, moved.astype(np.float32))
    flip = np.array([[-1, 0, width - 1], [0, 1, 0], [0, 0, 1]], float) if mirrored else np.eye(3)
    facts = {"rotation": abs(angle), "scale": max(scale, 1 / scale), "mirrored": float(mirrored)}
    return flip @ tilt @ turn, facts


def relief(
    size: tuple[int, int], change: VisitChange, rng: np.random.Generator
) -> tuple[Callable[[Points], Points], dict[str, float]]:
    """What a turned head and another lens move beyond a homography: what stands out moves with the turn, and the more
    the nearer it is; a lens moves what is far from the middle, in or out.
    """
    side, middle = max(size), np.array(size) / 2
    turn = float(rng.uniform(-1, 1) * change.turn) if change.turn else 0.0
    towards = rng.normal(0, 1, 2) * (1, 0.4) if change.turn else np.ones(2)  # heads turn more than they nod
    bent = float(rng.uniform(-1, 1) * change.lens) if change.lens else 0.0
    pull = np.sin(np.deg2rad(turn)) * towards / np.linalg.norm(towards)

    def moved(points: Points) -> Points:
        off = (points - middle) / side
        away = (off**2).sum(axis=1, keepdims=True)
        stands_out = RELIEF * (np.exp(-away / (2 * ROUND**2)) - 0.5)
        return side * (stands_out * pull + bent * 2 * away * off)

    return moved, {"turn": abs(turn)} if change.turn else {}


def expression(
    size: tuple[int, int], spread: float, beside: Callable[[Points], Points], rng: np.random.Generator
) -> Callable[[Points], Points]:
    """A smooth displacement: the thin-plate spline through random shifts of a 5×5 grid (Bookstein 1989), and the shifts
    `beside` it."""
    across, down = np.meshgrid(np.linspace(0, size[0], 5), np.linspace(0, size[1], 5))
    knots = np.column_stack([across.ravel(), down.ravel()])
    spline = RBFInterpolator(knots, rng.normal(0, spread, knots.shape), kernel="thin_plate_spline")
    # evaluated on a grid of 65² and interpolated: the spline itself costs seconds for a picture
    columns, rows = np.linspace(0, size[0], 65), np.linspace(0, size[1], 65)
    fine = np.meshgrid(columns, rows)
    at = np.column_stack([fine[0].ravel(), fine[1].ravel()])
    values = (spline(at) + beside(at)).reshape(65, 65, 2).astype(np.float32)

    def shift(points: Points) -> Points:
        return looked_up(values, np.asarray(points, float) / size * 64).astype(float)

    return shift


def there_and_back(pose: np.ndarray, shift: Callable[[Points], Points]) -> tuple[Callable, Callable]:
    """(first → second, second → first): the second picture shows at p what the first has at q + shift(q),
    q = pose⁻¹ p.
    """
    inverse = np.linalg.inv(pose)

    def backward(points: Points) -> Points:
        straight = project(inverse, points)
        return straight + shift(straight)

    def forward(points: Points) -> Points:
        straight = np.asarray(points, float).reshape(-1, 2).copy()
        for _ in range(50):  # contracts: the warp's slope is far below one
            step = points - shift(straight) - straight
            straight += step
            if np.abs(step).max(initial=0) < 1e-3:
                break
        return project(pose, straight)

    return forward, backward
