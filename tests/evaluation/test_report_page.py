"""The report and the comparison in a real browser: on a phone, in dark mode, and for people who do not see it.

Skipped where there is no Chromium (set DERM_CHROMIUM to its path if it is not on the PATH).
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from derm_ml.evaluation.comparison import compare, read_run
from derm_ml.evaluation.comparison_report import PAGE
from derm_ml.evaluation.comparison_report import save as save_comparison
from derm_ml.evaluation.record import Evaluation
from derm_ml.explain.overlay import overlay
from derm_ml.figures.sheet_page import Shown, write_sheet
from derm_ml.figures.sheets import Sheet
from derm_ml.promotion.report import save_with_verdict
from derm_ml.registry import get_task

pytestmark = pytest.mark.slow  # drives a browser


@pytest.fixture(scope="module")
def report(colour_models, tmp_path_factory) -> Path:
    """The page of a real model, with figures, tables, and checks of all three states."""
    task, evaluation = get_task("lesion_classification"), Evaluation.load(colour_models["good"] / "evaluation_test")
    return save_with_verdict(task, evaluation, tmp_path_factory.mktemp("page") / "evaluation") / "report.html"


@pytest.fixture(scope="module")
def comparison(colour_models, tinted_dataset, tmp_path_factory) -> Path:
    """Two real models with the images they differ on."""
    task = get_task("lesion_classification")
    found = compare([read_run(colour_models[name]) for name in ("weak", "good")], task)
    return save_comparison(found, task, tmp_path_factory.mktemp("page") / "comparison", dataset=tinted_dataset) / PAGE


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 390])
@pytest.mark.parametrize("what", ["report", "comparison"])
def test_nothing_is_cut_off_nothing_is_fetched_and_axe_finds_nothing_serious(
    browser, axe, request, what, scheme, width
):
    """Specificity and the reason for it were cut off at 1280 pixels, and soft grey on white was hard to read."""
    context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme)
    page, said, asked = context.new_page(), [], []
    page.on("console", lambda message: said.append(message.text))
    page.on("request", lambda request: asked.append(request.url[:60]))
    page.goto(request.getfixturevalue(what).as_uri())
    assert page.is_visible("#verdict")
    assert page.locator("#verdict").bounding_box()["y"] < 900  # seen without scrolling
    page.evaluate("document.querySelectorAll('details').forEach(one => one.open = true)")
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    inside = "[...document.querySelectorAll('.card, .checks, #metrics ~ table, #differences ~ table, .cases li')]"
    assert page.evaluate(f"Math.max(...{inside}.map(one => one.getBoundingClientRect().right))") <= width
    page.evaluate("window.scrollTo(0, document.body.scrollHeight / 2)")
    assert page.locator("nav.contents").bounding_box()["y"] == 0  # the contents stay in sight
    assert axe(page) == []
    assert said == []
    assert [url for url in asked if not url.startswith(("data:", "file:"))] == []
    context.close()


@pytest.mark.parametrize(("scheme", "width"), [("light", 1280), ("dark", 390)])
def test_captions_of_a_sheet_of_heatmaps_can_be_read(browser, axe, tmp_path, scheme, width):
    """They were letters of 6 pixels in a picture."""
    image = np.random.default_rng(0).integers(0, 255, (96, 128, 3), np.uint8)
    sheet = Sheet([(image, overlay(image, np.eye(4)))] * 2, ["ISIC_1\nTrue: <nevus>", "ISIC_2\n✗ Predicted: melanoma"])
    made = write_sheet(sheet, tmp_path, "heatmaps", Shown("Heatmaps", "Not hand-picked.", heat=True, synthetic=True))
    context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme)
    page = context.new_page()
    page.goto(made["heatmaps_page"].as_uri())
    caption = page.get_by_text("True: <nevus>")
    assert caption.evaluate("one => parseFloat(getComputedStyle(one).fontSize)") >= 13
    assert page.get_by_alt_text("ISIC_2, ✗ Predicted: melanoma: its heatmap").count() == 1
    assert page.evaluate("document.querySelector('.tiles img').naturalWidth") == 512
    assert page.get_by_text("Synthetic images: these results").is_visible()
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert axe(page) == []
    context.close()


def test_on_paper_folded_tables_are_open(browser, report):
    """Nobody can click on paper."""
    context = browser.new_context()
    page = context.new_page()
    page.goto(report.as_uri())
    folded = page.locator("#tables ~ details table").first
    assert not folded.is_visible()
    page.emulate_media(media="print")
    assert folded.bounding_box()["height"] > 0
    assert not page.is_visible("nav.contents")
    context.close()
