"""What is known of a person as the numbers a graph takes: training, evaluation and serving encode it alike."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

Attributes = Mapping[str, str | float]


def encode_attributes(attributes: Sequence[Attributes], names: Sequence[str]) -> np.ndarray:
    """Attributes as (N, 2 · len(names)) float32: a value and a flag that is 1 where the value is missing.

    Age is in units of 20 years from 50 (about a standard deviation from the mean of lesion archives); sex is 1 male,
    -1 female. A missing value is 0 with its flag set.
    """
    rows = np.zeros((len(attributes), 2 * len(names)), np.float32)
    for row, given in zip(rows, attributes, strict=True):
        for column, name in enumerate(names):
            value = _number(name, given.get(name))
            row[2 * column], row[2 * column + 1] = (0.0, 1.0) if value is None else (value, 0.0)
    return rows


def _number(name: str, value: str | float | None) -> float | None:
    if name == "sex":
        return {"male": 1.0, "female": -1.0}.get(str(value).lower())
    if value is None or value == "" or not np.isfinite(float(value)):
        return None
    return (float(value) - 50) / 20
