"""What is wrong with a set is found, what is right is left alone: measured on sets of which everything is known."""

from __future__ import annotations

import csv
import json
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import average_precision_score

from derm_ml.audit import report
from derm_ml.audit.findings import KINDS, audit
from derm_ml.data.dataset import Dataset
from derm_ml.data.prepare import prepare
from derm_ml.registry import get_task
from derm_ml.synthetic.off_topic import empty, off_topic
from derm_ml.tables import read_table

pytestmark = pytest.mark.slow  # every case audits a few hundred images

NAME = "lesion_classification"
N, FLIPPED, STRANGERS, BLANKS = 240, 12, 10, 5


@dataclass
class Planted:
    """The ids of what was planted, by kind, and the folder of the report."""

    ids: dict[str, set[str]]
    folder: Path
    said: str


@pytest.fixture(scope="module")
def planted(derm) -> Planted:
    """240 synthetic lesions, 5 % of the labels changed, 10 images of something else, 5 blank ones; as the user goes."""
    raw = derm.root / "data/raw" / NAME
    get_task(NAME).draw(raw, N, seed=1)
    images = {path.stem: path for path in sorted(raw.rglob("*.jpg"))}
    chosen = np.random.default_rng(0).permutation(sorted(images))[: FLIPPED + STRANGERS + BLANKS].tolist()
    ids = {
        "label_errors": set(chosen[:FLIPPED]),
        "off_topic": set(chosen[FLIPPED:-BLANKS]),
        "blank": set(chosen[-BLANKS:]),
    }
    for make, kind in ((off_topic, "off_topic"), (empty, "blank")):
        for k, name in enumerate(sorted(ids[kind])):
            cv2.imwrite(str(images[name]), make(k, 144, 192)[..., ::-1])
    for path in raw.glob("*_GroundTruth.csv"):
        rows = list(csv.reader(path.open(newline="")))
        for row in rows[1:]:
            if row[0] in ids["label_errors"]:  # melanoma → nevus → keratosis → melanoma
                row[1:] = {("1.0", "0.0"): [0.0, 0.0], ("0.0", "0.0"): [0.0, 1.0]}.get(tuple(row[1:]), [1.0, 0.0])
        with path.open("w", newline="") as file:
            csv.writer(file).writerows(rows)
    derm("prepare", NAME)
    done = derm("audit", NAME)
    page = Path(done.stdout.strip())
    assert page.is_file()
    return Planted(ids, page.parent, done.stderr)


@pytest.mark.parametrize(
    ("kind", "score"), [("label_errors", "label_error"), ("off_topic", "off_topic"), ("blank", "blank")]
)
def test_what_was_planted_comes_first(planted, kind, score):
    images = read_table(planted.folder / "images.csv", {"id": str})
    ranked = images[score].fillna(-100)
    truth = images["id"].isin(planted.ids[kind])
    assert average_precision_score(truth, ranked) >= 0.8


@pytest.mark.parametrize("kind", ["label_errors", "off_topic", "blank"])
def test_what_is_listed_is_what_was_planted(planted, kind):
    listed = set(read_table(planted.folder / f"{kind}.csv", {"id": str})["id"])
    assert len(listed & planted.ids[kind]) >= 0.5 * len(planted.ids[kind])
    assert len(listed - planted.ids[kind]) <= 1


def test_the_page_says_the_verdict_first_and_shows_each_finding(planted):
    page = (planted.folder / report.REPORT).read_text(encoding="utf-8")
    numbers = json.loads((planted.folder / report.NUMBERS).read_text(encoding="utf-8"))
    assert numbers["verdict"] in planted.said
    assert page.index(numbers["verdict"]) < page.index("<h2")
    assert numbers["numbers"]["blank"] == BLANKS
    assert len(page) < 5e6
    for kind in ("label_errors", "off_topic", "blank"):
        first = read_table(planted.folder / f"{kind}.csv", {"id": str}).iloc[0]
        assert f">{first['id']}</p>" in page  # the caption of its image
        assert first["why"] in page
        assert (planted.folder / f"{kind}.png").read_bytes()[:4] == b"\x89PNG"
    for kind in KINDS:
        assert list(read_table(planted.folder / f"{kind}.csv"))[:7] == [
            "id", "file", "source", "split", "label", "score", "why",
        ]  # fmt: skip


def test_a_reviewed_list_corrects_the_labels_it_names(planted, derm):
    """From the doubt to the corrected dataset: the list of the audit, filled in, is what `derm relabel` reads."""
    review = read_table(planted.folder / report.REVIEW, str).fillna("")
    decided = review.head(3).assign(label=review["suggested"].head(3), remark="seen")
    undecided = review.tail(1)
    listed = planted.folder.parent / "reviewed.csv"
    pd.concat([decided, undecided]).drop_duplicates("id").to_csv(listed, index=False)
    before = Dataset.open(derm.root / "data/prepared" / NAME).manifest.set_index("id")
    derm("relabel", NAME, listed, "--author", "A. Author")
    derm("prepare", NAME)
    after = Dataset.open(derm.root / "data/prepared" / NAME).manifest.set_index("id")
    changed = before.index[before["label"] != after["label"]]
    assert set(changed) == set(decided["id"])
    assert after.loc[decided["id"], "label"].tolist() == decided["suggested"].tolist()


