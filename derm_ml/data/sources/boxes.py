"""A box that a file says is drawn on a picture → a region with the task's label, or an error that says where."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from derm_ml.data.sources.labels import LabelMap
from derm_ml.data.sources.text_files import quoted
from derm_ml.records import DataError, Region

Boxes = dict[str, tuple[Region, ...]]  # picture, relative to the root → its regions


def frame_said(width: Any, height: Any) -> tuple[int, int] | None:
    """The size of the image on which a file says its boxes were drawn; None where it says none (0 is none)."""
    try:
        size = int(float(width)), int(float(height))
    except (TypeError, ValueError, OverflowError):
        return None
    return size if min(size) > 0 else None


def region_of(
    where: str,
    name: Any,
    corners: Sequence[Any],
    labels: LabelMap,
    lesion: str = "",
    frame: tuple[int, int] | None = None,
) -> list[Region]:
    """A region with the task's label; none for one the label map leaves out.

    Raises `DataError` beginning with `where` for a label that is not known and a box that is none.
    """
    if not isinstance(name, str):
        raise DataError(f"{where}: its label is {quoted(name)}, not a name; correct it")
    try:
        target = labels.target(name)
    except DataError as error:
        raise DataError(f"{where}: {error}") from error
    try:
        x1, y1, x2, y2 = (float(v) for v in corners)
    except (TypeError, ValueError, OverflowError):
        raise DataError(f"{where}: the box is '{quoted(corners)}', not four numbers x1, y1, x2, y2") from None
    if not all(map(math.isfinite, (x1, y1, x2, y2))) or x1 >= x2 or y1 >= y2:
        raise DataError(f"{where}: the box is empty: x {x1:g} to {x2:g}, y {y1:g} to {y2:g}; correct or remove it")
    if target is None or not any(target.values()):
        return []
    return [Region(next(label for label, value in target.items() if value == 1), x1, y1, x2, y2, lesion, "", frame)]
