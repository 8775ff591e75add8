"""Conditions drawn into a photo of skin, grown, faded and healed, with the box of each known exactly.

Everything works on RGB (H, W, 3) uint8 and returns a new picture; a spot is its centre and radius in pixels.
"""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np

from derm_ml.records import Region

# how a kind of lesion looks, as added to L, a, b of CIELAB at its middle: (lightness, redness, yellowness)
LOOKS = {
    "pimple": (-16.0, 26.0, 8.0),
    "nodule": (-20.0, 32.0, 6.0),
    "comedone": (-38.0, 3.0, 2.0),
    "dark_spot": (-32.0, 6.0, 12.0),
    "atrophic_scar": (-18.0, 4.0, -2.0),
    "other_scar": (16.0, 6.0, -4.0),
    "dark_circle": (-22.0, 6.0, -10.0),
}


def paint(image: np.ndarray, x: float, y: float, radius: float, label: str, rng: np.random.Generator) -> np.ndarray:
    """A lesion of that kind at (x, y) which reaches `radius` pixels: an irregular, soft-edged spot."""
    reach = int(np.ceil(radius * 1.2)) + 1
    top, left = round(y) - reach, round(x) - reach
    rows, columns = np.mgrid[top : top + 2 * reach + 1, left : left + 2 * reach + 1].astype(np.float32)
    angle = np.arctan2(rows - y, columns - x)
    edge = 1 + sum(rng.normal(0, 0.09) * np.cos(k * angle + rng.uniform(0, 2 * np.pi)) for k in (2, 3, 4, 5))
    distance = np.hypot(rows - y, columns - x) / (radius * edge)
    strength = np.clip(1.25 * (1 - distance**2), 0, 1) * rng.uniform(0.75, 1.1)
    inside = (slice(max(0, top), top + 2 * reach + 1), slice(max(0, left), left + 2 * reach + 1))
    strength = strength[max(0, -top) :, max(0, -left) :]
    changed = image.copy()
    lab = cv2.cvtColor(image[inside].astype(np.float32) / 255, cv2.COLOR_RGB2LAB)
    strength = strength[: lab.shape[0], : lab.shape[1]]
    lab += strength[..., None] * np.array(LOOKS[label], np.float32)
    if label == "pimple":  # a pale head
        head = np.exp(-((distance[max(0, -top) :, max(0, -left) :][: lab.shape[0], : lab.shape[1]] * 3) ** 2))
        lab[..., 0] += 18 * rng.uniform(0, 1) * head
    changed[inside] = np.clip(cv2.cvtColor(lab, cv2.COLOR_LAB2RGB) * 255 + 0.5, 0, 255).astype(np.uint8)
    return changed


def heal(image: np.ndarray, region: Region, rng: np.random.Generator) -> np.ndarray:
    """The picture with the skin of a region closed over: inpainted from around it, with the grain of the skin."""
    width, height = region.x2 - region.x1, region.y2 - region.y1
    margin = int(max(width, height)) + 6
    top, left = max(0, int(region.y1) - margin), max(0, int(region.x1) - margin)
    window = (slice(top, int(region.y2) + margin), slice(left, int(region.x2) + margin))
    part = np.ascontiguousarray(image[window])
    mask = np.zeros(part.shape[:2], np.uint8)
    centre = (int((region.x1 + region.x2) / 2 - left), int((region.y1 + region.y2) / 2 - top))
    cv2.ellipse(mask, centre, (int(width * 0.56) + 1, int(height * 0.56) + 1), 0, 0, 360, 255, -1)
    closed = cv2.inpaint(part, mask, 5, cv2.INPAINT_TELEA).astype(np.float32)
    ring = (cv2.dilate(mask, np.ones((9, 9), np.uint8)) > 0) & (mask == 0)
    grain = part.astype(np.float32) - cv2.GaussianBlur(part, (0, 0), 1.5)
    spread = grain[ring].std() if ring.any() else 0.0
    noise = cv2.GaussianBlur(rng.normal(0, 1, mask.shape).astype(np.float32), (0, 0), 0.8)
    closed += (noise / max(1e-6, float(noise.std())) * spread)[..., None]
    soft = cv2.GaussianBlur(mask, (0, 0), 1.5).astype(np.float32)[..., None] / 255
    changed = image.copy()
    changed[window] = np.clip(part * (1 - soft) + closed * soft + 0.5, 0, 255).astype(np.uint8)
    return changed


def fade(image: np.ndarray, region: Region, amount: float, rng: np.random.Generator) -> np.ndarray:
    """A region that has lost `amount` (0..1) of its contrast to the skin."""
    healed = heal(image, region, rng)
    return np.clip(image * (1.0 - amount) + healed * amount + 0.5, 0, 255).astype(np.uint8)


