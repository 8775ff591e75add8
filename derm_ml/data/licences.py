"""Whether images under some licences may make a model for a target: `research`, or `commercial` use.

    forbidden({"CC-BY-NC-4.0": 900, "CC0-1.0": 100}, "commercial")     sentences; empty where nothing stands against it

A licence is the text its publisher gives, image by image. What is not known to allow commercial use does not allow it.
This reads names of licences; it is no legal advice.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Literal

Target = Literal["research", "commercial"]
# licences whose texts allow commercial use of the work; with attribution or alike sharing where they ask for it
_COMMERCIAL = re.compile(
    r"(CC-?0|CC-?BY(-SA)?|PDDL|ODC-BY|ODBL|MIT|BSD-[23]-CLAUSE|APACHE(-2\.0)?|PUBLIC-DOMAIN)(-?V?\d(\.\d)?)?"
)
_NOBODY = re.compile(r"ALL-RIGHTS-RESERVED|PROPRIETARY")
_NAMED = 3  # licences that a sentence names


def forbidden(licences: Mapping[str, int], target: Target) -> list[str]:
    """A sentence where images are under licences that do not allow the target."""
    if target == "commercial" and not licences:
        return ["the model does not say under which licences its images are: train it again for commercial use"]
    against = {name: n for name, n in licences.items() if not _allows(name, target)}
    if not against:
        return []
    named = [f"{name} ({n})" for name, n in sorted(against.items(), key=lambda one: -one[1])]
    more = f" and {len(named) - _NAMED} more licences" if len(named) > _NAMED else ""
    return [
        f"the policy's target is {target} use, which the licences of {sum(against.values())} of "
        f"{sum(licences.values())} images do not allow or do not say: {', '.join(named[:_NAMED])}{more}; leave these "
        "images out and train again, or change `target` in the task's policy.yaml"
    ]


def _allows(name: str, target: Target) -> bool:
    text = re.sub(r"[\s_]+", "-", name.strip().upper())
    return bool(_COMMERCIAL.fullmatch(text)) if target == "commercial" else not _NOBODY.search(text)
