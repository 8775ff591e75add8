"""Numbers that say whether classes separate, against their definitions and against chance."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from derm_ml.embeddings.quality import precision_at_k, quality, retrieve


def made(n: int, spread: float, seed: int = 0, dimension: int = 16) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    labels = rng.choice(["melanoma", "nevus"], n, p=[0.25, 0.75])
    centres = {"melanoma": np.eye(dimension)[0], "nevus": np.eye(dimension)[1]}
    found = np.stack([centres[label] for label in labels]) + spread * rng.normal(size=(n, dimension))
    return pd.DataFrame(
        {
            "id": [f"i{k:04}" for k in range(n)],
            "group": [f"g{k // 2}" for k in range(n)],
            "label": labels,
            "split": np.where(np.arange(n) < 0.7 * n // 2 * 2, "train", "test"),
            "embedding": list(found.astype(np.float32)),
        }
    )


def test_alignment_and_uniformity_are_their_formulas():
    """Wang & Isola 2020, section 4.1, written out over pairs."""
    table = made(80, 0.5)
    found = quality(table)
    some = table[table["split"] == "test"]
    x = np.stack(some["embedding"])
    x /= np.linalg.norm(x, axis=1, keepdims=True)
    labels = some["label"].tolist()
    near, even = [], []
    for i in range(len(x)):
        d = [((x[i] - x[j]) ** 2).sum() for j in range(len(x)) if j != i]
        same = [((x[i] - x[j]) ** 2).sum() for j in range(len(x)) if j != i and labels[j] == labels[i]]
        near.append(np.mean(same))
        even.append(np.mean(np.exp(-2 * np.array(d))))
    assert found["alignment"].value == pytest.approx(np.mean(near), abs=1e-5)
    assert found["uniformity"].value == pytest.approx(np.log(np.mean(even)), abs=1e-5)


def test_separate_classes_score_high_and_noise_scores_at_chance():
    good, noise = made(600, 0.05), made(600, 1e3)
    apart, mixed = quality(good), quality(noise)
    assert apart["silhouette"].value > 0.9
    assert apart["precision_at_5"].value == apart["knn_balanced_accuracy"].value == 1
    assert abs(mixed["silhouette"].value) < 0.05
    metric, chance = mixed["precision_at_5_melanoma"], retrieve(noise).chance["melanoma"]
    assert metric.low <= chance <= metric.high
    assert metric.n == (noise["label"][noise["split"] == "test"] == "melanoma").sum()


def test_neighbours_are_training_images_of_other_patients():
    """A patient in both splits would be its own neighbour and lift every figure."""
    table = made(60, 0.3)
    table.loc[table.index[-6:], "group"] = "g0"  # as two training images are
    found = retrieve(table, k=9)
    assert (table["split"].to_numpy()[found.places] == "train").all()
    assert (table["group"].to_numpy()[found.places] != found.groups[:, None]).all()


def test_a_table_without_queries_says_so():
    with pytest.raises(ValueError, match="0 images of test"):
        retrieve(made(20, 0.1).assign(split="train"))


def test_precision_of_a_label_nobody_asks_for_is_undefined_not_zero():
    table = made(60, 0.1)
    table.loc[table["split"] == "test", "label"] = "nevus"
    assert precision_at_k(retrieve(table))["precision_at_5_melanoma"].value is None
