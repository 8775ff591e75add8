"""Version 1 as the original does it, to be measured beside ours: the baseline, never a recipe.

Find the face, turn the eyes level, centre, scale, stack; of each box take the box of the same label with the best
score ½ · overlap + ½ · confidence, several boxes may take the same one. The confidence is how alike the distances
from the box to five landmarks are before and after; the original forgot the second box, which is put right here, or
it would be no comparison. Its landmarks were the outer eye corners, the base of the nose and the corners of the
mouth; a detector with other landmarks stands in with its own. A photo without a face has no matches: it stays in the
average.
"""

from __future__ import annotations

import numpy as np

from derm_ml.asking.pair import Pair
from derm_ml.images.geometry import outline, overlap, project
from derm_ml.pairs.faces.face import Face, FaceDetector, find_face
from derm_ml.pairs.faces.upright import to_canonical
from derm_ml.records import Region


def original_matches(pair: Pair, detector: FaceDetector) -> list[tuple[int, int, float]]:
    """(number in first, number in second, score) of every box of the first photo that overlaps one of the second."""
    one, other = (find_face(picture, detector) for picture in pair.pictures)
    if one is None or other is None:
        return []
    faces = one, other
    stacked = [
        [project(to_canonical(face), outline(region)) for region in regions]
        for face, regions in zip(faces, pair.regions, strict=True)
    ]
    found = []
    for i, a in enumerate(pair.first_regions):
        best: tuple[float, int] | None = None
        for j, b in enumerate(pair.second_regions):
            shared = overlap(stacked[0][i], stacked[1][j]) if a.label == b.label else 0.0
            if shared > 0:
                score = 0.5 * shared + 0.5 * _confidence(a, faces[0], b, faces[1])
                best = max(best or (score, j), (score, j))
        if best:
            found.append((i, best[1], best[0]))
    return found


def unregistered_matches(pair: Pair) -> list[tuple[int, int]]:
    """What overlap alone gives, the photos laid on each other as they are: shows what registration is worth."""
    shape = pair.second.shape[1] / pair.first.shape[1], pair.second.shape[0] / pair.first.shape[0]
    found = []
    for i, a in enumerate(pair.first_regions):
        shares = [
            overlap(outline(a.scaled(*shape)), outline(b)) if a.label == b.label else 0.0 for b in pair.second_regions
        ]
        if shares and max(shares) > 0:
            found.append((i, int(np.argmax(shares))))
    return found


def _confidence(a: Region, face_a: Face, b: Region, face_b: Face) -> float:
    """1 where the distances to the landmarks, in units of the eyes' distance, are the same; 0 where 1 apart."""
    names = [name for name in face_a.anchors if name in face_b.anchors]
    distances = []
    for region, face in ((a, face_a), (b, face_b)):
        middle = np.array([(region.x1 + region.x2) / 2, (region.y1 + region.y2) / 2])
        marks = np.array([face.anchors[name] for name in names])
        distances.append(np.hypot(*(marks - middle).T) / face.inter_ocular)
    return float(np.clip(1 - np.abs(distances[0] - distances[1]).mean(), 0, 1))