def grow(image: np.ndarray, region: Region, factor: float) -> tuple[np.ndarray, Region]:
    """A region magnified about its centre, the skin around it giving way; and the box it then fills, exactly.

    The magnification falls to one at twice the region's radius. `factor` is at the middle, the box grows less: its
    longer side less than its shorter.
    """
    x, y = (region.x1 + region.x2) / 2, (region.y1 + region.y2) / 2
    half = max(region.x2 - region.x1, region.y2 - region.y1) / 2
    reach = 2.2 * half
    pull = 1 - 1 / factor
    height, width = image.shape[:2]
    top, left = max(0, int(y - reach)), max(0, int(x - reach))
    bottom, right = min(height, int(y + reach) + 2), min(width, int(x + reach) + 2)
    rows, columns = np.mgrid[top:bottom, left:right].astype(np.float32)
    away = np.clip(np.hypot(columns - x, rows - y) / reach, 0, 1)
    scale = 1 - pull * (1 - away**2) ** 2
    changed = image.copy()
    changed[top:bottom, left:right] = cv2.remap(
        image,
        (x + (columns - x) * scale).astype(np.float32),
        (y + (rows - y) * scale).astype(np.float32),
        cv2.INTER_LINEAR,
        borderMode=cv2.BORDER_REFLECT_101,
    )
    # where the old edges went: the radii whose sources are the old half sides
    radii = np.linspace(0, 1, 2001) * reach
    sources = radii * (1 - pull * (1 - (radii / reach) ** 2) ** 2)
    wide, high = (float(np.interp(side / 2, sources, radii)) for side in (region.x2 - region.x1, region.y2 - region.y1))
    box = Region(region.label, max(0, x - wide), max(0, y - high), min(width, x + wide), min(height, y + high))
    return changed, Region(box.label, *box.box, region.id)


def skin(image: np.ndarray, regions: Sequence[Region] = ()) -> np.ndarray:
    """Where there is smooth skin: (H, W) bool. Its colour is that around the regions, else the usual range of skin."""
    lab = cv2.cvtColor(cv2.GaussianBlur(image, (0, 0), 2), cv2.COLOR_RGB2LAB).astype(np.int16)
    near = np.zeros(image.shape[:2], np.uint8)
    for region in regions:
        pad = 0.4 * max(region.x2 - region.x1, region.y2 - region.y1)
        corners = [(int(region.x1 - pad), int(region.y1 - pad)), (int(region.x2 + pad), int(region.y2 + pad))]
        cv2.rectangle(near, corners[0], corners[1], 1, -1)
    if not near.any():
        usual = cv2.cvtColor(image, cv2.COLOR_RGB2YCrCb)
        near = cv2.inRange(usual, (60, 135, 75), (250, 175, 128)) // 255
    if not near.any():
        return np.zeros(image.shape[:2], bool)
    middle = np.median(lab[near > 0], axis=0)
    distance = np.abs(lab - middle)
    found = (distance[..., 0] < 55) & (distance[..., 1:].max(axis=2) < 14) & (lab[..., 0] > 40)
    grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY).astype(np.float32)
    rough = cv2.GaussianBlur(np.abs(grey - cv2.GaussianBlur(grey, (0, 0), 4)), (0, 0), 4)
    found &= rough < 9  # hair, eyes and lips are rough
    side = max(3, round(0.012 * max(image.shape[:2])) | 1)
    opened = cv2.morphologyEx(found.astype(np.uint8), cv2.MORPH_OPEN, np.ones((side, side), np.uint8))
    count, parts, sizes, _ = cv2.connectedComponentsWithStats(opened)
    if count < 2:
        return np.zeros(image.shape[:2], bool)
    return parts == 1 + int(np.argmax(sizes[1:, cv2.CC_STAT_AREA]))


def spots(
    where: np.ndarray, taken: Sequence[Region], radius: float, n: int, rng: np.random.Generator
) -> list[tuple[float, float]]:
    """At most `n` centres x, y on the skin `where` (H, W) bool, a radius away from its edge and clear of `taken`."""
    free = where.astype(np.uint8)
    for region in taken:
        cv2.rectangle(free, (int(region.x1), int(region.y1)), (int(region.x2), int(region.y2)), 0, -1)
    free = cv2.copyMakeBorder(free, 1, 1, 1, 1, cv2.BORDER_CONSTANT, value=0)  # the frame is an edge too
    found: list[tuple[float, float]] = []
    for _ in range(n):
        room = cv2.distanceTransform(free, cv2.DIST_L2, 3) > 1.5 * radius
        rows, columns = np.nonzero(room)
        if not len(rows):
            break
        k = int(rng.integers(len(rows)))
        found.append((float(columns[k] - 1), float(rows[k] - 1)))
        cv2.circle(free, (int(columns[k]), int(rows[k])), int(1.2 * radius), 0, -1)
    return found
