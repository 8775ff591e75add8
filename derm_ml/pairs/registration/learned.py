"""Registration by the bi-autoencoder's transforms, run in ONNX Runtime: version 2, and a hypothesis for version 1.

Each pair is tried as it is and with the second photo mirrored; the more alike the codes, the better.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from derm_ml.bundles.session import Session
from derm_ml.images.geometry import flip, project
from derm_ml.images.preprocess import to_square


@dataclass(frozen=True, slots=True)
class LearnedMap:
    """What the network says of two photos.

    `matrix` (3, 3) takes pixels of the first to the second; `lattice` (G, G, 2), of a network that bends, says where
    places from the first's one edge to the other lie in the second, in pixels.
    """

    matrix: np.ndarray
    is_mirrored: bool
    lattice: np.ndarray | None = None


@dataclass(frozen=True)
class TransformNetwork:
    """The network of a bundle. Thread-safe."""

    session: Session
    side: int

    @classmethod
    def open(cls, path: Path, side: int) -> TransformNetwork:
        """Raises `BundleError` for a graph that cannot be run."""
        return cls(Session(path), side)

    def __call__(self, first: np.ndarray, second: np.ndarray) -> LearnedMap:
        """Two RGB photos of any size."""
        a = to_square(first, self.side)
        turned = [second, np.ascontiguousarray(second[:, ::-1])]
        feed = {"first": np.stack([a, a]), "second": np.stack([to_square(s, self.side) for s in turned])}
        bends = "lattice" in self.session.outputs
        outputs = ["transform", "difference", *(["lattice"] if bends else [])]
        maps, differ, *lattices = (np.asarray(x, float) for x in self.session.run(outputs, feed))
        best = int(np.argmin(differ))
        pixels = np.linalg.inv(_normal(second))
        if best:
            pixels = flip(second.shape[1]) @ pixels
        lattice = None
        if bends:
            there = lattices[0][best]
            lattice = project(pixels, there.reshape(-1, 2)).reshape(there.shape).astype(np.float32)
        return LearnedMap(pixels @ maps[best] @ _normal(first), bool(best), lattice)


def _normal(photo: np.ndarray) -> np.ndarray:
    """Pixels → -1..1, where -1 and 1 are the outer edges of the picture."""
    height, width = photo.shape[:2]
    return np.array([[2 / width, 0, 1 / width - 1], [0, 2 / height, 1 / height - 1], [0, 0, 1]])
