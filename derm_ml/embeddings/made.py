"""The three artifacts of a model's embedding, each made into a folder beside its bundle.

    <model>/embeddings/      embeddings.parquet, quality.json, precision.png
    <model>/embedding_map/   embedding_map.png, embedding_map.html
    <model>/similar_images/  index/, similar_images.png, precision.json

All three start from the predictions kept in the model folder; what is not kept yet is predicted and kept.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path

import pandas as pd

from derm_ml import RESEARCH_USE
from derm_ml.bundles.classifier import Classifier
from derm_ml.data.dataset import Dataset
from derm_ml.embeddings.extract import table_of, unit, vectors, write_embeddings
from derm_ml.embeddings.map import drawn_rows, render_map, tsne_positions
from derm_ml.embeddings.quality import K, precision_at_k, quality, retrieve
from derm_ml.embeddings.similar import SimilarImages, SimilarImagesError, build_similar
from derm_ml.figures.embeddings import map_figure, precision_figure
from derm_ml.figures.sheet_page import Shown, write_sheet
from derm_ml.figures.sheets import Sheet
from derm_ml.files import replacing_file, write_json
from derm_ml.metrics.metric import Metric
from derm_ml.metrics.words import readable
from derm_ml.model_folder import ModelFolder
from derm_ml.provenance import Provenance, rows
from derm_ml.synthetic_mark import is_synthetic, small_print_of

FOLLOWED = (
    f"Each query is followed by its {K} nearest training images; a frame marks those with the label of the query."
)
QUERIES = 2  # of each label on the contact sheet
Progress = Callable[[int], None]


def similar_of(
    predictor: Classifier, dataset: Callable[[], Dataset], folder: ModelFolder, progress: Progress | None = None
) -> SimilarImages:
    """The model's index of similar images; made of `dataset()` if there is none of this model version yet."""
    try:
        return SimilarImages.open(folder.index, predictor.bundle.version)
    except SimilarImagesError:
        data = dataset()
        return build_similar(table_of(predictor, data, folder, progress), data, folder.index)


def make_embeddings(predictor: Classifier, dataset: Dataset, folder: Path) -> Mapping[str, Path]:
    """`embeddings.parquet`, `quality.json` (figures with n and intervals), `precision.png`, `numbers.json`."""
    table = table_of(predictor, dataset, ModelFolder.holding(folder))
    write_embeddings(table, ModelFolder.holding(folder).embeddings)
    found = quality(table)
    chance = retrieve(table).chance
    write_json(folder / "quality.json", {"research_use": RESEARCH_USE, **_plain(found)})
    write_json(folder / "numbers.json", {n: m.value for n, m in found.items() if m.value is not None})
    shown = {"this model": {label: found[f"precision_at_{K}_{label}"] for label in chance}}
    picture = _written(folder / "precision.png", precision_figure(shown, chance, K))
    return {
        "table": ModelFolder.holding(folder).embeddings,
        "quality": folder / "quality.json",
        "precision": picture,
        "numbers": folder / "numbers.json",
    }


def make_map(predictor: Classifier, dataset: Dataset, folder: Path) -> Mapping[str, Path]:
    """`embedding_map.png` and `embedding_map.html`."""
    table = drawn_rows(table_of(predictor, dataset, ModelFolder.holding(folder)))
    points = tsne_positions(table)
    panels = {"Label": table["label"].tolist(), "Split": table["split"].tolist()}
    if "predicted" in table:
        right = (table["predicted"] == table["label"]).tolist()
        panels["Answer of the model"] = ["right" if yes else "wrong" for yes in right]
    picture = _written(folder / "embedding_map.png", map_figure(points, panels, dataset.labels))
    lines = {
        "Recipe": predictor.card.recipe_name,
        **rows(Provenance.of(ModelFolder.holding(folder), dataset.info)),
        "Git commit": predictor.card.git_commit,
    }
    title = f"Embedding map · {dataset.task}"
    page = render_map(table, points, dataset, title, lines, predictor.card.for_synthetic_images)
    return {"embedding_map": picture, "page": _written(folder / "embedding_map.html", page.encode())}


def make_similar(predictor: Classifier, dataset: Dataset, folder: Path) -> Mapping[str, Path]:
    """`index/` (what the service ships), `similar_images.png` and `.html`, `precision.json`, `numbers.json`."""
    table = table_of(predictor, dataset, ModelFolder.holding(folder))
    similar_of(predictor, lambda: dataset, ModelFolder.holding(folder))
    found = retrieve(table)
    precision = precision_at_k(found)
    write_json(
        folder / "precision.json",
        {"research_use": RESEARCH_USE, "chance": found.chance, "precision": _plain(precision)},
    )
    write_json(folder / "numbers.json", {n: m.value for n, m in precision.items() if m.value is not None})
    shown = Shown("Similar images", FOLLOWED, synthetic=is_synthetic(dataset.licences))
    return {
        "index": folder / "index",
        **write_sheet(similar_sheet(table, dataset), folder, "similar_images", shown),
        "precision": folder / "precision.json",
        "numbers": folder / "numbers.json",
    }


def similar_sheet(table: pd.DataFrame, dataset: Dataset) -> Sheet:
    """A row a query: the first test images of each label in the manifest, and their nearest training images, those of
    the query's label in a frame."""
    found = retrieve(table)
    x = unit(vectors(table))
    rows = {row["id"]: row for row in dataset.manifest.to_dict("records")}
    place_of = {name: place for place, name in enumerate(table["id"])}
    images, captions, alike = [], [], []
    asked = [q for label in sorted(set(found.labels)) for q in (found.labels == label).nonzero()[0][:QUERIES]]
    for query in asked:
        name = found.ids[query]
        images.append(dataset.image(rows[name]))
        captions.append(f"{name}\nquery: {readable(str(found.labels[query]))}")
        for place in found.places[query]:
            near = table.iloc[int(place)]
            if near["label"] == found.labels[query]:
                alike.append(len(images))
            images.append(dataset.image(rows[near["id"]]))
            cosine = float(x[place_of[name]] @ x[place])
            captions.append(f"{near['id']}\n{readable(near['label'])}\nsimilarity {cosine:.3f}")
    small_print = small_print_of(is_synthetic(dataset.licences))
    title = f"Query and its {K} nearest training images, framed where the label is the same · {small_print}"
    return Sheet([[image] for image in images], captions, columns=1 + K, title=title, framed=alike)


def _plain(metrics: Mapping[str, Metric]) -> dict[str, dict]:
    return {name: asdict(metric) for name, metric in metrics.items()}


def _written(path: Path, content: bytes) -> Path:
    with replacing_file(path) as temporary:
        temporary.write_bytes(content)
    return path
