"""The page, by real clicks in a real browser: what a clinician sees, types and downloads.

Skipped where there is no Chromium (set DERM_CHROMIUM to its path if it is not on the PATH).
"""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from derm_ml.synthetic.faces import draw_face

PHONE = {"width": 390, "height": 844}


@pytest.fixture(scope="module")
def lesions(indexed, served) -> Iterator[str]:
    with served("lesion_classification", indexed, "page_lesions") as address:
        yield address


@pytest.fixture
def open_page(browser) -> Iterator[Callable]:
    """Opens an address; at the end nothing was asked of another server, and nothing was blocked or failed."""
    contexts, wrong = [], []

    def opened(address: str, ready: bool = True, **settings):
        context = browser.new_context(viewport=settings.pop("viewport", {"width": 1280, "height": 900}), **settings)
        contexts.append(context)
        page = context.new_page()
        page.on("pageerror", lambda error: wrong.append(str(error)))
        page.on("console", lambda said: wrong.append(said.text) if "Content Security Policy" in said.text else None)
        inside = (address, f"blob:{address}", "data:")
        page.on("request", lambda asked: None if asked.url.startswith(inside) else wrong.append(asked.url))
        page.goto(address)
        if ready:
            page.wait_for_selector("#question:not([hidden])")
        return page

    yield opened
    for context in contexts:
        context.close()
    assert not wrong


@pytest.fixture(scope="module")
def photos(tmp_path_factory, picture) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("photos")
    made = {"one": picture, "two": picture[:, ::-1], "=three": 255 - picture}
    for name, rgb in made.items():
        Image.fromarray(np.ascontiguousarray(rgb)).save(folder / f"{name}.png")
    (folder / "broken.jpg").write_bytes(b"no image")
    return {path.stem: path for path in folder.iterdir()}


def analysed(page) -> None:
    page.click("#analyse")
    page.wait_for_selector("#result:not([hidden])")


def test_one_image_is_answered_as_by_the_api_with_heatmap_evidence_and_neighbours(open_page, lesions, photos):
    page = open_page(lesions)
    page.set_input_files("#file-image", photos["one"])
    analysed(page)
    said = page.request.post(
        f"{lesions}predict", data=photos["one"].read_bytes(), headers={"Content-Type": "image/png"}
    )
    answer = said.json()
    assert page.inner_text(".headline").lower() == answer["predicted"].replace("_", " ")
    for label, p in answer["probabilities"].items():
        row = page.locator("tr", has_text=label.replace("_", " ").capitalize()).first.inner_text()
        assert f"{100 * p:.1f} %" in row
    evidence = page.inner_text("#result")
    assert "at least 90.0 % with 95 % confidence, n = 40" in evidence
    assert page.locator(".neighbours img").count() == 6
    neighbours = page.locator(".neighbours li").evaluate_all("all => all.map(one => [one.className, one.innerText])")
    for kind, text in neighbours:  # framed where the label is that of the answer
        label, likeness = text.splitlines()[:2]
        assert (kind == "same") is (label.lower() == answer["predicted"].replace("_", " "))
        assert likeness.startswith("similarity 0.") or likeness == "similarity 1.000"
    assert (
        page.evaluate("document.querySelector('.stack canvas').getContext('2d').getImageData(5, 5, 1, 1).data[3]") > 0
    )
    page.focus("#opacity")
    page.keyboard.press("Home")
    assert page.evaluate("document.querySelector('.stack canvas').style.opacity") == "0"
    with page.expect_response("**/explain?**label=nevus**"):
        page.select_option("#heatmap-label", "nevus")
    page.locator("figcaption", has_text="Nevus").wait_for()
    about = page.inner_text("#about")
    for fact in (answer["model_version"], answer["dataset_md5"], "synthetic", "licences of the training images"):
        assert fact.lower() in about.lower()
    assert "Research use only" in page.inner_text(".banner")
    assert "age, sex" in page.inner_text("#unused"), "a model without them must not seem to count them"


