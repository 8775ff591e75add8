"""One number with its interval, or why there is none: what every metric is given as."""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Metric:
    """One number with its 95 % interval and the number of cases behind it.

    `value` None means undefined, with the reason in `note`; `low` and `high` are None where no interval can be
    given. Raises `ValueError` for NaN or infinity: an undefined number must not look like a number.
    """

    value: float | None
    low: float | None
    high: float | None
    n: int
    note: str = ""

    def __post_init__(self) -> None:
        for name in ("value", "low", "high"):
            number = getattr(self, name)
            if number is not None and not math.isfinite(number):
                raise ValueError(f"a metric's {name} is {number}; an undefined metric has value None and a note")
        if self.value is None and not self.note:
            raise ValueError("an undefined metric needs a note that says why")

    def __str__(self) -> str:
        if self.value is None:
            return f"undefined: {self.note}"
        if self.low is None or self.high is None:
            return f"{self.value:.3f} (n = {self.n})"
        return f"{self.value:.3f} (95 % {self.low:.3f} to {self.high:.3f}, n = {self.n})"

    @property
    def short(self) -> str:
        """Value and interval alone, for a column whose heading says what they are."""
        if self.value is None:
            return "–"
        ends = "" if self.low is None or self.high is None else f" ({self.low:.3f} to {self.high:.3f})"
        return f"{self.value:.3f}{ends}"


def undefined(n: int, why: str) -> Metric:
    """A metric that cannot be given, and why."""
    return Metric(None, None, None, n, why)


def not_evaluable(n: int) -> Metric:
    """Too few cases to say anything: a visible state, not a missing row."""
    return undefined(n, f"not evaluable (n = {n})")
