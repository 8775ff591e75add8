"""Whether two aligned faces are one person's: local descriptors, compared in directions in which one person's photos
hardly differ.

    vector = signature(photo, face)                       # (D,) float32
    identity = fit_identity(vectors, subjects)            # from a few people with several photos each
    identity.alike(vector_a, vector_b)                    # cosine, -1..1

A small metric learned from the training photos, not a face recognition network: enough to notice that a photo was
filed under the wrong patient. Sources: RootSIFT on a grid after Simonyan et al. 2013 (Fisher vector faces); within-
class covariance normalisation, Hatch et al. 2006.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import cv2
import numpy as np
from scipy.linalg import svd

from derm_ml.pairs.faces.face import EYES, Face
from derm_ml.pairs.faces.upright import CANONICAL, face_oval, to_canonical, upright
from derm_ml.pairs.registration.features import dense
from derm_ml.pairs.registration.flow import as_grey, even_light

SCALES = ((12.0, 12), (20.0, 14))  # (size of a descriptor, step of the grid) in pixels of the canonical face
KEPT = 24  # directions kept of a descriptor's 128
MOST = 256  # directions of the whole face; with fewer than there are, one person in another light was two
FEWEST = 6  # people; with fewer, what differs between people is not told from what differs between photos
RIDGE = 0.1  # of the mean within-class variance, added to all directions


class Likeness(Protocol):
    """Tells whether two faces are one person's."""

    def signature(self, photo: np.ndarray, face: Face, is_mirrored: bool = False) -> np.ndarray | None: ...

    def alike(self, a: np.ndarray, b: np.ndarray) -> float: ...


@dataclass(frozen=True)
class FaceIdentity:
    """`local` (128, KEPT) reduces a descriptor, `mean` (D,) and `whole` (K, D) a face."""

    local: np.ndarray
    mean: np.ndarray
    whole: np.ndarray

    def signature(self, photo: np.ndarray, face: Face, is_mirrored: bool = False) -> np.ndarray | None:
        """As the function of this name."""
        return signature(photo, face, is_mirrored)

    def code(self, vector: np.ndarray) -> np.ndarray:
        """(K,) of length one from what `signature` gives."""
        small = (vector.reshape(-1, 128) @ self.local).ravel()
        code = self.whole @ (small - self.mean)
        return code / max(1e-9, float(np.linalg.norm(code)))

    def alike(self, a: np.ndarray, b: np.ndarray) -> float:
        return float(self.code(a) @ self.code(b))

    def tensors(self) -> dict[str, np.ndarray]:
        return {f"identity.{name}": np.ascontiguousarray(getattr(self, name)) for name in ("local", "mean", "whole")}

    @classmethod
    def of(cls, tensors: Mapping[str, np.ndarray]) -> FaceIdentity | None:
        """What `tensors` gave, or None where it is not among them."""
        if "identity.whole" not in tensors:
            return None
        return cls(*(tensors[f"identity.{name}"] for name in ("local", "mean", "whole")))


def signature(photo: np.ndarray, face: Face, is_mirrored: bool = False) -> np.ndarray | None:
    """(G · 128,) float32: RootSIFT of the aligned face on a grid, or None where the eyes are not known.

    `is_mirrored`: the photo shows the face mirrored, as a selfie camera does; it is turned back.
    """
    if not all(name in face.landmarks for name in EYES):
        return None
    grey = cv2.cvtColor(photo, cv2.COLOR_RGB2GRAY)
    even = as_grey(even_light(upright(grey, to_canonical(face), CANONICAL, is_mirrored)))
    oval = face_oval() > 0
    parts = []
    for reach, step in SCALES:
        rows, columns = np.mgrid[20 : CANONICAL - 12 : step, 20 : CANONICAL - 12 : step]
        keep = oval[rows, columns]
        parts.append(dense(even, np.column_stack([columns[keep], rows[keep]]), reach))
    return np.concatenate(parts).ravel()


def fit_identity(vectors: np.ndarray, people: Sequence[str]) -> FaceIdentity | None:
    """Learn from signatures (N, G · 128) and who each shows; None with fewer than `FEWEST` people with two photos."""
    names = np.asarray(people)
    several = [name for name in np.unique(names) if (names == name).sum() > 1]
    if len(several) < FEWEST:
        return None
    keep = np.isin(names, several)
    vectors, names = vectors[keep], names[keep]
    local = _directions(vectors.reshape(-1, 128)[:: max(1, vectors.size // 128 // 20_000)], KEPT)
    small = (vectors.reshape(len(vectors), -1, 128) @ local).reshape(len(vectors), -1)
    mean = small.mean(axis=0)
    # the slower driver: the default one now and then does not converge on photos that are nearly alike
    basis = svd(small - mean, full_matrices=False, lapack_driver="gesvd")[2][: min(MOST, len(small) - len(several))]
    codes = (small - mean) @ basis.T
    scatter = [np.cov(codes[names == n].T, bias=True) * (names == n).sum() for n in several]
    within = np.sum(scatter, axis=0) / len(codes)
    ridge = RIDGE * np.trace(within) / len(within) * np.eye(len(within))
    whiten = np.linalg.inv(np.linalg.cholesky(within + ridge))
    return FaceIdentity(*(a.astype(np.float32) for a in (local, mean, whiten @ basis)))


def _directions(rows: np.ndarray, n: int) -> np.ndarray:
    """(D, n): the directions in which the rows differ most, their common part included."""
    return np.linalg.eigh(rows.T @ rows)[1][:, ::-1][:, :n]
