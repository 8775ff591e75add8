"""Duplicates with two labels, side by side: which of the two is right, a person sees."""

from __future__ import annotations

from typing import TYPE_CHECKING

from derm_ml.data.rules import contradictions
from derm_ml.figures.sheets import Sheet
from derm_ml.metrics.words import readable

if TYPE_CHECKING:
    from derm_ml.data.dataset import Dataset

TITLE = "One image, two labels"
MOST = 16  # pairs on a sheet; duplicates.csv has all


def contradictions_sheet(dataset: Dataset) -> Sheet | None:
    """The first pairs of images that are one and have two labels; None where there are none."""
    pairs = contradictions(dataset).head(MOST)
    if pairs.empty:
        return None
    rows = dataset.manifest.set_index("id", drop=False)
    role = next(c.removesuffix(".shard") for c in rows.columns if c.endswith(".shard"))
    shown = [(rows.loc[pair["a"]], rows.loc[pair["b"]], pair) for pair in pairs.to_dict("records")]
    captions = [
        f"{p['a']}, {p['b']}\nleft {readable(p['a_label'])}, right {readable(p['b_label'])}\n{p['kind']} duplicate"
        for _, _, p in shown
    ]
    return Sheet(
        [(dataset.image(a, role), dataset.image(b, role)) for a, b, _ in shown], captions, columns=4, title=TITLE
    )
