"""A second visit made from one photo, with exact truth: what healed, what is new, what grew, and where everything is.

    pair, truth = second_visit(photo, regions, seed=7)

In this order: conditions heal, fade, grow and appear on the photo → make-up, a beard, glasses → an expression
(thin-plate warp), a turned head (relief), another lens, a pose (homography, mirrored for some) → something in the way
(hair, a plaster) → light, white balance, blur, resolution, JPEG. The first visit is a crop of the same photo, so each
picture shows a little that the other does not. Boxes are drawn anew in the second picture with the unsteady hand of an
annotator. By default a month has passed, nobody wears anything and the lens is the same; `HARDER` is months later.

The truth is exact because the map is: the warp is a smooth function of the first picture's coordinates; its inverse,
which the picture is resampled with, is a formula, and the forward direction is solved to 1/1000 pixel.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import cv2
import numpy as np

from derm_ml.asking.pair import Pair, State, Truth
from derm_ml.records import Region
from derm_ml.synthetic.poses import Points, expression, pose, relief, there_and_back
from derm_ml.synthetic.skin import fade, grow, heal, paint, skin, spots
from derm_ml.synthetic.visit_change import VisitChange
from derm_ml.synthetic.worn import beard, glasses, make_up


def second_visit(
    photo: np.ndarray, regions: Sequence[Region], seed: int, change: VisitChange | None = None, lesions: int = 10
) -> tuple[Pair, Truth]:
    """The two visits of one photo, RGB (H, W, 3) uint8, and their truth. The same seed gives the same bytes.

    A photo without regions is given `lesions` drawn ones first. `truth.parameters` holds rotation (degrees, 0..180),
    scale (≥ 1), light (mean absolute change, 0..1), expression (mean shift as a share of the side), changed (share
    of healed and new conditions), mirrored and occluded (0 or 1); and, where there is a chance of them, turn (degrees),
    made_up, bearded and glasses (0 or 1).
    """
    change = change or VisitChange()
    rng = np.random.default_rng(seed)
    side = max(photo.shape[:2])
    before = [replace(r, id=str(k)) for k, r in enumerate(regions)]
    if not before:
        photo, before = _with_lesions(photo, lesions, rng)
    first, (left, top) = _cropped(photo, change.crop, rng)
    corner = np.array([left, top])
    later, after, fate = _a_month_later(photo, before, change, rng)

    size = (photo.shape[1], photo.shape[0])
    facing, facts = pose(size, change, rng)
    later, hidden, worn = _dressed(later, after, change, rng)
    beyond, turned = relief(size, change, rng)
    shift = expression(size, change.expression * side, beyond, rng)
    facts |= worn | turned
    forward, backward = there_and_back(facing, shift)
    rows, columns = np.mgrid[: size[1], : size[0]].astype(np.float64)
    source = backward(np.column_stack([columns.ravel(), rows.ravel()])).astype(np.float32).reshape(size[1], size[0], 2)
    second = cv2.remap(later, source[..., 0], source[..., 1], cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT)

    drawn = {r.id: _carried(r, forward) for r in after}
    covered = cv2.remap(hidden, source[..., 0], source[..., 1], cv2.INTER_NEAREST, borderMode=cv2.BORDER_CONSTANT) > 0
    if rng.random() < change.occluded:
        second, over = _occluded(second, [drawn[r.id] for r in after], rng)
        covered |= over
    lit = _relit(second, change.light, rng)
    light = float(np.abs(lit.astype(np.float32) - second).mean() / 255)
    second = _taken(lit, change.softness, rng)

    visible_before = {r.id: _inside(_moved(r, -left, -top), first.shape) for r in before}
    visible_after = {name: _inside(r, second.shape) and not _is_covered(r, covered) for name, r in drawn.items()}
    new_before = {  # a new condition at a place the first photo does not show cannot be known to be new
        r.id: _inside(_moved(r, -left, -top), first.shape) for r in after if r.id not in visible_before
    }
    first_regions = [_boxed(_moved(r, -left, -top), first.shape, 0.0, rng) for r in before if visible_before[r.id]]
    second_regions = [_boxed(drawn[r.id], second.shape, change.hand, rng) for r in after if visible_after[r.id]]

    states_first: list[State] = []
    for region in first_regions:
        place = drawn.get(region.id) or _carried(next(r for r in before if r.id == region.id), forward)
        seen = _inside(place, second.shape) and not _is_covered(place, covered)
        gone = fate.get(region.id) == "healed"
        states_first.append("not_visible" if not seen else "resolved" if gone else "persistent")
    states_second: list[State] = []
    for region in second_regions:
        there = visible_before.get(region.id, new_before.get(region.id, False))
        states_second.append("not_visible" if not there else "persistent" if region.id in visible_before else "new")

    numbers = {region.id: k for k, region in enumerate(second_regions)}
    matches = tuple((k, numbers[r.id]) for k, r in enumerate(first_regions) if states_first[k] == "persistent")
    centres = np.array([[(r.x1 + r.x2) / 2, (r.y1 + r.y2) / 2] for r in first_regions]).reshape(-1, 2)
    points = np.hstack([centres, forward(centres + corner).reshape(-1, 2)])
    facts |= {
        "light": light,
        "expression": float(np.hypot(*shift(centres + corner).T).mean() / side) if len(centres) else 0.0,
        "changed": _share(states_first, "resolved") + _share(states_second, "new"),
        "occluded": float(covered.any()),
    }
    pair = Pair(first, second, tuple(_anonymous(first_regions)), tuple(_anonymous(second_regions)))
    return pair, Truth(matches, (tuple(states_first), tuple(states_second)), facts, points, covers_known=True)


def _with_lesions(photo: np.ndarray, n: int, rng: np.random.Generator) -> tuple[np.ndarray, list[Region]]:
    """The photo with `n` drawn pimples, comedones and spots on its skin."""
    where = skin(photo)
    radius = np.sqrt(where.sum() / np.pi) * 0.055  # of a face of 200 pixels: some 5
    regions: list[Region] = []
    for number in range(n):
        size = max(3.0, radius * rng.uniform(0.7, 1.5))
        place = spots(where, regions, size, 1, rng)
        if place:
            label = str(rng.choice(["pimple", "pimple", "comedone", "dark_spot", "nodule"]))
            photo = paint(photo, *place[0], size, label, rng)
            regions.append(_around(*place[0], size, label, str(number)))
    return photo, regions


def _a_month_later(
    photo: np.ndarray, before: Sequence[Region], change: VisitChange, rng: np.random.Generator
) -> tuple[np.ndarray, list[Region], dict[str, str | float]]:
    """The skin later, the regions on it, and the fate of each that changed: `healed`, `faded`, `new` or a factor."""
    fate: dict[str, str | float] = {}
    crowd = {r.id: sum(_overlap(r, other) > 0 for other in before if other is not r) for r in before}
    order = sorted(before, key=lambda r: (crowd[r.id], rng.random()))  # one that stands alone heals cleanly
    healed = order[: round(change.healed * len(before) + rng.uniform(-0.3, 0.3))]
    for region in healed:
        photo = heal(photo, region, rng)
        fate[region.id] = "healed"
    after = []
    for region in (r for r in before if r.id not in fate):
        kept = region
        if rng.random() < change.changed:
            if rng.random() < 0.5 and crowd[region.id] == 0:
                photo, kept = grow(photo, region, float(rng.uniform(1.25, 1.7)))
                fate[region.id] = (kept.x2 - kept.x1) / (region.x2 - region.x1)
            else:
                photo = fade(photo, region, float(rng.uniform(0.3, 0.7)), rng)
                fate[region.id] = "faded"
        after.append(kept)
    labels = [r.label for r in before] or ["pimple"]
    sizes = [max(r.x2 - r.x1, r.y2 - r.y1) / 2 for r in before] or [8.0]
    where = skin(photo, before)
    for number in range(round(change.new * len(before) + rng.uniform(-0.3, 0.3))):
        radius = float(np.clip(rng.choice(sizes), 3, 40)) * float(rng.uniform(0.7, 1.1))
        label = str(rng.choice(labels))
        for x, y in spots(where, [*before, *after], radius, 1, rng):
            photo = paint(photo, x, y, radius * 0.8, label, rng)
            after.append(_around(x, y, radius * 0.8, label, f"new{number}"))
            fate[f"new{number}"] = "new"
    return photo, after, fate


def _dressed(
    photo: np.ndarray, regions: Sequence[Region], change: VisitChange, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray, dict[str, float]]:
    """The photo with what is worn at this visit, what of it that hides (H, W) uint8, and which of it there is."""
    hidden = np.zeros(photo.shape[:2], np.uint8)
    shares = {"made_up": change.made_up, "bearded": change.bearded, "glasses": change.glasses}
    worn = {name: float(rng.random() < share) for name, share in shares.items() if share}
    if any(worn.values()):
        where = skin(photo, regions)
        if worn.get("made_up"):
            photo = make_up(photo, where, rng)
        for name, put_on in (("bearded", beard), ("glasses", glasses)):
            if worn.get(name):
                photo, over = put_on(photo, where, rng)
                hidden[over] = 255
    return photo, hidden, worn


def _carried(region: Region, forward: Callable[[Points], Points]) -> Region:
    """The box around the region's inscribed ellipse in the second picture: a lesion is round, its box is not."""
    angles = np.linspace(0, 2 * np.pi, 32, endpoint=False)
    x, y = (region.x1 + region.x2) / 2, (region.y1 + region.y2) / 2
    ring = [x, y] + np.column_stack([np.cos(angles), np.sin(angles)]) * [x - region.x1, y - region.y1]
    moved = forward(ring)
    (x1, y1), (x2, y2) = moved.min(axis=0), moved.max(axis=0)
    return Region(region.label, float(x1), float(y1), float(x2), float(y2), region.id)


