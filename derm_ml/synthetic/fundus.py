"""Draws photographs of the fundus with exact truth: field of view, vessels, disc and cup, every lesion.

Findings differ as their textbook descriptions do. *Diabetic retinopathy*: red dots and blots (microaneurysms,
haemorrhages), often yellow, sharply cut exudates. *Glaucoma*: a cup of more than 0.6 of the disc's height, pale rim.
*Macular degeneration*: soft, pale drusen around the fovea. *Opacity*: a veil, as a cataract makes. Colour, brightness,
place of the disc, eye, vessels and the black frame are drawn alike for all, so that a network has to look at the signs.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import cv2
import numpy as np

FINDINGS = ("diabetic_retinopathy", "glaucoma", "macular_degeneration", "opacity")
HEALTHY_CUP = (0.2, 0.45)  # cup-to-disc ratio; above 0.6 is suspicious of glaucoma
CUPPED = (0.68, 0.88)


@dataclass(frozen=True, slots=True)
class DrawnFundus:
    """image (H, W, 3) uint8 RGB; masks (H, W) bool, exact; disc: centre (x, y) and radius in pixels.

    `lesions` holds haemorrhages and exudates, `drusen` drusen; both are empty in an eye without the finding.
    """

    image: np.ndarray
    findings: tuple[str, ...]
    eye: str
    field_of_view: np.ndarray
    vessels: np.ndarray
    disc: tuple[float, float, float]
    cup_to_disc: float
    lesions: np.ndarray
    drusen: np.ndarray


def draw_fundus(
    findings: Iterable[str], seed: int, side: int = 160, width: int | None = None, eye: str = ""
) -> DrawnFundus:
    """Draw one eye with the findings (none: a normal eye), `side` pixels high and `width` (default `side`) wide.

    `eye` is `left` or `right` (default: either).
    The same arguments give the same picture. Raises `ValueError` for an unknown finding.
    """
    found = tuple(sorted(set(findings)))
    unknown = set(found) - set(FINDINGS)
    if unknown:
        raise ValueError(f"cannot draw {', '.join(sorted(unknown))}; known: {', '.join(FINDINGS)}")
    # counted from 1: a seed that ends in 0 is the seed without it, and a normal eye would be the diabetic one
    rng = np.random.default_rng([seed, *(FINDINGS.index(name) + 1 for name in found)])
    height, width = side, width or side
    centre, radius = np.array([width, height]) / 2 + rng.uniform(-0.01, 0.01, 2) * side, rng.uniform(0.46, 0.5) * side
    y, x = np.indices((height, width), dtype=float)
    inside = np.hypot(x - centre[0], y - centre[1]) < radius
    eye = eye or str(rng.choice(["left", "right"]))
    nasal = 1 if eye == "right" else -1  # the disc lies towards the nose
    disc = centre + np.array([nasal * rng.uniform(0.42, 0.55), rng.uniform(-0.06, 0.06)]) * radius
    fovea = disc + np.array([-nasal * rng.uniform(0.68, 0.76), rng.uniform(0.02, 0.1)]) * radius
    disc_radius = rng.uniform(0.18, 0.22) * radius  # a third larger than in life: cups are seen at 128 pixels too
    cup = rng.uniform(*(CUPPED if "glaucoma" in found else HEALTHY_CUP))

    picture = _background(rng, x, y, fovea, radius)
    vessels = _vessels(rng, height, width, disc, fovea, nasal, radius)
    soft = cv2.GaussianBlur(vessels.astype(np.float32), (0, 0), 0.6)[..., None]
    picture = picture * (1 - soft * np.array([0.3, 0.5, 0.45]))
    picture = _disc(picture, x, y, disc, disc_radius, cup, soft)
    drusen = _spots(
        rng, height, width, fovea, 0.3 * radius, (14, 30), (0.018, 0.04), radius, "macular_degeneration" in found
    )
    picture = _laid(picture, drusen, (246, 214, 140), 0.55, 0.012 * radius)
    bleeding = _spots(
        rng, height, width, centre, 0.75 * radius, (14, 34), (0.012, 0.045), radius, "diabetic_retinopathy" in found
    )
    exudates = _spots(
        rng,
        height,
        width,
        fovea,
        0.45 * radius,
        (5, 22),
        (0.01, 0.025),
        radius,
        "diabetic_retinopathy" in found and rng.random() < 0.7,
    )
    away = np.hypot(x - disc[0], y - disc[1]) > 1.15 * disc_radius
    bleeding, exudates = bleeding & away, exudates & away
    picture = _laid(picture, bleeding, (92, 18, 12), 0.85, 0.006 * radius)
    picture = _laid(picture, exudates, (252, 232, 150), 0.9, 0.004 * radius)
    if "opacity" in found:
        veil = rng.uniform(0.55, 0.75)
        picture = cv2.GaussianBlur(picture, (0, 0), rng.uniform(0.02, 0.035) * radius)
        picture = picture * (1 - veil) + np.array([176, 140, 96]) * veil
    light = 1 - rng.uniform(0.1, 0.35) * (np.hypot(*(np.stack([x, y], -1) - centre).transpose(2, 0, 1)) / radius) ** 2
    picture = picture * light[..., None] * rng.uniform(0.75, 1.12) * rng.uniform(0.93, 1.07, 3)
    edge = cv2.GaussianBlur(inside.astype(np.float32), (0, 0), 0.7)[..., None]
    picture = picture * edge + rng.normal(0, 2, picture.shape)
    image = np.clip(picture, 0, 255).astype(np.uint8)
    return DrawnFundus(
        image, found, eye, inside, vessels & inside, (float(disc[0]), float(disc[1]), float(disc_radius)), float(cup),
        (bleeding | exudates) & inside, drusen & inside,
    )  # fmt: skip


def _background(rng: np.random.Generator, x: np.ndarray, y: np.ndarray, fovea: np.ndarray, radius: float) -> np.ndarray:
    """Orange-red, mottled, darker at the fovea."""
    tone = np.array([[206, 104, 48], [188, 88, 42], [222, 130, 66], [164, 74, 40]], float)[rng.integers(4)]
    noise = cv2.GaussianBlur(rng.normal(0, 1, x.shape), (0, 0), 0.06 * radius)
    mottle = 8 * noise / (np.abs(noise).max() + 1e-9)
    dip = np.exp(-((x - fovea[0]) ** 2 + (y - fovea[1]) ** 2) / (2 * (0.12 * radius) ** 2))
    return (tone + rng.normal(0, 6, 3)) * (1 - 0.35 * dip)[..., None] + mottle[..., None]


def _vessels(
    rng: np.random.Generator, height: int, width: int, disc: np.ndarray, fovea: np.ndarray, nasal: int, radius: float
) -> np.ndarray:
    """(H, W) bool: two arcades around the macula and two nasal trunks, each with branches."""
    canvas = np.zeros((height, width), np.uint8)
    for up in (-1, 1):
        bend = np.array([fovea[0] + nasal * 0.1 * radius, fovea[1] + up * rng.uniform(0.75, 0.95) * radius])
        end = np.array(
            [fovea[0] - nasal * rng.uniform(0.5, 0.8) * radius, fovea[1] + up * rng.uniform(0.3, 0.5) * radius]
        )
        _vessel(rng, canvas, disc, bend, end, 0.035 * radius, 3)
        away = disc + np.array([nasal * rng.uniform(0.5, 0.8), up * rng.uniform(0.5, 0.9)]) * radius
        _vessel(rng, canvas, disc, (disc + away) / 2 + rng.normal(0, 0.06, 2) * radius, away, 0.026 * radius, 2)
    return canvas.astype(bool)


def _vessel(
    rng: np.random.Generator,
    canvas: np.ndarray,
    start: np.ndarray,
    bend: np.ndarray,
    end: np.ndarray,
    thick: float,
    depth: int,
) -> None:
    """A quadratic curve that thins towards its end, with branches."""
    t = np.linspace(0, 1, 32)[:, None]
    curve = (1 - t) ** 2 * start + 2 * t * (1 - t) * bend + t**2 * end
    places = [(round(float(x)), round(float(y))) for x, y in curve]
    for k in range(len(curve) - 1):
        here = max(1, round(thick * (1 - 0.6 * k / len(curve))))
        cv2.line(canvas, places[k], places[k + 1], 1, here)
    if depth == 0:
        return
    for place in rng.uniform(0.25, 0.9, 2):
        origin = curve[int(place * 31)]
        along = curve[min(31, int(place * 31) + 1)] - origin
        turn = rng.choice([-1, 1]) * rng.uniform(0.5, 1.0)
        c, s = np.cos(turn), np.sin(turn)
        heading = np.array([c * along[0] - s * along[1], s * along[0] + c * along[1]])
        heading = heading / (np.linalg.norm(heading) + 1e-9) * rng.uniform(0.2, 0.35) * len(canvas) * 0.5
        _vessel(
            rng, canvas, origin, origin + heading / 2 + rng.normal(0, 2, 2), origin + heading, 0.6 * thick, depth - 1
        )


def _disc(
    picture: np.ndarray, x: np.ndarray, y: np.ndarray, disc: np.ndarray, radius: float, cup: float, vessels: np.ndarray
) -> np.ndarray:
    """A pale disc, a paler cup of `cup` of its diameter; vessels run over both."""
    distance = np.hypot(x - disc[0], (y - disc[1]) / 1.08)
    rim = cv2.GaussianBlur((distance < radius).astype(np.float32), (0, 0), 0.05 * radius)[..., None]
    middle = cv2.GaussianBlur((distance < cup * radius).astype(np.float32), (0, 0), 0.04 * radius)[..., None]
    picture = picture * (1 - rim) + np.array([238, 176, 104]) * rim
    picture = picture * (1 - middle) + np.array([253, 240, 205]) * middle
    return picture * (1 - 0.35 * vessels * rim)


def _spots(
    rng: np.random.Generator,
    height: int,
    width: int,
    centre: np.ndarray,
    spread: float,
    number: tuple[int, int],
    size: tuple[float, float],
    radius: float,
    present: bool,
) -> np.ndarray:
    """(H, W) bool: small ellipses scattered around a centre; empty if not `present`."""
    canvas = np.zeros((height, width), np.uint8)
    for _ in range(rng.integers(*number) if present else 0):
        distance, angle = spread * np.sqrt(rng.random()), rng.uniform(0, 2 * np.pi)
        at = centre + distance * np.array([np.cos(angle), np.sin(angle)])
        axes = np.maximum(1, np.round(rng.uniform(*size, 2) * radius)).astype(int)
        cv2.ellipse(canvas, (int(at[0]), int(at[1])), (int(axes[0]), int(axes[1])), rng.uniform(0, 180), 0, 360, 1, -1)
    return canvas.astype(bool)


def _laid(
    picture: np.ndarray, mask: np.ndarray, colour: tuple[int, int, int], strength: float, blur: float
) -> np.ndarray:
    alpha = strength * cv2.GaussianBlur(mask.astype(np.float32), (0, 0), max(0.4, blur))[..., None]
    return picture * (1 - alpha) + np.array(colour, float) * alpha
