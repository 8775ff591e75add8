"""One calm look for every picture, and the way from a figure to PNG bytes.

Colours are those of Okabe & Ito (2008), told apart with every common form of colour blindness; hues are never the
only carrier of meaning: curves also differ in dash, and bars carry their number.
Figures are made without pyplot, so there is no global state, nothing to close, and threads do not meet.
"""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

INK, SOFT, GRID, PAPER = "#1d2733", "#5b6876", "#e3e7ec", "#ffffff"
BLUE, ORANGE, GREEN, PINK, SKY, RED = "#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#d55e00"
SERIES = (BLUE, RED, GREEN, PINK, ORANGE, SKY, SOFT)
DASHES = ("-", (0, (5, 1.5)), (0, (1.5, 1.2)), (0, (6, 1.5, 1.5, 1.5)))
Look = tuple[str, Any]  # colour, dashes
DPI = 120  # sharp at the size a report shows it, and under 150 kB

_RC: dict[Any, Any] = {
    "font.family": ["DejaVu Sans"],
    "font.size": 9,
    "text.parse_math": False,  # a label or a name with two $ is no formula, and a broken one would stop the figure
    "text.color": INK,
    "axes.edgecolor": SOFT,
    "axes.labelcolor": INK,
    "axes.linewidth": 0.8,
    "axes.titlesize": 10,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.titlepad": 8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "axes.grid": True,
    "grid.color": GRID,
    "grid.linewidth": 0.8,
    "xtick.color": SOFT,
    "ytick.color": SOFT,
    "xtick.major.size": 3,
    "ytick.major.size": 3,
    "legend.frameon": False,
    "legend.fontsize": 8.5,
    "lines.linewidth": 1.8,
    "figure.facecolor": PAPER,
}


def looks_of(labels: Sequence[str]) -> dict[str, Look]:
    """Label → its colour and dashes, by its place among all labels of the task: the same in every figure, whichever of
    them it shows."""
    return {label: (SERIES[k % len(SERIES)], DASHES[k % len(DASHES)]) for k, label in enumerate(labels)}


class Picture:
    """A figure being drawn: its axes as a flat list, and its PNG once the `drawing` block ends."""

    def __init__(self, figure: Figure, axes: list[Axes]) -> None:
        self.figure, self.axes = figure, axes
        self.png = b""


@contextmanager
def drawing(width: float, height: float, rows: int = 1, columns: int = 1, **subplots: object) -> Iterator[Picture]:
    """A figure of `width` x `height` inches in the common style; on leaving, `.png` holds it.

    Example:
        >>> with drawing(4, 3) as picture:
        ...     lines = picture.axes[0].plot([1, 2], [3, 4])
        >>> picture.png[:4]
        b'\\x89PNG'
    """
    import matplotlib
    from matplotlib.figure import Figure

    with matplotlib.rc_context(_RC):
        figure = Figure(figsize=(width, height), dpi=DPI, layout="constrained")
        grid = figure.subplots(rows, columns, squeeze=False, **subplots)  # type: ignore[arg-type]
        picture = Picture(figure, list(grid.ravel()))
        yield picture
        buffer = io.BytesIO()
        figure.savefig(buffer, format="png", metadata={"Software": None})
        picture.png = buffer.getvalue()


def blank(message: str, width: float = 4.4, height: float = 2.2) -> bytes:
    """A picture that says why there is none: a figure must not vanish silently."""
    with drawing(width, height) as picture:
        ax = picture.axes[0]
        ax.axis("off")
        ax.text(0.5, 0.5, message, ha="center", va="center", color=SOFT, wrap=True)
    return picture.png
