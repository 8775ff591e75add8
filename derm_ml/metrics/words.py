"""Identifiers as a reader writes them."""

from __future__ import annotations

import re

_PEOPLE = ("Dice", "Jaccard", "Brier")
CAPITALS = {"auc": "AUC", "ece": "ECE", "roc": "ROC", "ppv": "PPV", "npv": "NPV", "id": "ID"}


def readable(name: str) -> str:
    """`auc_seborrheic_keratosis` → `AUC seborrheic keratosis`."""
    return " ".join(CAPITALS.get(part, part) for part in name.split("_") if part)


def headed(name: str) -> str:
    """The same with a capital first letter, for headings; symbols such as `n` stay small."""
    text = readable(name)
    return text if len(text) == 1 else text[:1].upper() + text[1:]


def in_a_sentence(title: str) -> str:
    """A title with a small first letter, unless it begins with an acronym or a person: `mean AUC`, `Brier score`."""
    stays = title[:2].isupper() or title.startswith(_PEOPLE)
    return title if stays else title[:1].lower() + title[1:]


_SENSITIVITY = re.compile(r"recall_(0\.\d+|1)")


def point_in_words(name: str) -> str:
    """An operating point as a reader knows it: `recall_0.95` → `95 % sensitivity`, `balanced` → `balanced`."""
    found = _SENSITIVITY.fullmatch(name)
    return f"{100 * float(found[1]):g} % sensitivity" if found else readable(name)


def threshold_in_words(name: str) -> str:
    """The threshold of an operating point: `the threshold for 95 % sensitivity`, `the balanced threshold`."""
    return f"the {_threshold(name)}"


def no_threshold(name: str) -> str:
    """What is said of a point that has none: `no threshold for 95 % sensitivity`."""
    return f"no {_threshold(name)}"


def _threshold(name: str) -> str:
    words = point_in_words(name)
    return f"threshold for {words}" if words.endswith("sensitivity") else f"{words} threshold"


def signed_interval(low: float, high: float, digits: int = 3) -> str:
    """The ends of the interval of a difference, as many digits as are shown, and never `+0.000 to +0.000`: all samples
    may have given one value, and ends below the last digit are no zeros."""
    if low == high:
        return f"{low:+.{digits}f} in every bootstrap sample" if low else "no difference in any bootstrap sample"
    least = 10.0**-digits
    if max(abs(low), abs(high)) < least / 2:
        return f"within ±{least:.{digits}f}"
    return f"{round(low, digits) + 0.0:+.{digits}f} to {round(high, digits) + 0.0:+.{digits}f}"
