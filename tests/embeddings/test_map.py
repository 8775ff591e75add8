"""The map: every image is on it under its name, and the page works in a browser that has no network."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import numpy as np
import pytest

from derm_ml import RESEARCH_USE
from derm_ml.embeddings.map import render_map, tsne_positions

pytestmark = pytest.mark.slow  # computes for long


@pytest.fixture(scope="module")
def points(table) -> np.ndarray:
    return tsne_positions(table)


@pytest.fixture(scope="module")
def page(table, points, drawn_dataset, tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("map") / "map.html"
    odd = table.assign(source="</script><script>document.title='broken'</script>")
    path.write_text(render_map(odd, points, drawn_dataset, "Embedding map"), encoding="utf-8")
    return path


def test_the_map_is_the_same_each_time_and_keeps_neighbours(table, points):
    np.testing.assert_array_equal(points, tsne_positions(table))
    labels = table["label"].to_numpy()
    nearest = np.argsort(((points[:, None] - points) ** 2).sum(axis=2), axis=1)[:, 1]
    assert (labels[nearest] == labels).mean() > 0.9


def test_too_few_images_say_so(table):
    with pytest.raises(ValueError, match="needs four"):
        tsne_positions(table.head(3))


def test_the_page_needs_nothing_from_outside(page):
    """No address at all: neither a library, nor a font, nor a picture is fetched."""
    text = page.read_text()
    assert not re.search(
        r"(https?:)?//[a-z0-9.-]+\.[a-z]{2,}|@import|<link|src=[\"'](?!data:)", re.sub(r'"jpeg":"[^"]*"', "", text)
    )
    assert RESEARCH_USE in text


def browse(chromium: str, page: Path, fragment: str, tmp_path: Path, *options: str) -> str:
    """The document after its script has run, in a browser whose every name lookup fails."""
    command = [
        chromium, "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking",
        f"--user-data-dir={tmp_path / 'profile'}", "--host-resolver-rules=MAP * ~NOTFOUND", "--window-size=1000,800",
        "--virtual-time-budget=10000", *options, "--dump-dom", f"{page.as_uri()}#{fragment}",
    ]  # fmt: skip
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=True).stdout


def test_in_a_browser_a_point_shows_its_picture_and_facts(chromium, page, table, tmp_path):
    row = table.iloc[3]
    shown = browse(chromium, page, f"colour=label&id={row['id']}", tmp_path)
    assert f'data-drawn="{len(table)}"' in shown
    [card] = re.findall(r'<div id="card".*?</div></div>', shown, re.DOTALL)
    assert "display: flex" in card
    assert f'alt="{row["id"]}"' in card
    assert 'src="data:image/jpeg;base64,' in card
    assert f"label: {row['label'].replace('_', ' ')}" in card
    assert f"predicted: {row['predicted'].replace('_', ' ')} 75 %" in card
    assert row["split"] in card
    for label, n in table["label"].value_counts().items():
        assert f"{label.replace('_', ' ')} ({n})" in shown
    assert "<title>Embedding map</title>" in shown  # a name cannot break out of the data


def test_in_a_browser_the_colour_says_what_the_model_got_wrong(chromium, page, table, tmp_path):
    shown = browse(chromium, page, "colour=error", tmp_path)
    wrong = int((table["label"] != table["predicted"]).sum())
    assert f"wrong ({wrong})" in shown
    assert f"right ({len(table) - wrong})" in shown
