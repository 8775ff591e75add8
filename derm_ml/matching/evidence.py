"""What says that two registered photos show the same patient's skin, as the features of one logistic regression."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from derm_ml.faces.identity import Identity, signature
from derm_ml.pairs import Pair
from derm_ml.registration.registration import Registration

NAMES = ("agreeing", "returns", "alike", "identity", "has_identity")


def features(said: Mapping[str, float], identity: float | None) -> np.ndarray:
    """What a registration's evidence comes to, (5,) by `NAMES`: features that agree (logarithm), share of the flow that
    returns, how alike the skin is after it, and how alike the faces are (0 where that is not known).
    """
    return np.array(
        [
            np.log1p(said["agreeing"]),
            said["returns"],
            said["alike"],
            0.0 if identity is None else identity,
            float(identity is not None),
        ]
    )


def signatures(pair: Pair, registration: Registration, twins: bool = False) -> tuple[np.ndarray, np.ndarray] | None:
    """The signatures of both faces, or None where one has no face with known eyes.

    `twins`: of the faces as a mirror shows them, which are faces of two other people.
    """
    a, b = registration.faces
    if a is None or b is None:
        return None
    found = signature(pair.first, a, twins), signature(pair.second, b, registration.is_mirrored != twins)
    return None if found[0] is None or found[1] is None else (found[0], found[1])


def likeness(pair: Pair, registration: Registration, identity: Identity | None) -> float | None:
    """How alike the two faces are, -1..1; None without faces or without a fitted identity."""
    found = signatures(pair, registration) if identity else None
    return identity.alike(*found) if identity and found else None