def test_several_images_become_a_table_and_a_csv_in_their_order(open_page, lesions, photos, tmp_path):
    page = open_page(lesions)
    page.set_input_files("#file-image", [photos[name] for name in ("two", "broken", "=three")])
    analysed(page)
    assert "2 images answered, 1 refused" in page.inner_text("#result")
    assert "Refused: the file is not a known image format" in page.inner_text("tr:has-text('broken.jpg')")
    with page.expect_download() as saved:
        page.click("text=Download CSV")
    saved.value.save_as(tmp_path / "derm.csv")
    with (tmp_path / "derm.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [row["file"] for row in rows] == ["two.png", "broken.jpg", "'=three.png"]
    assert rows[0]["predicted"]
    assert 0 <= float(rows[0]["probabilities.melanoma"]) <= 1
    assert rows[1]["error"]


def test_why_the_model_abstains_stands_in_the_table_too(open_page, lesions):
    page = open_page(lesions)
    said = page.evaluate(
        """async () => {
            const { batchNodes } = await import("./page/table.js");
            const answer = { abstained: true, abstained_because: "the image is too dark", predicted: null };
            const nodes = batchNodes([new File([], "night.png")], [{ number: 0, status: 200, answer }], "");
            return nodes.map((node) => node.textContent).join(" ");
        }"""
    )
    assert "No answer: the image is too dark" in said
    assert "From 1 of those answered the model abstains" in said


def test_what_the_browser_cannot_show_is_answered_and_drawn_by_the_service(
    open_page, lesions, picture, as_dicom, tmp_path
):
    (tmp_path / "jane_doe.dcm").write_bytes(as_dicom(picture))
    page = open_page(lesions)
    assert ".dcm" in page.get_attribute("#file-image", "accept")
    page.set_input_files("#file-image", tmp_path / "jane_doe.dcm")
    analysed(page)
    page.wait_for_function("document.querySelector('#result .drawn').naturalWidth > 0")
    assert "Drawn by the service" in page.inner_text("#result")


def test_a_refusal_is_said_in_words_and_the_next_image_is_answered(open_page, lesions, photos):
    page = open_page(lesions)
    page.set_input_files("#file-image", photos["broken"])
    page.click("#analyse")
    page.wait_for_selector("#alert:not([hidden])")
    assert "JPEG" in page.inner_text("#alert")
    page.set_input_files("#file-image", photos["one"])
    analysed(page)
    assert page.is_hidden("#alert")


def test_how_often_the_labels_occur_is_filled_in_and_the_answer_corrected_beside_the_other(
    open_page, lesions, photos, axe, tmp_path
):
    """A clinician writes percentages; nobody there knows how an option of the API is spelled."""
    page = open_page(lesions)
    page.set_input_files("#file-image", photos["one"])
    page.get_by_label("Melanoma", exact=True).fill("1")
    page.click("#analyse")
    page.wait_for_selector("#alert:not([hidden])")
    assert "empty: Nevus, Seborrheic keratosis" in page.inner_text("#alert")
    page.get_by_label("Nevus", exact=True).fill("85")
    page.get_by_label("Seborrheic keratosis", exact=True).fill("4")
    page.click("#analyse")
    page.locator("#alert", has_text="90.0 %").wait_for()
    page.get_by_label("Seborrheic keratosis", exact=True).fill("14")
    page.get_by_label("Name the classes that cannot be ruled out").check()
    analysed(page)
    query = "prevalence=melanoma:0.01,nevus:0.85,seborrheic_keratosis:0.14&sets=yes"
    raw = {"Content-Type": "image/png"}
    said = page.request.post(f"{lesions}predict?{query}", data=photos["one"].read_bytes(), headers=raw)
    answer = said.json()
    table = page.locator("table", has_text="Corrected for how often the labels occur here")
    for label, p in answer["at_prevalence"]["probabilities"].items():
        row = table.locator("tr", has_text=label.replace("_", " ").capitalize()).inner_text().split("\t")
        assert row[1:3] == [f"{100 * p:.1f} %", f"{100 * answer['probabilities'][label]:.1f} %"]
    assert table.locator("tr", has_text="Melanoma").inner_text().split("\t")[3:] == ["1.0 %", "30.0 %"]
    assert page.inner_text(".headline").lower() == answer["predicted"].replace("_", " ")
    shown = page.inner_text(".set").lower()
    assert [name for name in answer["probabilities"] if name.replace("_", " ") in shown] == (
        answer["prediction_set"]["classes"]
    )
    assert not axe(page)
    page.set_input_files("#file-image", [photos["one"], photos["two"]])
    analysed(page)
    with page.expect_download() as saved:
        page.click("text=Download CSV")
    saved.value.save_as(tmp_path / "derm.csv")
    with (tmp_path / "derm.csv").open(newline="", encoding="utf-8") as file:
        (first, _) = csv.DictReader(file)
    assert float(first["at_prevalence.prevalence.melanoma"]) == 0.01
    there = answer["at_prevalence"]["probabilities"]["melanoma"]
    assert float(first["at_prevalence.probabilities.melanoma"]) == pytest.approx(there)
    assert first["prediction_set.classes"] == " + ".join(answer["prediction_set"]["classes"])


def test_the_page_shows_what_the_service_is_set_to(open_page, served, bundle, photos, monkeypatch):
    monkeypatch.setenv("DERM_PREVALENCE", "melanoma:0.01,nevus:0.89,seborrheic_keratosis:0.1")
    with served("lesion_classification", bundle, "page_set") as address:
        page = open_page(address)
        assert page.get_by_label("Nevus", exact=True).input_value() == "89"
        assert "This service is set to the values shown" in page.inner_text(".shares")
        page.set_input_files("#file-image", photos["one"])
        analysed(page)
        assert "Corrected for how often the labels occur here" in page.inner_text("#result")


def test_images_are_dropped_and_pasted(open_page, lesions, photos):
    page = open_page(lesions)
    file = "new File([new Uint8Array(bytes)], 'photo.png', {type: 'image/png'})"
    transfer = f"bytes => {{ const t = new DataTransfer(); t.items.add({file}); return t; }}"
    handle = page.evaluate_handle(transfer, list(photos["one"].read_bytes()))
    page.dispatch_event(".slot", "drop", {"dataTransfer": handle})
    page.wait_for_selector(".slot img")
    page.click("#clear")
    assert page.locator(".slot img").count() == 0
    page.evaluate("t => document.dispatchEvent(new ClipboardEvent('paste', {clipboardData: t}))", handle)
    page.wait_for_selector(".slot img")
    analysed(page)


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("viewport", [{"width": 1280, "height": 900}, PHONE], ids=["desk", "phone"])
def test_it_is_accessible_and_fits_a_phone(open_page, lesions, photos, axe, scheme, viewport):
    page = open_page(lesions, viewport=viewport, color_scheme=scheme)
    assert not axe(page)
    page.set_input_files("#file-image", photos["one"])
    analysed(page)
    assert not axe(page)
    assert page.evaluate("document.documentElement.scrollWidth <= document.documentElement.clientWidth")
    page.goto(f"{lesions}docs")
    assert not axe(page)


def test_the_keyboard_alone_is_enough(open_page, lesions, photos):
    page = open_page(lesions)
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.className") == "skip"
    page.set_input_files("#file-image", photos["one"])  # the dialogue of files is the system's own
    for _ in range(12):
        if page.evaluate("document.activeElement.id") == "analyse":
            break
        page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    page.wait_for_selector("#result:not([hidden])")
    assert page.evaluate("document.activeElement.id") == "result", "a screen reader goes on with the result"


def test_a_service_with_a_token_asks_for_it_and_shows_nothing_before(open_page, served, bundle, photos, monkeypatch):
    token = "a token of at least thirty-two characters"
    monkeypatch.setenv("DERM_TOKEN", token)
    with served("lesion_classification", bundle, "page_token") as address:
        page = open_page(address, ready=False)
        page.wait_for_selector("#token")
        assert "melanoma" not in page.content().lower()
        for typed in ("wrong", token):
            page.fill("#token", typed)
            page.click("text=Use this token")
        page.wait_for_selector("#question:not([hidden])")
        page.set_input_files("#file-image", photos["one"])
        analysed(page)


def test_without_a_model_it_says_so(open_page, served):
    with served("lesion_classification", None, "page_unready") as address:
        page = open_page(address, ready=False)
        page.wait_for_selector("#alert:not([hidden])")
        assert "No verified model" in page.inner_text("#alert")
        assert page.is_hidden("#question")


def test_both_eyes_are_one_question(open_page, served, write_bundle, photos, tmp_path):
    path = write_bundle(tmp_path / "bundle", task="retinal_findings", fellow=(0.3, 0.2, 0.0))
    with served("retinal_findings", path, "page_eyes") as address:
        page = open_page(address)
        page.set_input_files("#file-image", photos["one"])
        page.set_input_files("#file-second", photos["two"])
        page.evaluate(
            """() => {
                const real = window.fetch;
                window.sent = [];
                window.fetch = (path, options) => {
                    window.sent.push(...[...(options.body ?? [])].map(([, part]) => part.name));
                    return real(path, options);
                };
            }"""
        )
        analysed(page)
        assert page.evaluate("window.sent") == ["first", "second"], "a file's own name is often a patient's"
        assert "30 %" in page.inner_text("tr:has-text('Melanoma')")


def test_two_visits_are_matched_by_boxes_that_are_drawn(open_page, served, write_pair_bundle, axe, tmp_path):
    """One box with the mouse, one with the keyboard: the lines are the matches of the answer."""
    for name in ("first", "second"):
        Image.fromarray(draw_face(2)).save(tmp_path / f"{name}.png")
    with served("persistent_conditions", write_pair_bundle(tmp_path / "bundle"), "page_visits") as address:
        page = open_page(address)
        for name in ("first", "second"):
            page.set_input_files(f"#file-{name}", tmp_path / f"{name}.png")
            page.wait_for_selector(f".slot:has(#file-{name}) canvas")
            canvas = page.locator(f".slot:has(#file-{name}) canvas")
            canvas.scroll_into_view_if_needed()
            box = canvas.bounding_box()
            page.mouse.move(box["x"] + 0.4 * box["width"], box["y"] + 0.4 * box["height"])
            page.mouse.down()
            page.mouse.move(box["x"] + 0.46 * box["width"], box["y"] + 0.45 * box["height"], steps=3)
            page.mouse.up()
        page.locator(".slot:has(#file-second) >> text=Add a box").click()
        page.keyboard.press("ArrowUp")
        with page.expect_response("**/explain") as answered:
            analysed(page)
        answer = answered.value.json()["answer"]
        assert answer["accepted"], answer["reason"]
        assert [len(answer[side]) for side in ("first", "second")] == [1, 2]
        edge = page.locator(".slot:has(#file-second) li:nth-child(2) input").first.input_value()
        assert int(edge) == round(0.45 * draw_face(2).shape[1]) + 1
        table = page.inner_text("#result table")
        for side in ("first", "second"):
            for state in answer[side]:
                assert state["state"].replace("_", " ").capitalize() in table
        assert answer["matches"]
        assert f"{len(answer['matches'])} matches" in page.get_attribute(".drawn", "aria-label")
        assert not axe(page)
