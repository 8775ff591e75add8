"""Figures: PNG, small enough for Dagster, the same for the same data, and there even when there is nothing to draw."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from derm_ml.asking.pair import Pair
from derm_ml.explain.matches import side_by_side
from derm_ml.explain.panels import captioned
from derm_ml.figures.charts import class_balance_figure, confusion_figure, reliability_figure, training_curves
from derm_ml.figures.curves import precision_recall_figure, roc_figure, score_histogram
from derm_ml.figures.sheets import LIMIT, Sheet
from derm_ml.figures.style import blank
from derm_ml.metrics.metric import Metric

pytestmark = pytest.mark.slow  # computes for long

LABELS = ("melanoma", "nevus")


def drawn(n: int = 80) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    y = (rng.random((n, 2)) < 0.4).astype(float)
    return np.clip(rng.random((n, 2)) * 0.6 + 0.4 * y, 0, 1), y


def report(epoch: int, **metrics: float) -> dict:
    return {
        "epoch": epoch, "epochs": 3, "train_loss": 1 / epoch, "metrics": metrics, "learning_rate": 1e-3 / epoch,
        "seconds": 1.0, "images_per_second": 10.0, "best": epoch == 2,
    }  # fmt: skip


def all_figures() -> dict[str, bytes]:
    p, y = drawn()
    return {
        "roc": roc_figure(p, y, LABELS, np.arange(80), {"melanoma": Metric(0.8, 0.7, 0.9, 80)}),
        "precision_recall": precision_recall_figure(p, y, LABELS),
        "histogram": score_histogram(p, y, LABELS, {"melanoma": {"recall_0.9": 0.3}}),
        "reliability": reliability_figure(p, y, LABELS),
        "confusion": confusion_figure(np.array([[3, 1], [0, 0]]), LABELS),
        "balance": class_balance_figure({"train": {"melanoma": 3, "nevus": 0}, "test": {"nevus": 2}, "validation": {}}),
        "training": training_curves([report(e, auc_mean=0.5 + e / 10, loss=1 / e) for e in (1, 2, 3)]),
        "terms": training_curves([report(e, aligned=e / 3, loss_first=1 / e, loss_latent=0.1 / e) for e in (1, 2, 3)]),
    }


def test_every_figure_is_a_small_png_and_the_same_again():
    first, second = all_figures(), all_figures()
    for name, png in first.items():
        assert Image.open(io.BytesIO(png)).format == "PNG"
        assert len(png) < LIMIT, name
        assert png == second[name], name


@pytest.mark.parametrize("target", [0.0, 1.0, np.nan])
def test_a_missing_class_gives_a_picture_that_says_so_instead_of_a_crash(target):
    p, y = drawn()
    y[:, 0] = target
    only = p[:, :1], y[:, :1], LABELS[:1]
    for png in (
        roc_figure(*only, np.arange(80)),
        precision_recall_figure(*only),
        reliability_figure(*only),
        score_histogram(*only),
        roc_figure(p, y, LABELS, np.zeros(80)),
    ):
        assert png.startswith(b"\x89PNG")


def test_nothing_yet_is_a_picture_too():
    for png in (training_curves([]), class_balance_figure({}), Sheet([], []).png, blank("nothing")):
        assert png.startswith(b"\x89PNG")
    sizes = [Image.open(io.BytesIO(all_figures()[name])).width for name in ("terms", "training")]
    assert sizes[0] > 1.4 * sizes[1]  # a term ten times smaller than another is a flat line beside it
    assert training_curves([report(1)]).startswith(b"\x89PNG")  # one epoch, no validation figures


def test_a_figure_leaves_the_global_style_alone():
    import matplotlib

    before = dict(matplotlib.rcParams)
    roc_figure(*drawn(), LABELS, np.arange(80))
    assert dict(matplotlib.rcParams) == before


def test_a_frame_lies_round_the_pictures_it_is_asked_for():
    grey = np.full((40, 40, 3), 120, np.uint8)
    sheet = Image.open(io.BytesIO(Sheet([[grey], [grey]], ["a", "b"], tile=100, framed=[1]).png)).convert("RGB")
    pixels = np.asarray(sheet).astype(int)
    green = (pixels[..., 1] > pixels[..., 0] + 60).any(axis=0)
    assert green[: sheet.width // 2].sum() == 0
    assert green[sheet.width // 2 :].sum() > 90


def test_contact_sheet_keeps_colours_and_shapes():
    """A sheet is looked at for what pictures show: a red square must stay red and square."""
    red, wide = np.zeros((50, 50, 3), np.uint8), np.zeros((20, 80, 3), np.uint8)
    red[..., 0], wide[..., 2] = 200, 180
    sheet = np.asarray(Image.open(io.BytesIO(Sheet([[red], [wide]], ["red", "blue"], tile=100).png)).convert("RGB"))
    is_red, is_blue = (sheet == (200, 0, 0)).all(axis=2), (sheet == (0, 0, 180)).all(axis=2)
    assert is_red.sum() == 100 * 100
    assert is_blue.sum() == 100 * 25


def test_a_sheet_of_noisy_photographs_fits_and_its_page_is_white():
    noise = [[np.random.default_rng(k).integers(0, 255, (300, 400, 3), dtype=np.uint8)] for k in range(24)]
    png = Sheet(noise, [f"ISIC_{k:07d}\na long second line that has to be cut short" for k in range(24)]).png
    assert len(png) <= LIMIT
    assert Image.open(io.BytesIO(png)).convert("RGB").getpixel((1, 1)) == (255, 255, 255)


def test_a_pair_stands_side_by_side():
    left, right = np.full((40, 40, 3), 10, np.uint8), np.full((40, 40, 3), 120, np.uint8)
    sheet = np.asarray(Image.open(io.BytesIO(Sheet([(left, right)], ["one"], tile=60).png)).convert("L"))
    columns_left, columns_right = (np.flatnonzero((sheet == v).sum(axis=0) >= 60) for v in (10, 120))
    assert len(columns_left) == len(columns_right) == 60
    assert columns_left.max() < columns_right.min()


@pytest.mark.parametrize("shape", [(1, 1024), (1024, 1), (1, 1), (3000, 4000)])
def test_a_pair_of_any_shape_stays_a_picture_for_eyes(shape):
    """A kilobyte of upload (a photo one pixel high) must not become a canvas of gigabytes."""
    photo = np.zeros((*shape, 3), np.uint8)
    shown = captioned(side_by_side(Pair(photo, photo), (), ((), ())), "research use only")
    assert shown.nbytes < 20e6
    assert shown.shape[1] <= 2 * 1280 + 12


def test_captions_and_pictures_must_match_and_too_many_are_refused():
    with pytest.raises(ValueError, match="1 images have 2 captions"):
        Sheet([[np.zeros((4, 4, 3), np.uint8)]], ["a", "b"])
    noise = np.random.default_rng(0).integers(0, 255, (150, 48, 48, 3), dtype=np.uint8)
    with pytest.raises(ValueError, match="show fewer"):
        _ = Sheet([[image] for image in noise], [str(k) for k in range(150)], tile=48).png
