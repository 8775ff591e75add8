"""The embedding map: t-SNE of all images as a picture and as one HTML page that works without a network.

    points = project(table)                                  # (N, 2), always the same for the same table
    page = render_map(table, points, dataset, "Map")         # point at an image to see it, click to pin and compare it

t-SNE (van der Maaten & Hinton 2008) keeps neighbours together; distances between clusters and their sizes mean
nothing. It is a picture, not a measure: embeddings/quality.py has the numbers. scikit-learn's Barnes-Hut version on 50
principal components, started from the first two of them (Kobak & Berens 2019), seed fixed.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pandas as pd

from derm_ml.data.dataset import Dataset
from derm_ml.embeddings.extract import unit, vectors
from derm_ml.images.thumbnail import thumbnail
from derm_ml.pages.page import template

MOST = 12_000  # points of one map: t-SNE of more takes long, a page of more than 40 MB opens slowly
COMPONENTS = 50  # principal components: what is behind them is noise to the neighbourhoods, and slow
PERPLEXITY = 30.0
SIDES = ((1_500, 160), (4_000, 112), (MOST, 72))  # images up to, pixels of a thumbnail: pages of some 10 to 25 MB


def drawn_rows(table: pd.DataFrame) -> pd.DataFrame:
    """At most `MOST` rows of an embedding table, evenly spaced."""
    if len(table) <= MOST:
        return table.reset_index(drop=True)
    return table.iloc[np.linspace(0, len(table) - 1, MOST).astype(int)].reset_index(drop=True)


def tsne_positions(table: pd.DataFrame, seed: int = 0) -> np.ndarray:
    """(N, 2) float32 positions of the rows by t-SNE. Raises `ValueError` for fewer than four images."""
    from sklearn.decomposition import PCA
    from sklearn.manifold import TSNE

    if len(table) < 4:
        raise ValueError(f"a map of {len(table)} images shows nothing: it needs four")
    x = unit(vectors(table))
    reduced = PCA(min(COMPONENTS, *x.shape), random_state=seed).fit_transform(x)
    perplexity = min(PERPLEXITY, (len(x) - 1) / 3)
    return TSNE(2, perplexity=perplexity, init="pca", random_state=seed, n_jobs=-1).fit_transform(reduced)


def render_map(
    table: pd.DataFrame,
    points: np.ndarray,
    dataset: Dataset,
    title: str,
    lines: Mapping[str, str] | None = None,
    synthetic: bool = False,
    progress: Callable[[int], None] | None = None,
) -> str:
    """One self-contained HTML document; `points` (N, 2) belong to the rows of `table`.

    `lines` say where it comes from, beside model and data; `synthetic`: the model was trained on synthetic images.
    """
    side = next(side for most, side in SIDES if len(table) <= most or most == MOST)
    rows = dataset.manifest.set_index("id").loc[table["id"]].reset_index().to_dict("records")
    low, high = points.min(axis=0), points.max(axis=0)
    places = 0.5 + (points - (low + high) / 2) / max(float((high - low).max()), 1e-9)
    items: list[dict[str, Any]] = []
    for row, facts, place in zip(rows, table.to_dict("records"), places, strict=True):
        item: dict[str, Any] = {name: str(facts[name]) for name in ("id", "label", "split", "source")}
        if "predicted" in facts:
            item["predicted"] = str(facts["predicted"])
            item["probability"] = round(float(facts[f"p.{facts['predicted']}"]), 4)
            item["error"] = "right" if facts["predicted"] == facts["label"] else "wrong"
        jpeg = base64.b64encode(thumbnail(dataset.image(row), side)).decode("ascii")
        items.append({**item, "x": round(float(place[0]), 4), "y": round(float(place[1]), 4), "jpeg": jpeg})
        if progress:
            progress(1)
    about = {"Model version": str(table["model_version"].iloc[0]), "Dataset md5": str(table["dataset_md5"].iloc[0])}
    return template("derm_ml.embeddings", "map.html.j2").render(
        title=title,
        lines={**about, **(lines or {})},
        synthetic=synthetic,
        colours=[name for name in ("label", "split", "source", "error") if name in items[0]],
        labels=_json(dataset.labels),
        points=_json(items),
    )


def _json(values: Any) -> str:
    """As a script holds it: a label such as </script> must not end the script it stands in."""
    return json.dumps(values, separators=(",", ":")).replace("<", "\\u003c")
