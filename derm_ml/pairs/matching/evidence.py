"""What says that two registered photos show the same patient's skin, as the features of one logistic regression."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from derm_ml.asking.pair import Pair
from derm_ml.pairs.faces.face import Face
from derm_ml.pairs.faces.identity import Likeness
from derm_ml.pairs.registration.registration import Registration

Signer = Callable[[np.ndarray, Face, bool], np.ndarray | None]
NAMES = ("agreeing", "returns", "alike", "identity", "has_identity")


class PlainlySame(BaseModel):
    """Where the skin is plainly one person's: `agreeing` features agree, as they never did of two people.

    The faces then count as alike as those of one person usually are, `alike`: one that is half covered, or half turned
    away, would only say otherwise.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    agreeing: float = Field(gt=0)
    alike: float = Field(ge=-1, le=1)

    def likeness(self, said: Mapping[str, float], measured: float | None) -> float | None:
        """How alike the faces of a registered pair count as, of what was measured; None stays None."""
        if measured is None or said["agreeing"] < self.agreeing:
            return measured
        return max(measured, self.alike)


def evidence_vector(said: Mapping[str, float], identity: float | None) -> np.ndarray:
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


def signatures(
    sign: Signer, pair: Pair, registration: Registration, twins: bool = False
) -> tuple[np.ndarray, np.ndarray] | None:
    """What `sign` makes of both faces, or None where one has no face with known eyes.

    `twins`: of the faces as a mirror shows them, which are faces of two other people.
    """
    a, b = registration.faces
    if a is None or b is None:
        return None
    found = sign(pair.first, a, twins), sign(pair.second, b, registration.is_mirrored != twins)
    return None if found[0] is None or found[1] is None else (found[0], found[1])


def face_likeness(pair: Pair, registration: Registration, identity: Likeness | None) -> float | None:
    """How alike the two faces are, -1..1; None without faces or without a way to compare them."""
    found = signatures(identity.signature, pair, registration) if identity else None
    return identity.alike(*found) if identity and found else None
