"""Two photos of one place on the body → where each point of one is in the other, and how far that can be trusted.

    hypotheses (features, landmarks; as is and mirrored) → the one with most evidence → dense flow → evidence

    registration = Registrar(detector)(first, second)
    registration.forward(points)         # pixels of the first → pixels of the second

Where a face is found only the face counts, in a photo where none is found all of it: an office wall behind two people
would register well. Without any face SIFT + MAGSAC alone decide, for any part of the body.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import cv2
import numpy as np

from derm_ml.images.geometry import flip, project, resized, scale_of, similarity
from derm_ml.images.preprocess import limit_side
from derm_ml.pairs.faces.face import Face, FaceDetector, LandmarkModel, find_face, mirrored
from derm_ml.pairs.faces.upright import CANONICAL, EYES_APART, face_oval, head_mask, to_canonical
from derm_ml.pairs.registration.features import Features, agreed_homography, find_features, flipped, match_features
from derm_ml.pairs.registration.flow import as_grey, even_light, flow_between, round_trip, shifted, smoothed
from derm_ml.pairs.registration.learned import TransformNetwork
from derm_ml.pairs.registration.likeness import alignment_evidence
from derm_ml.pairs.registration.registration import Registration

WORK_SIDE = 640  # features and flow are found at this size; lesions of 2 % of a face still have several pixels
FLOW_SIDE = 448
TOLERANCE = 0.018  # of the work side: what an expression moves a point off the common homography
DECISIVE = 40  # features that agree; fewer, and every hypothesis is looked at
WITHOUT_FACE = 0.25  # of the longer side: what stands for the distance of the eyes where there is no face


class NoRegistration(ValueError):
    """The two photos cannot be laid over each other at all; the message says why."""


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
    lattice: np.ndarray | None = None  # (G, G, 2) work pixels of the second: of places from the first's edge to edge


@dataclass(frozen=True)
class Registrar:
    """Registers pairs of photos. Without a detector every photo is treated as one without a face."""

    detector: FaceDetector | None = None
    landmarks: LandmarkModel | None = None
    learned: TransformNetwork | None = None  # version 2's network, as one more hypothesis
    only_learned: bool = False  # or as the only one, with no flow but its own: version 2 by itself

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
            flow, back = _bent(best, a.grey.shape, frame, errors.shape)
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
        return _View(grey, resized(photo.shape, small.shape), face, head_mask(face, grey.shape) if face else None)


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


def _from_network(learned: TransformNetwork, first: np.ndarray, second: np.ndarray, a: _View, b: _View) -> _Hypothesis:
    found = learned(first, second)
    matrix = b.shrink @ found.matrix @ np.linalg.inv(a.shrink)
    lattice = found.lattice
    if lattice is not None:
        lattice = project(b.shrink, lattice.reshape(-1, 2)).reshape(lattice.shape)
    return _Hypothesis(matrix, found.is_mirrored, "learned", lattice=lattice)


def _bent(
    h: _Hypothesis, photo: tuple[int, ...], frame: np.ndarray, size: tuple[int, ...]
) -> tuple[np.ndarray, np.ndarray]:
    """Flow and back (h, w, 2) of a hypothesis that bends, in a frame of the first photo; 0 where it does not."""
    rows, columns = np.mgrid[: size[0], : size[1]].astype(np.float32)
    if h.lattice is None:
        return np.zeros((*rows.shape, 2), np.float32), np.zeros((*rows.shape, 2), np.float32)
    down, across = h.lattice.shape[0] - 1, h.lattice.shape[1] - 1
    middle = np.array([[1, 0, 0.5], [0, 1, 0.5], [0, 0, 1]])  # a pixel's; the lattice begins at its edge
    cells = np.diag([across / photo[1], down / photo[0], 1.0]) @ middle @ np.linalg.inv(frame)
    knots = np.stack(np.meshgrid(np.arange(across + 1.0), np.arange(down + 1.0)), axis=2).reshape(-1, 2)
    there = project(frame @ np.linalg.inv(h.matrix), h.lattice.reshape(-1, 2))
    shifts = (there - project(np.linalg.inv(cells), knots)).astype(np.float32).reshape(h.lattice.shape)
    at = project(cells, np.column_stack([columns.ravel(), rows.ravel()])).astype(np.float32).reshape(*rows.shape, 2)
    flow = cv2.remap(shifts, at[..., 0], at[..., 1], cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    back = np.zeros_like(flow)
    for _ in range(5):  # back(q) = −flow(q + back(q)); contracts: a bend is smooth and small
        back = -shifted(flow, back)
    return flow, back


def _face_to_face(a: Face, b: Face) -> np.ndarray:
    of_a, of_b = a.anchors, b.anchors
    names = [name for name in of_a if name in of_b]
    if len(names) < 2:  # landmarks in one, a box alone in the other
        return np.linalg.inv(to_canonical(b)) @ to_canonical(a)
    return similarity(np.array([of_a[n] for n in names]), np.array([of_b[n] for n in names]))


def _frame(view: _View) -> tuple[np.ndarray, tuple[int, int]]:
    """The canonical frame of the first photo: its face, or the whole of it; and that frame's (height, width)."""
    if view.face:
        return to_canonical(view.face), (CANONICAL, CANONICAL)
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
    """`likeness` where both photos show the skin, in the canonical frame."""
    first, second, there = _aligned(a, b, h, *_frame(a))
    return alignment_evidence(first, second, cv2.bitwise_and(there, face_oval()) if a.face else there)


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