def _occluded(image: np.ndarray, regions: Sequence[Region], rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Hair or a plaster over a part of the picture, over a condition if there is one; and where (H, W) bool."""
    height, width = image.shape[:2]
    x, y = rng.uniform(0.3, 0.7, 2) * (width, height)
    if regions:
        aim = regions[int(rng.integers(len(regions)))]
        x, y = (aim.x1 + aim.x2) / 2, (aim.y1 + aim.y2) / 2
    side = max(height, width)
    mask = np.zeros((height, width), np.uint8)
    if rng.random() < 0.5:  # a lock of hair
        bend = rng.normal(0, 0.12 * side, (2,))
        line = np.array([[x + bend[0], y - 0.35 * side], [x, y], [x + bend[1], y + 0.3 * side]])
        curve = np.array([line[0] * (1 - t) ** 2 + 2 * t * (1 - t) * (2 * line[1] - line[::2].mean(0)) + line[2] * t**2
                          for t in np.linspace(0, 1, 40)])  # fmt: skip
        cv2.polylines(mask, [curve.astype(np.int32)], False, 255, max(3, round(rng.uniform(0.05, 0.09) * side)))
        streaks = cv2.GaussianBlur(rng.normal(0, 1, (height, width)).astype(np.float32), (0, 0), 1.2, sigmaY=14)
        cover = np.array([38.0, 28, 24]) + (streaks / streaks.std())[..., None] * 14
    else:
        size = rng.uniform(0.05, 0.09, 2) * side
        turned = cv2.boxPoints(
            ((float(x), float(y)), (float(size[0] * 2.2), float(size[1])), float(rng.uniform(0, 180)))
        )
        cv2.fillPoly(mask, [turned.astype(np.int32)], 255)
        weave = cv2.GaussianBlur(rng.normal(0, 1, (height, width)).astype(np.float32), (0, 0), 1.0)
        cover = np.array([214.0, 178, 148]) + (weave / weave.std())[..., None] * 5
    soft = cv2.GaussianBlur(mask, (0, 0), 1.2).astype(np.float32)[..., None] / 255
    return np.clip(image * (1 - soft) + cover * soft, 0, 255).astype(np.uint8), mask > 0


def _relit(image: np.ndarray, strength: float, rng: np.random.Generator) -> np.ndarray:
    """Another light: gain, gamma, white balance, a lamp from one side."""
    height, width = image.shape[:2]
    gain = np.exp(rng.normal(0, 0.18 * strength)) * np.exp(rng.normal(0, 0.07 * strength, 3))
    gamma = np.exp(rng.normal(0, 0.15 * strength))
    angle, slope = rng.uniform(0, 2 * np.pi), rng.uniform(0, 0.45 * strength)
    rows, columns = np.mgrid[-0.5 : 0.5 : height * 1j, -0.5 : 0.5 : width * 1j]
    lamp = 1 + slope * (np.cos(angle) * columns + np.sin(angle) * rows)
    lit = 255 * ((image / 255.0) ** gamma) * gain * lamp[..., None]
    lit *= min(1.0, 252 / max(1.0, float(np.percentile(lit, 97))))  # a camera's exposure spares the brightest
    return np.clip(lit + 0.5, 0, 255).astype(np.uint8)


def _taken(image: np.ndarray, strength: float, rng: np.random.Generator) -> np.ndarray:
    """Another camera: blur, fewer pixels and back, noise, JPEG. The frame keeps its size."""
    height, width = image.shape[:2]
    blur = rng.uniform(0, 1.2) * strength
    if blur > 0.2:
        image = cv2.GaussianBlur(image, (0, 0), blur)
    lost = 1 - rng.uniform(0, 0.4) * strength
    small = cv2.resize(image, (round(width * lost), round(height * lost)), interpolation=cv2.INTER_AREA)
    back = cv2.resize(small, (width, height), interpolation=cv2.INTER_CUBIC)
    noisy = np.clip(back + rng.normal(0, 3 * strength, back.shape), 0, 255).astype(np.uint8)
    quality = round(96 - rng.uniform(0, 46) * strength)
    encoded = cv2.imencode(".jpg", noisy[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, quality])[1]
    decoded = cv2.imdecode(encoded, cv2.IMREAD_COLOR)
    assert decoded is not None  # it was encoded a line above
    return np.ascontiguousarray(decoded[..., ::-1])


def _cropped(photo: np.ndarray, most: float, rng: np.random.Generator) -> tuple[np.ndarray, tuple[int, int]]:
    height, width = photo.shape[:2]
    left, right = (round(width * rng.uniform(0, most)) for _ in range(2))
    top, bottom = (round(height * rng.uniform(0, most)) for _ in range(2))
    return np.ascontiguousarray(photo[top : height - bottom, left : width - right]), (left, top)


def _boxed(region: Region, shape: tuple[int, ...], hand: float, rng: np.random.Generator) -> Region:
    """The box as an annotator draws it: each side a little off, cut at the frame."""
    wide, high = region.x2 - region.x1, region.y2 - region.y1
    off = np.clip(rng.normal(0, 1, 4), -2, 2) * hand * (wide, high, wide, high)
    x1, y1 = max(0.0, region.x1 + off[0]), max(0.0, region.y1 + off[1])
    x2, y2 = min(float(shape[1]), region.x2 + off[2]), min(float(shape[0]), region.y2 + off[3])
    return Region(region.label, float(x1), float(y1), float(x2), float(y2), region.id)


def _inside(region: Region, shape: tuple[int, ...]) -> bool:
    """Whether at least half of a box is in the picture."""
    wide = min(region.x2, shape[1]) - max(region.x1, 0)
    high = min(region.y2, shape[0]) - max(region.y1, 0)
    return wide > 0 and high > 0 and wide * high >= 0.5 * (region.x2 - region.x1) * (region.y2 - region.y1)


def _is_covered(region: Region, covered: np.ndarray) -> bool:
    """Whether at least half of what is in the picture is covered."""
    x1, y1 = max(0, round(region.x1)), max(0, round(region.y1))
    part = covered[y1 : max(y1 + 1, round(region.y2)), x1 : max(x1 + 1, round(region.x2))]
    return bool(part.size and part.mean() >= 0.5)


def _moved(region: Region, x: float, y: float) -> Region:
    return replace(region, x1=region.x1 + x, x2=region.x2 + x, y1=region.y1 + y, y2=region.y2 + y)


def _around(x: float, y: float, radius: float, label: str, name: str) -> Region:
    return Region(label, x - radius, y - radius, x + radius, y + radius, name)


def _overlap(a: Region, b: Region) -> float:
    wide = min(a.x2, b.x2) - max(a.x1, b.x1)
    high = min(a.y2, b.y2) - max(a.y1, b.y1)
    return max(0.0, wide) * max(0.0, high)


def _share(states: Sequence[State], state: State) -> float:
    return states.count(state) / len(states) if states else 0.0


def _anonymous(regions: Sequence[Region]) -> list[Region]:
    return [replace(region, id="") for region in regions]
