"""The query parameters of a request, checked before a task sees them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from derm_ml.embeddings.similar import MOST

OPTIONS = {
    "label": "the finding that /explain shows",
    "age": "years, 0 to 120",
    "sex": "male or female",
    "point": "the operating point that decides",
    "mask": "how /predict returns a mask: png, rle or polygon",
}
MASKS = ("png", "rle", "polygon")
SIMILAR_OPTIONS = {
    "k": f"how many neighbours, 1 to {MOST}",
    "patient": "an id of the data set, or its neutral id: this patient's images are left out",
    "licence": "names separated by commas: only images under these",
    "thumbnails": "yes or no",
}
OLDEST = 120.0


class OptionError(ValueError):
    """A query parameter that cannot be used; the message says which and what is accepted."""


def read_options(
    pairs: Sequence[tuple[str, str]],
    labels: Sequence[str],
    points: Sequence[str] = (),
    known: Mapping[str, str] = OPTIONS,
) -> dict[str, str]:
    """Query parameters → options of a task: names that are `known`, once each, with values that make sense.

    `labels` and `points` are those of the model; an empty value is as good as none. Raises `OptionError`.
    No message repeats what the client sent.
    """
    options: dict[str, str] = {}
    for name, value in pairs:
        if name not in known:
            raise OptionError(f"an unknown parameter was sent; there are {', '.join(known)}")
        if name in options:
            raise OptionError(f"the parameter '{name}' was sent more than once")
        options[name] = value.strip()
    options = {name: value for name, value in options.items() if value}
    if "label" in options and options["label"] not in labels:
        raise OptionError(f"'label' must be one of {', '.join(labels)}")
    if "point" in options and options["point"] not in points:
        raise OptionError(f"'point' must be one of {', '.join(points)}" if points else "the model has no 'point'")
    if "k" in options and not (options["k"].isdecimal() and 1 <= int(options["k"][:3]) <= MOST):
        raise OptionError(f"'k' must be a whole number from 1 to {MOST}")
    if options.get("thumbnails", "no") not in ("yes", "no"):
        raise OptionError("'thumbnails' must be yes or no")
    if "sex" in options and options["sex"].lower() not in ("male", "female"):
        raise OptionError("'sex' must be male or female; leave it away if unknown")
    if "mask" in options and options["mask"].lower() not in MASKS:
        raise OptionError(f"'mask' must be one of {', '.join(MASKS)}")
    if "age" in options and not _is_age(options["age"]):
        raise OptionError(f"'age' must be a number of years from 0 to {OLDEST:g}; leave it away if unknown")
    return options


def _is_age(text: str) -> bool:
    try:
        return 0 <= float(text) <= OLDEST  # also false for NaN
    except ValueError:
        return False
