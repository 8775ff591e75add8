"""The map in a browser: images are compared by a click or by the keyboard, and it shows which the model has learned."""

from __future__ import annotations

import re

import pytest

from derm_ml.embeddings.map import render_map, tsne_positions

pytestmark = pytest.mark.slow  # drives a browser


@pytest.fixture(scope="module")
def address(table, drawn_dataset, tmp_path_factory) -> str:
    path = tmp_path_factory.mktemp("map") / "map.html"
    lines = {"Recipe": "drawn", "Training time": "12 s"}
    path.write_text(render_map(table, tsne_positions(table), drawn_dataset, "Map", lines, True), encoding="utf-8")
    return path.as_uri()


@pytest.fixture
def open_map(browser, address):
    contexts = []

    def opened(fragment: str = "", width: int = 1280, scheme: str = "light"):
        context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme, bypass_csp=True)
        contexts.append(context)
        page = context.new_page()
        page.said = []
        page.on("console", lambda message: page.said.append(message.text))
        page.on("pageerror", lambda error: page.said.append(str(error)))
        page.goto(f"{address}#{fragment}")
        return page

    yield opened
    for context in contexts:
        context.close()


def at(page, id_: str) -> dict[str, float]:
    """Where a point is drawn on the map."""
    x, y = page.evaluate("id => place(points.find(p => p.id === id))", id_)
    return {"x": x, "y": y}


def pins(page) -> list[str]:
    return page.locator("#pinned img").evaluate_all("all => all.map(one => one.alt)")


def alone(page, n: int) -> list[str]:
    """Points that are drawn on top where they lie: a click there means them."""
    return page.evaluate("n => points.filter(p => nearest(...place(p)) === p).slice(0, n).map(p => p.id)", n)


def test_a_click_pins_an_image_and_a_second_compares_them(open_map, table):
    page = open_map()
    label = dict(zip(table["id"], table["label"], strict=True))
    found = alone(page, 200)
    first = found[0]
    other = next(name for name in found if label[name] != label[first])
    page.click("#map", position=at(page, first))
    assert pins(page) == [first]
    assert "Pin another" in page.inner_text("#told")
    page.click("#map", position=at(page, other))
    assert pins(page) == [first, other]
    assert page.inner_text("#told").startswith("Different labels: ")
    assert f"label: {label[other].replace('_', ' ')}" in page.inner_text("#pinned")
    page.click("#map", position=at(page, first))  # again: it is taken off
    assert pins(page) == [other]
    page.get_by_role("button", name=f"Take off {other}").click()
    assert pins(page) == []
    before = at(page, first)
    box = page.locator("#map").bounding_box()
    page.mouse.move(box["x"] + 200, box["y"] + 200)
    page.mouse.down()
    page.mouse.move(box["x"] + 260, box["y"] + 240, steps=4)
    page.mouse.up()
    assert pins(page) == []  # dragging is no click
    assert at(page, first)["x"] == pytest.approx(before["x"] + 60)
    assert page.said == []


def test_everything_works_by_keyboard(open_map):
    page = open_map()
    page.focus("#map")
    page.keyboard.press("ArrowRight")
    first = page.get_attribute("#card img", "alt")
    x = at(page, first)["x"]
    page.keyboard.press("Enter")
    page.keyboard.press("ArrowLeft")
    second = page.get_attribute("#card img", "alt")
    assert at(page, second)["x"] < x
    page.keyboard.press("Enter")
    assert pins(page) == [first, second]
    apart = abs(at(page, first)["x"] - at(page, second)["x"])
    page.keyboard.press("+")
    assert abs(at(page, first)["x"] - at(page, second)["x"]) == pytest.approx(1.4 * apart)
    page.keyboard.press("0")
    assert abs(at(page, first)["x"] - at(page, second)["x"]) == pytest.approx(apart)
    page.keyboard.press("Escape")
    assert not page.is_visible("#card")
    page.keyboard.press("Escape")
    assert pins(page) == []
    assert page.said == []


def test_shapes_tell_the_splits_and_training_images_are_marked(open_map, table):
    page = open_map()
    for split, n in table["split"].value_counts().items():
        words = f"{split}, learned from ({n})" if split == "train" else f"{split} ({n})"
        assert page.get_by_role("button", name=words, exact=True).is_visible()
    shapes = page.evaluate("Object.fromEntries(points.map(p => [p.split, shapeOf(p)]))")
    assert len(set(shapes.values())) == table["split"].nunique()
    trained = next(row for row in table.to_dict("records") if row["split"] == "train")
    page = open_map(f"id={trained['id']}")
    assert "train: the model learned from it" in page.inner_text("#card")
    page.get_by_role("button", name=re.compile("learned from")).click()
    assert page.evaluate("document.body.dataset.drawn") == str(int((table["split"] != "train").sum()))


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 390])
def test_it_fits_says_where_it_comes_from_and_axe_finds_nothing_serious(open_map, axe, table, width, scheme):
    page = open_map(f"pin={table['id'].iloc[0]},{table['id'].iloc[1]}&id={table['id'].iloc[2]}", width, scheme)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert len(pins(page)) == 2
    page.click("summary")
    assert "12 s" in page.inner_text("details")
    assert page.get_by_text("Synthetic images: these results").is_visible()
    assert not axe(page)
    assert page.said == []
