"""What the matcher found of a pair, in the words of the answer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from derm_ml.asking.pair import Pair
from derm_ml.images.geometry import resized
from derm_ml.pairs.matching.matcher import Fate, Outcome
from derm_ml.records import Region
from derm_ml.tasks.persistent_conditions.asking import BoxMatch, BoxState, RegistrationFacts, Visits


def visits_of(pair: Pair, outcome: Outcome) -> Visits:
    """An outcome in the words of the answer."""
    return Visits(
        accepted=outcome.accepted,
        reason=outcome.reason,
        probability_same_skin=outcome.same,
        registration=_registration(pair, outcome),
        matches=[
            BoxMatch(
                first=m.first,
                second=m.second,
                label=pair.first_regions[m.first].label,
                confidence=m.confidence,
                size_change=m.growth,
                overlap=m.overlap,
                distance=m.distance,
            )
            for m in outcome.matches
        ],
        first=_boxes(pair.first_regions, outcome.fates[0]),
        second=_boxes(pair.second_regions, outcome.fates[1]),
        abstained=not outcome.accepted,
        abstained_because=outcome.reason,
    )


def numbers_in(answer: Mapping[str, Any]) -> dict[str, float]:
    """Every number of an answer that a built service must reproduce, by name."""
    found = {"accepted": float(answer["accepted"])}
    if answer["probability_same_skin"] is not None:
        found["probability_same_skin"] = float(answer["probability_same_skin"])
    for match in answer["matches"]:
        found[f"match.{match['first']}.{match['second']}"] = float(match["confidence"])
    for side in ("first", "second"):
        for box in answer[side]:
            if "state" in box:
                found[f"{side}.{box['number']}.{box['state']}"] = float(box["confidence"])
    return found


def visit_numbers(pair: Pair, outcome: Outcome) -> dict[str, float]:
    """The numbers of the answer to a pair, of whose outcome they are made."""
    return numbers_in(visits_of(pair, outcome).model_dump(mode="json", exclude_unset=True))


def _boxes(regions: tuple[Region, ...], fates: Sequence[Fate]) -> list[BoxState]:
    """One entry a box; without a state where the pair was refused."""
    if not fates:
        return [BoxState(number=k, label=region.label) for k, region in enumerate(regions)]
    return [
        BoxState(number=k, label=region.label, state=fate.state, confidence=fate.confidence)
        for k, (region, fate) in enumerate(zip(regions, fates, strict=True))
    ]


def _registration(pair: Pair, outcome: Outcome) -> RegistrationFacts | None:
    found = outcome.registration
    if found is None:
        return None
    shrunk = [resized(sent, looked_at) for sent, looked_at in zip(pair.sizes, found.sizes, strict=True)]
    matrix = np.linalg.inv(shrunk[1]) @ found.matrix @ shrunk[0]
    return RegistrationFacts(
        method=found.method,
        mirrored=found.is_mirrored,
        faces=all(found.faces),
        points_that_return=found.evidence["returns"],
        features_that_agree=int(found.evidence["agreeing"]),
        homography=[float(v) for v in (matrix / matrix[2, 2]).ravel()],
    )
