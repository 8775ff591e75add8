"""Duplicates with two labels, side by side: which of the two is right, a person sees."""

from __future__ import annotations

from typing import TYPE_CHECKING

from derm_ml.data.rules import contradictions
from derm_ml.figures.sheets import heatmap_sheet

if TYPE_CHECKING:
    from derm_ml.data.dataset import Dataset

MOST = 16  # pairs on a sheet; duplicates.csv has all


def contradictions_sheet(dataset: Dataset) -> bytes | None:
    """A PNG of the first pairs of images that are one and have two labels; None where there are none."""
    pairs = contradictions(dataset).head(MOST)
    if pairs.empty:
        return None
    rows = dataset.manifest.set_index("id", drop=False)
    role = next(c.removesuffix(".shard") for c in rows.columns if c.endswith(".shard"))
    shown = [(rows.loc[pair["a"]], rows.loc[pair["b"]], pair) for pair in pairs.to_dict("records")]
    return heatmap_sheet(
        [(dataset.image(a, role), dataset.image(b, role)) for a, b, _ in shown],
        [f"{p['a']}: {p['a_label']}\n{p['b']}: {p['b_label']}\n{p['kind']} duplicate" for _, _, p in shown],
        title="One image, two labels",
    )
