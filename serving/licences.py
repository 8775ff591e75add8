"""What a Bento's image holds: every distribution a service needs, directly or not, with its licence.

    python -m serving.licences           a table; fails where a licence is unknown or would reach whoever gets the image
    python -m serving.licences --pins    the same as name==version, for a bill of materials

GPL and AGPL have no place in an image that is handed on; LGPL and MPL ask for no more than their own sources.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Iterable
from importlib.metadata import Distribution, PackageNotFoundError, distribution

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from derm_ml.registry import all_tasks
from serving.build import PACKAGES

FORBIDDEN = re.compile(r"\bA?GPL|(?<!Lesser )General Public License|Affero", re.IGNORECASE)


def image_packages() -> list[Distribution]:
    """The distributions of a service's image, by name: what serving/build.py and the tasks ask for, and theirs."""
    asked = {"bentoml", *PACKAGES, *(name for task in all_tasks().values() for name in task.serving_packages)}
    return [package for _, package in sorted(needed_by(asked).items())]


def needed_by(names: Iterable[str]) -> dict[str, Distribution]:
    """Name → distribution, of these and of all they require here (markers evaluated, no extras)."""
    found: dict[str, Distribution] = {}
    waiting = list(names)
    while waiting:
        name = canonicalize_name(waiting.pop())
        if name in found:
            continue
        try:
            found[name] = distribution(name)
        except PackageNotFoundError:  # for another platform
            continue
        for text in found[name].requires or ():
            requirement = Requirement(text)
            if requirement.marker is None or requirement.marker.evaluate({"extra": ""}):
                waiting.append(requirement.name)
    return found


def licence_of(package: Distribution) -> str:
    """The licence as the package's metadata state it (expression, classifiers, or the short text); "" if nowhere."""
    facts = package.metadata
    said = str(facts.get("License-Expression") or "")
    if not said:
        classifiers = [c for c in facts.get_all("Classifier") or () if c.startswith("License ::")]
        said = "; ".join(c.rpartition(" :: ")[2] for c in classifiers if not c.endswith("OSI Approved"))
    if not said:
        text = str(facts.get("License") or "").strip()
        said = text.splitlines()[0][:60] if text and text.upper() != "UNKNOWN" else ""
    return said


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pins", action="store_true", help="name==version of each")
    given = parser.parse_args()
    packages = image_packages()
    for package in packages:
        pin = f"{package.metadata['Name']}=={package.version}"
        print(pin if given.pins else f"{pin:45} {licence_of(package) or '?'}")
    wrong = [p.metadata["Name"] for p in packages if not licence_of(p) or FORBIDDEN.search(licence_of(p))]
    if wrong and not given.pins:
        sys.exit(f"the serving image holds licences that are unknown or not allowed in it: {', '.join(wrong)}")


if __name__ == "__main__":
    main()
