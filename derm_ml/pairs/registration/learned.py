"""Registration by the bi-autoencoder's transforms, run in ONNX Runtime: version 2, and a hypothesis for version 1.

Each pair is tried as it is and with the second photo mirrored; the more alike the codes, the better.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from derm_ml.bundles.session import Session
from derm_ml.images.geometry import flip
from derm_ml.images.preprocess import to_square


@dataclass(frozen=True)
class TransformNetwork:
    """The network of a bundle. Thread-safe."""

    session: Session
    side: int

    @classmethod
    def open(cls, path: Path, side: int) -> TransformNetwork:
        """Raises `BundleError` for a graph that cannot be run."""
        return cls(Session(path), side)

    def __call__(self, first: np.ndarray, second: np.ndarray) -> tuple[np.ndarray, bool]:
        """RGB photos of any size → (homography (3, 3) from the first's pixels to the second's, whether mirrored)."""
        a = to_square(first, self.side)
        turned = [second, np.ascontiguousarray(second[:, ::-1])]
        feed = {"first": np.stack([a, a]), "second": np.stack([to_square(s, self.side) for s in turned])}
        maps, differ = (np.asarray(x, float) for x in self.session.run(["transform", "difference"], feed))
        best = int(np.argmin(differ))
        matrix = np.linalg.inv(_normal(second)) @ maps[best] @ _normal(first)
        return (flip(second.shape[1]) @ matrix if best else matrix), bool(best)


def _normal(photo: np.ndarray) -> np.ndarray:
    """Pixels → -1..1, where -1 and 1 are the outer edges of the picture."""
    height, width = photo.shape[:2]
    return np.array([[2 / width, 0, 1 / width - 1], [0, 2 / height, 1 / height - 1], [0, 0, 1]])
