"""Two photos of one place on the body → where each point of one is in the other, and how far that can be trusted.

    hypotheses (features, landmarks; as is and mirrored) → the one with most evidence → dense flow → evidence

    registration = Registrar(detector)(first, second)
    registration.forward(points)         # pixels of the first → pixels of the second

Where a face is found only the face counts, in a photo where none is found all of it: an office wall behind two people
would register well. Without any face SIFT + MAGSAC alone decide, for any part of the body.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property

import cv2
import numpy as np

from derm_ml.faces.face import Face, FaceDetector, LandmarkModel, find_face, mirrored
from derm_ml.images.preprocess import limit_side
from derm_ml.registration.features import (
    Features,
    agreed_homography,
    find_features,
    flipped,
    match_features,
    root,
)
from derm_ml.registration.flow import as_grey, even_light, flow_between, round_trip, shifted, smoothed
from derm_ml.registration.geometry import flip, project, resized, scale_of, similarity
from derm_ml.registration.learned import Learned

WORK_SIDE = 640  # features and flow are found at this size; lesions of 2 % of a face still have several pixels
FLOW_SIDE = 448
CANONICAL = 192  # side of the frame in which evidence is measured, so that it means the same for every camera
EYES_APART = 0.32 * CANONICAL
TOLERANCE = 0.018  # of the work side: what an expression moves a point off the common homography
DECISIVE = 40  # features that agree; fewer, and every hypothesis is looked at
WITHOUT_FACE = 0.25  # of the longer side: what stands for the distance of the eyes where there is no face
PLACES = {  # the average upright face in the canonical frame, as shares of its side
    "right_eye": (0.34, 0.40),
    "left_eye": (0.66, 0.40),
    "nose": (0.50, 0.58),
    "right_mouth": (0.37, 0.74),
    "left_mouth": (0.63, 0.74),
    "right_eye_corner": (0.26, 0.40),
    "left_eye_corner": (0.74, 0.40),
    "nose_base": (0.50, 0.61),
    "right_top": (0.16, 0.20),
    "left_top": (0.84, 0.20),
    "left_bottom": (0.84, 0.88),
    "right_bottom": (0.16, 0.88),
}


class NoRegistration(ValueError):
    """The two photos cannot be laid over each other at all; the message says why."""


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
        return project(self.matrix @ self._unframe, at + _sample(self.flow, at))

    def backward(self, points: np.ndarray) -> np.ndarray:
        """Points (N, 2) of the second photo → the first."""
        at = project(self.frame @ self._inverse, points)
        return project(self._unframe, at + _sample(self.back, at))

    def error(self, points: np.ndarray) -> np.ndarray:
        """(N,) forward-backward error at points of the first photo, in units."""
        pixels = _sample(self.round_trip[..., None], project(self.frame, points))[:, 0]
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


@dataclass(frozen=True, slots=True)
class _View:
    """A photo at work size: grey picture, the map (3, 3) from the photo, its face and the mask of what counts."""

    grey: np.ndarray
    shrink: np.ndarray
    face: Face | None
    mask: np.ndarray | None


@dataclass(frozen=True, slots=True)
class _Hypothesis:
    matrix: np.ndarray  # first's work pixels → second's
    is_mirrored: bool
    method: str
    agreeing: int = 0
    share: float = 0.0


@dataclass(frozen=True)
class Registrar:
    """Registers pairs of photos. Without a detector every photo is treated as one without a face."""

    detector: FaceDetector | None = None
    landmarks: LandmarkModel | None = None
    learned: Learned | None = None  # version 2's network, as one more hypothesis
    only_learned: bool = False  # or as the only one, without flow: version 2 by itself

    def __call__(self, first: np.ndarray, second: np.ndarray) -> Registration:
        """Register two RGB photos (H, W, 3) uint8. Raises `NoRegistration` if no hypothesis holds at all."""
        views = self._view(first), self._view(second)
        found = [] if self.only_learned else _hypotheses(*views)
        if self.learned:
            found.append(_from_network(self.learned, first, second, *views))
        if not found:
            raise NoRegistration(
                "the two photos share too few features to be laid over each other"
                + ("" if all(view.face for view in views) else ", and no face was found in both")
            )
        best = found[0]
        a, b = _with_face(*views, best), views[1]
        measured = _measure(a, b, best)
        for other in found[1:] if best.agreeing < DECISIVE else ():
            seen = _with_face(*views, other)
            candidate = _measure(seen, b, other)
            if candidate["detail"] > measured["detail"]:
                best, measured, a = other, candidate, seen
        frame, flow, back, errors = _refine(a, b, best)
        if self.only_learned:
            flow, back = np.zeros_like(flow), np.zeros_like(back)
        grow = [np.linalg.inv(view.shrink) for view in views]
        faces = [view.face and view.face.resized(larger) for view, larger in zip(views, grow, strict=True)]
        return Registration(
            grow[1] @ best.matrix @ a.shrink,
            frame @ a.shrink,
            flow,
            back,
            errors,
            _unit(a) / a.shrink[0, 0],
            best.is_mirrored,
            best.method,
            (first.shape[:2], second.shape[:2]),
            (faces[0], faces[1]),
            measured | {"agreeing": float(best.agreeing), "agreeing_share": best.share},
        )

    def _view(self, photo: np.ndarray) -> _View:
        small = limit_side(photo, WORK_SIDE)
        face = find_face(small, self.detector, self.landmarks) if self.detector else None
        grey = cv2.cvtColor(small, cv2.COLOR_RGB2GRAY)
        return _View(grey, resized(photo.shape, small.shape), face, _face_mask(face, grey.shape) if face else None)


def canonical(face: Face) -> np.ndarray:
    """The similarity (3, 3) from a photo's pixels to the canonical frame in which its face stands upright."""
    names = [name for name in face.anchors if name in PLACES]
    source = np.array([face.anchors[name] for name in names])
    return similarity(source, CANONICAL * np.array([PLACES[name] for name in names]))


