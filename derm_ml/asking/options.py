"""Values that are sent beside an image: `?age=63&sex=female`, `derm predict --age 63`.

Each is declared once. From the declaration come its check, its entry in the API description, the field on the page
and the line in `derm tasks TASK`.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from derm_ml import DermError
from derm_ml.asking.prevalence import PrevalenceError, shares_of, text_of, trained_shares

if TYPE_CHECKING:
    from derm_ml.bundles.bundle import BundleCard

ANSWER, EXPLAIN = "answer", "explain"  # what an option is for
OLDEST = 120.0  # years; nobody with a known date of birth has been older than 122


class AskingError(DermError, ValueError):
    """A question that cannot be asked; the message says what is accepted and never repeats what was sent."""


@dataclass(frozen=True, slots=True)
class Option:
    """One value that may be sent beside an image.

    `of_model`: the choices are the loaded model's labels or operating points; its labels say what a `prevalence` is; it
    needs limits of prediction `sets`. `is_attribute`: a fact about the person, of use only to a model that was trained
    with it. `default` is what holds if nothing is sent ("": nothing does).
    `for_programs`: it changes how an answer is written, which a person at the page has no use for.
    """

    name: str
    help: str
    type: Literal["string", "number", "integer"] = "string"
    choices: tuple[str, ...] = ()
    low: float | None = None
    high: float | None = None
    default: str = ""
    of_model: Literal["", "labels", "points", "prevalence", "sets"] = ""
    is_attribute: bool = False
    for_programs: bool = False
    used_for: tuple[str, ...] = (ANSWER, EXPLAIN)

    def choices_of(self, card: BundleCard | None) -> tuple[str, ...]:
        """The accepted values, () if any text or number in range is; those of a model need its card."""
        if self.of_model in ("labels", "points") and card:
            return card.labels if self.of_model == "labels" else card.point_names
        return self.choices

    def is_used_by(self, card: BundleCard) -> bool:
        """Whether this model has a use for it: it was trained with the attribute, or has something to choose from."""
        if self.is_attribute:
            return self.name in card.attributes
        if self.of_model == "prevalence":
            return bool(trained_shares(card))
        if self.of_model == "sets":
            return bool(card.class_limits)
        return bool(self.choices_of(card)) if self.of_model else True

    def read(self, text: str, card: BundleCard | None = None) -> str:
        """The value of a text, in the spelling of its choices. Raises `AskingError` for one that is not accepted."""
        if self.of_model == "prevalence" and card:
            try:
                return text_of(shares_of(text, card), card)
            except PrevalenceError as error:
                raise AskingError(str(error)) from None
        choices = self.choices_of(card)
        if self.of_model in ("labels", "points") or choices:
            found = next((choice for choice in choices if choice.lower() == text.lower()), None)
            if found is None or (
                self.of_model in ("labels", "points") and found != text
            ):  # names of a model are case-sensitive, as its keys are
                raise AskingError(
                    f"'{self.name}' must be {_listed(choices)}" if choices else f"the model has no '{self.name}'"
                )
            return found
        if self.type != "string" and not self._is_in_range(text):
            kind = "a whole number" if self.type == "integer" else "a number"
            raise AskingError(f"'{self.name}' must be {kind} from {self.low:g} to {self.high:g}")
        return text

    def schema(self, card: BundleCard | None = None) -> dict[str, Any]:
        """JSON Schema of its value."""
        schema: dict[str, Any] = {"type": self.type}
        if choices := self.choices_of(card):
            schema["enum"] = list(choices)
        if self.of_model == "prevalence" and card and (trained := trained_shares(card)):
            schema["examples"] = [text_of(trained, card)]
        if self.low is not None:
            schema["minimum"] = self.low if self.type == "number" else int(self.low)
        if self.high is not None:
            schema["maximum"] = self.high if self.type == "number" else int(self.high)
        if self.default:
            schema["default"] = self.default if self.type == "string" else float(self.default)
            schema["default"] = int(self.default) if self.type == "integer" else schema["default"]
        return schema

    def _is_in_range(self, text: str) -> bool:
        try:
            value = float(text)
        except ValueError:
            return False
        low = -math.inf if self.low is None else self.low
        high = math.inf if self.high is None else self.high
        if self.type == "integer" and not (text.isascii() and text.lstrip("-").isdecimal()):
            return False
        return low <= value <= high  # also false for NaN


def _listed(choices: tuple[str, ...]) -> str:
    return f"{choices[0]} or {choices[1]}" if len(choices) == 2 else f"one of {', '.join(choices)}"


AGE = Option("age", "age of the person in years", "number", low=0, high=OLDEST, is_attribute=True)
SEX = Option("sex", "sex of the person", choices=("male", "female"), is_attribute=True)
LABEL = Option("label", "the label whose heatmap is shown", of_model="labels", used_for=(EXPLAIN,))
SIZE = Option(
    "size",
    "longer side of each image shown, in pixels",
    "integer",
    low=64,
    high=2048,
    used_for=(EXPLAIN,),
    for_programs=True,
)
ABSTAINED = Option(
    "abstained",
    "what an answer holds where the model abstains: nothing, or its numbers, still without a decision",
    choices=("nothing", "numbers"),
    default="nothing",
    for_programs=True,
)
PREVALENCE = Option(
    "prevalence",
    "how often the labels occur where the model is used: adds `at_prevalence` to the answer. Of one label a share "
    "between 0 and 1, of several `label:share` separated by commas; of classes that exclude each other all of them",
    of_model="prevalence",
)
SETS = Option(
    "sets",
    "name the classes that cannot be ruled out",
    choices=("yes", "no"),
    default="no",
    of_model="sets",
)
POINT = Option("point", "the operating point that decides", of_model="points")


def read_options(
    pairs: Iterable[tuple[str, str]], known: Mapping[str, Option], card: BundleCard | None = None
) -> dict[str, str]:
    """Names and texts → checked values by name; an empty text is as good as none.

    Raises `AskingError` for a name that is not `known`, one given twice, or a value that is not accepted.
    """
    found: dict[str, str] = {}
    for name, text in pairs:
        if name not in known:
            raise AskingError(f"an unknown parameter was sent; known are {', '.join(known) or 'none'}")
        if name in found:
            raise AskingError(f"the parameter '{name}' was sent more than once")
        found[name] = text.strip()
    return {name: known[name].read(text, card) for name, text in found.items() if text}