@pytest.mark.parametrize(
    ("name", "seed"), [("lesion_classification", 2), ("retinal_findings", 3), ("malignancy_screening", 4)]
)
def test_a_clean_set_is_left_alone(tmp_path, name, seed):
    """Otherwise nobody looks a second time."""
    task = get_task(name)
    task.draw(tmp_path / "raw", 120, seed)
    dataset = prepare(task, tmp_path / "raw", task.settings(), tmp_path / "prepared")
    found = audit(dataset, task.negative)
    assert found.share < 0.02, found.verdict
    assert not found.suspicious
    assert found.clean


DARK, BLURRED, TINY, COPIES = "ISIC_0000010", "ISIC_0000020", "ISIC_0000030", ["ISIC_0000000", "ISIC_0000001"]


@pytest.fixture(scope="module")
def poor(tmp_path_factory) -> Dataset:
    """Sixty lesions, of which single ones are underexposed, out of focus and too small, and two are one image."""
    folder = tmp_path_factory.mktemp("poor")
    task = get_task(NAME)
    task.draw(folder / "raw", 60, seed=5)
    images = {path.stem: path for path in (folder / "raw").rglob("*.jpg")}
    changes = {
        DARK: lambda image: image // 6,
        BLURRED: lambda image: cv2.GaussianBlur(image, (0, 0), 9),
        TINY: lambda image: cv2.resize(image, (56, 42), interpolation=cv2.INTER_AREA),
    }
    for name, change in changes.items():
        cv2.imwrite(str(images[name]), change(cv2.imread(str(images[name]))))
    images[COPIES[1]].write_bytes(images[COPIES[0]].read_bytes())  # a nevus that shows a melanoma
    return prepare(task, folder / "raw", task.settings(), folder / "prepared")


def test_dark_blurred_and_tiny_images_and_contradictions_are_named_once_each(poor, tmp_path):
    found = audit(poor)
    listed = {kind: sorted(table["id"]) for kind, table in found.findings.items() if len(table)}
    listed.pop("label_errors", None)  # sixty images are few to judge labels by
    assert listed == {"too_dark": [DARK], "blurred": [BLURRED], "too_small": [TINY], "two_labels": COPIES}
    assert "which is nevus" in found.findings["two_labels"]["why"].iloc[0]
    folder = report.save(found, poor, tmp_path / "audit")
    assert set(listed) <= {path.stem for path in folder.glob("*.png")}
    page = (folder / report.REPORT).read_text(encoding="utf-8")
    assert page.count('<h2 id="two_labels">One image, two labels: 2</h2>') == 1
    assert f">{', '.join(COPIES)}</p>" in page
    assert ">left melanoma, right nevus</p>" in page


@pytest.mark.parametrize(("scheme", "width"), [("light", 1280), ("dark", 390)])
def test_the_page_can_be_read_on_a_phone_and_by_everybody(browser, axe, poor, tmp_path, scheme, width):
    context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme)
    page = context.new_page()
    page.goto((report.save(audit(poor), poor, tmp_path / "audit") / report.REPORT).as_uri())
    caption = page.get_by_text("score").last
    assert caption.evaluate("one => parseFloat(getComputedStyle(one).fontSize)") >= 13
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert axe(page) == []
    context.close()


def test_a_name_that_is_markup_stays_a_name(poor, tmp_path):
    """Ids come from other people's files; the page is opened in a browser."""
    found = audit(poor)
    evil = "<img src=x onerror=alert(1)>"
    found.findings["too_dark"]["why"] = evil
    page = (report.save(found, poor, tmp_path / "audit") / report.REPORT).read_text(encoding="utf-8")
    assert evil not in page
    assert "&lt;img src=x" in page


@pytest.mark.parametrize("name", ["lesion_segmentation", "persistent_conditions"])
def test_sets_whose_truth_is_no_label_are_looked_at_too(tmp_path, name):
    task = get_task(name)
    task.draw(tmp_path / "raw", 16, 0)
    dataset = prepare(task, tmp_path / "raw", task.settings(), tmp_path / "prepared")
    found = audit(dataset, task.negative)
    assert set(found.images["id"]) == set(dataset.manifest["id"])
    assert found.findings["label_errors"].empty
    page = report.save(found, dataset, tmp_path / "audit") / report.REPORT
    assert "was judged: no two labels have enough images to be distinguished" in page.read_text(encoding="utf-8")