def face_oval() -> np.ndarray:
    """(CANONICAL, CANONICAL) uint8: 255 where a face is, from brow to chin."""
    mask = np.zeros((CANONICAL, CANONICAL), np.uint8)
    middle, axes = (CANONICAL // 2, round(0.52 * CANONICAL)), (round(0.36 * CANONICAL), round(0.46 * CANONICAL))
    cv2.ellipse(mask, middle, axes, 0, 0, 360, 255, -1)
    return mask


def _face_mask(face: Face, shape: tuple[int, ...]) -> np.ndarray:
    """The head in a photo: wider than the oval, for a half profile shows a cheek beyond it."""
    x1, y1, x2, y2 = face.box
    mask = np.zeros(shape, np.uint8)
    centre = (round((x1 + x2) / 2), round((y1 + y2) / 2))
    cv2.ellipse(mask, centre, (round(0.75 * (x2 - x1)), round(0.72 * (y2 - y1))), 0, 0, 360, 255, -1)
    return mask


def _unit(view: _View) -> float:
    return view.face.inter_ocular if view.face else WITHOUT_FACE * max(view.grey.shape)


def _with_face(a: _View, b: _View, h: _Hypothesis) -> _View:
    """The first view; with the second's face, as the hypothesis lays it there, where it has none of its own."""
    if a.face or not b.face:
        return a
    back, face = np.linalg.inv(h.matrix), b.face
    if h.is_mirrored:
        width = b.grey.shape[1]
        back, face = back @ flip(width), mirrored(face, width)
    x1, y1, x2, y2 = face.box
    middle = np.array([(x1 + x2) / 2, (y1 + y2) / 2])
    (x, y), *places = project(back, np.array([middle, *face.anchors.values()])).tolist()
    if not (0 <= x < a.grey.shape[1] and 0 <= y < a.grey.shape[0]):
        return a
    half = scale_of(back, middle) * np.array([x2 - x1, y2 - y1]) / 2
    landmarks = {name: (u, v) for name, (u, v) in zip(face.anchors, places, strict=True)}
    return replace(a, face=Face((x - half[0], y - half[1], x + half[0], y + half[1]), face.score, landmarks))


def _hypotheses(a: _View, b: _View) -> list[_Hypothesis]:
    """The maps that are looked at, the one most features agree on first."""
    of_a = find_features(a.grey, a.mask)
    found = [_from_features(of_a, find_features(b.grey, b.mask), False)]
    if not found[0] or found[0].agreeing < DECISIVE:
        width = b.grey.shape[1]
        turned = find_features(
            np.ascontiguousarray(b.grey[:, ::-1]), None if b.mask is None else np.ascontiguousarray(b.mask[:, ::-1])
        )
        found.append(_from_features(of_a, flipped(turned, width), True))
    found = sorted((h for h in found if h), key=lambda h: -h.agreeing)
    if a.face and b.face and not (found and found[0].agreeing >= DECISIVE):
        width = b.grey.shape[1]
        found += [
            _Hypothesis(_face_to_face(a.face, b.face), False, "landmarks"),
            _Hypothesis(flip(width) @ _face_to_face(a.face, mirrored(b.face, width)), True, "landmarks"),
        ]
    return found


def _from_features(a: Features, b: Features, is_mirrored: bool) -> _Hypothesis | None:
    pairs = match_features(a, b)
    source, target = a.points[pairs[:, 0]], b.points[pairs[:, 1]]
    agreed = agreed_homography(source, target, TOLERANCE * WORK_SIDE)
    if agreed is None:
        return None
    matrix, inliers = agreed
    if (np.linalg.det(matrix) < 0) != is_mirrored:
        return None
    return _Hypothesis(matrix, is_mirrored, "features", int(inliers.sum()), float(inliers.mean()))


def _from_network(learned: Learned, first: np.ndarray, second: np.ndarray, a: _View, b: _View) -> _Hypothesis:
    matrix, is_mirrored = learned(first, second)
    return _Hypothesis(b.shrink @ matrix @ np.linalg.inv(a.shrink), is_mirrored, "learned")


def _face_to_face(a: Face, b: Face) -> np.ndarray:
    of_a, of_b = a.anchors, b.anchors
    names = [name for name in of_a if name in of_b]
    if len(names) < 2:  # landmarks in one, a box alone in the other
        return np.linalg.inv(canonical(b)) @ canonical(a)
    return similarity(np.array([of_a[n] for n in names]), np.array([of_b[n] for n in names]))


def _frame(view: _View) -> tuple[np.ndarray, tuple[int, int]]:
    """The canonical frame of the first photo: its face, or the whole of it; and that frame's (height, width)."""
    if view.face:
        return canonical(view.face), (CANONICAL, CANONICAL)
    height, width = view.grey.shape
    scale = CANONICAL / max(height, width)
    return np.diag([scale, scale, 1.0]), (max(16, round(height * scale)), max(16, round(width * scale)))


def _aligned(a: _View, b: _View, h: _Hypothesis, frame: np.ndarray, size: tuple[int, int]) -> list[np.ndarray]:
    """Both photos in a frame of the first (uint8), and where both have pixels (uint8 0 or 255)."""
    target = (size[1], size[0])
    to_b = frame @ np.linalg.inv(h.matrix)
    first = cv2.warpPerspective(a.grey, frame, target, flags=cv2.INTER_AREA, borderMode=cv2.BORDER_REPLICATE)
    second = cv2.warpPerspective(b.grey, to_b, target, flags=cv2.INTER_AREA, borderMode=cv2.BORDER_REPLICATE)
    there = [
        cv2.warpPerspective(np.full_like(v.grey, 255), m, target, flags=cv2.INTER_NEAREST)
        for v, m in ((a, frame), (b, to_b))
    ]
    return [first, second, cv2.bitwise_and(*there)]


def _measure(a: _View, b: _View, h: _Hypothesis) -> dict[str, float]:
    """Evidence that the two photos show the same skin, measured where both show it, in the canonical frame.

    detail: features found again within 8 % of the frame, per 100 of the fewer; returns: share of pixels that come
    back to within one pixel of the canonical frame (1.6 % of the eyes' distance); trip: median of that error in
    pixels; alike: mean cosine of SIFT descriptors after the flow; correlation: of the even-lit pictures after it;
    shared: share of the frame both show.
    """
    frame, size = _frame(a)
    first, second, there = _aligned(a, b, h, frame, size)
    if a.face:
        there = cv2.bitwise_and(there, face_oval())
    inside = there > 0
    if inside.mean() < 0.05:
        return {"detail": 0.0, "returns": 0.0, "trip": 10.0, "alike": 0.0, "correlation": 0.0, "shared": 0.0}
    even = [even_light(g) for g in (first, second)]
    grey = [as_grey(e) for e in even]
    flow, back = flow_between(*grey), flow_between(*grey[::-1])
    trip = round_trip(flow, back)[inside]
    carried = shifted(even[1], flow)
    return {
        "detail": _detail(grey[0], grey[1], there),
        "returns": float((trip < 1).mean()),
        "trip": float(np.median(trip)),
        "alike": _alike(grey, flow, inside),
        "correlation": float(np.corrcoef(even[0][inside], carried[inside])[0, 1]),
        "shared": float(inside.mean()),
    }


def _detail(a: np.ndarray, b: np.ndarray, mask: np.ndarray) -> float:
    """Features of one that the other has at nearly the same place, of 100."""
    double = [cv2.resize(g, None, fx=2, fy=2, interpolation=cv2.INTER_CUBIC) for g in (a, b)]
    wide = cv2.resize(mask, None, fx=2, fy=2, interpolation=cv2.INTER_NEAREST)
    found = [find_features(g, wide) for g in double]
    if min(len(f.points) for f in found) < 2:
        return 0.0
    alike = found[0].descriptors @ found[1].descriptors.T
    apart = np.hypot(*(found[0].points[:, None] - found[1].points[None]).transpose(2, 0, 1))
    alike[apart > 0.16 * max(a.shape)] = 0
    best = alike.argmax(axis=1)
    mutual = alike.argmax(axis=0)[best] == np.arange(len(best))
    same = (mutual & (alike.max(axis=1) > 0.9)).sum()
    return 100 * float(same) / min(len(f.points) for f in found)


def _alike(grey: list[np.ndarray], flow: np.ndarray, inside: np.ndarray) -> float:
    height, width = inside.shape
    rows, columns = np.mgrid[16 : height - 8 : 10, 16 : width - 8 : 10]
    keep = inside[rows, columns]
    places = np.column_stack([columns[keep], rows[keep]]).astype(float)
    if not len(places):
        return 0.0
    ends = places + flow[rows[keep], columns[keep]]
    pair = [dense(g, p) for g, p in zip(grey, (places, ends), strict=True)]
    return float((pair[0] * pair[1]).sum(axis=1).mean())


def dense(grey: np.ndarray, places: np.ndarray, size: float = 16.0) -> np.ndarray:
    """RootSIFT (N, 128) at given places (N, 2), upright, over `size` pixels."""
    height, width = grey.shape
    kept = np.clip(places, 0, (width - 1, height - 1))  # SIFT leaves points outside out, and all rows would shift
    points = [cv2.KeyPoint(float(x), float(y), size) for x, y in kept]
    found, descriptors = cv2.SIFT_create().compute(grey, points)
    assert len(found) == len(points)
    return root(descriptors)


def _refine(a: _View, b: _View, h: _Hypothesis) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """(frame, flow, back, round trip) at `FLOW_SIDE`: what the homography leaves over."""
    height, width = a.grey.shape
    if a.face:  # the head, with room for what hangs over
        x1, y1, x2, y2 = a.face.box
        pad = 0.3 * max(x2 - x1, y2 - y1)
        left, top = max(0.0, x1 - pad), max(0.0, y1 - pad)
        right, bottom = min(float(width), x2 + pad), min(float(height), y2 + pad)
    else:
        left, top, right, bottom = 0.0, 0.0, float(width), float(height)
    scale = FLOW_SIDE / max(right - left, bottom - top)
    frame = np.array([[scale, 0, -scale * left], [0, scale, -scale * top], [0, 0, 1]])
    size = (max(16, round(scale * (bottom - top))), max(16, round(scale * (right - left))))
    first, second, there = _aligned(a, b, h, frame, size)
    radius = 8 * scale * _unit(a) / EYES_APART  # the same band of the face as in the canonical frame
    grey = [as_grey(even_light(g, float(np.clip(radius, 4, 40)))) for g in (first, second)]
    flow, back = flow_between(*grey), flow_between(*grey[::-1])
    errors = round_trip(flow, back)
    reach = 0.08 * scale * _unit(a)
    limit = max(1.0, 0.02 * scale * _unit(a))
    seen = (there > 0).astype(np.float32)
    trust = np.exp(-((errors / limit) ** 2)) * seen + 1e-4
    trust_back = np.exp(-((round_trip(back, flow) / limit) ** 2)) * seen + 1e-4
    return frame, smoothed(flow, trust, reach), smoothed(back, trust_back, reach), errors


def _sample(field: np.ndarray, points: np.ndarray) -> np.ndarray:
    """`field` (h, w, C) at points (N, 2), the edge beyond the edge."""
    at = np.asarray(points, np.float32).reshape(1, -1, 2)
    if not at.size:  # OpenCV refuses to look up nothing
        return np.zeros((0, field.shape[2]))
    found = [
        cv2.remap(field, part[..., 0], part[..., 1], cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
        for part in np.array_split(at, max(1, -(-at.shape[1] // 30_000)), axis=1)
    ]
    return np.concatenate(found, axis=1).reshape(at.shape[1], -1)
