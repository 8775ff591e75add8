"""`derm prepare` says what became of what, and ends with an error where nothing may be trained on the result."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from derm_ml.data.dataset import Dataset
from derm_ml.places import PROJECT
from derm_ml.registry import get_task
from derm_ml.synthetic.lesions import draw_lesion

pytestmark = pytest.mark.slow  # computes for long

KINDS = ("melanoma", "nevus", "seborrheic_keratosis")


def draw(path: Path, seed: int, kind: str = "nevus") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), draw_lesion(kind, seed=seed, side=72, width=96).image[..., ::-1])


@pytest.fixture
def raw(tmp_path) -> Path:
    """Class folders of 8 images a class, one of them split off by its publisher, and HAM10000 beside them."""
    root = tmp_path / "raw"
    for k in range(24):
        draw(root / "own" / KINDS[k % 3] / f"{k}.png", k, KINDS[k % 3])
    rows = ["lesion_id,image_id,dx,dx_type,age,sex,localization"]
    for k, dx in enumerate(("mel", "nv", "bkl", "bcc", "nv", "mel")):
        draw(root / "HAM10000_images_part_1" / f"ISIC_{k:07d}.png", 100 + k)
        rows.append(f"HAM_{k},ISIC_{k:07d},{dx},histo,50,male,back")
    (root / "HAM10000_metadata.csv").write_text("\n".join(rows) + "\n")
    return root


def prepare(derm, raw: Path, task: str = "lesion_classification", *more: object):
    return derm("prepare", task, "--raw", raw, "--out", raw.parent / "prepared", *more)


def settings(folder: Path, task: str, values: str) -> None:
    (folder / "params.yaml").write_text(f"tasks:\n  {task}: {values}\n")


def test_the_account_names_sources_labels_splits_files_columns_and_where_the_settings_come_from(derm, raw, tmp_path):
    (raw / "IMG_1.AAE").write_text("x")
    code, out, said = prepare(derm, raw)
    assert code == 0, said
    assert out.strip() == str(tmp_path / "prepared")
    assert f"settings of {PROJECT / 'params.yaml'}" in said
    lines = [[cell.strip() for cell in line.split("│")[1:-1]] for line in said.splitlines() if line.startswith("│")]
    assert ["source", "read as", "publisher", "label", "train", "validation", "test", "left out"] in [
        [cell.strip() for cell in line.split("┃")[1:-1]] for line in said.splitlines()
    ]
    rows = {
        (row[0], row[2], row[3]): sum(map(int, row[4:7])) for row in lines if row[1] in ("ham10000", "class_folders")
    }
    assert rows[("ham10000", "mel", "melanoma")] == 2
    assert rows[("ham10000", "bcc", "–")] == 0
    assert rows[("own", "nevus", "nevus")] == 8
    assert "HAM10000_metadata.csv: used " in said
    assert "not used dx_type" in said
    assert ["1", "no image", "a sidecar file", "IMG_1.AAE"] in lines
    account = Dataset.open(tmp_path / "prepared").account
    assert account["files"]["read"][""]["files"] == 29
    assert account["files"]["set aside"] == {
        "its label bcc is left out": {"files": 1, "example": "HAM10000_images_part_1/ISIC_0000003.png"}
    }
    settings(tmp_path, "lesion_classification", "{seed: 3}")
    assert f"settings of {tmp_path / 'params.yaml'}: seed 3; all others are defaults" in prepare(derm, raw)[2]


@pytest.mark.parametrize(
    ("task", "values", "named", "there"),
    [
        ("malignancy_screening", "{malignant: [Merkel cell carcinoma]}", "malignant names 'Merkel", "bcc (1)"),
        ("lesion_classification", "{training_only: [HAM10000]}", "training_only names 'HAM10000'", "ham10000 (5)"),
        ("lesion_classification", "{not_read: [olds]}", "not_read names 'olds'", "HAM10000_images_part_1, own"),
        ("lesion_classification", "{labels: {wart: left_out}}", "labels names 'wart'", "bcc (1)"),
    ],
)
def test_a_setting_that_names_nothing_is_an_error_that_says_what_there_is(
    derm, raw, tmp_path, task, values, named, there
):
    """All bcc and akiec became benign because they were called otherwise; every check was green."""
    settings(tmp_path, task, values)
    code, _, said = prepare(derm, raw, task)
    assert code == 2
    assert f"the setting {named}" in said
    assert there in said
    assert not (tmp_path / "prepared").exists()


def test_a_check_that_stops_training_ends_prepare_with_an_error_and_the_dataset_to_look_at(derm, raw, tmp_path):
    for path in (raw / "own" / "nevus").iterdir():
        path.write_bytes(b"\x89PNG torn")
    code, out, said = prepare(derm, raw)
    assert code == 1
    assert "✗ images_decode" in said
    assert "a blocking data check failed" in said
    assert Dataset.open(Path(out.strip())).info["quarantined"] == 8
    assert prepare(derm, raw, "lesion_classification", "--no-checks")[0] == 0  # what Dagster asks for: it checks itself


def test_when_nothing_can_be_used_a_sentence_says_why(derm, raw):
    (raw / "own").rename(raw.parent / "own")
    for path in (raw / "HAM10000_images_part_1").iterdir():
        path.write_bytes(b"torn")
    code, _, said = prepare(derm, raw)
    assert code == 2
    assert "nothing can be used, 5 listed images. The first problem: HAM10000_images_part_1/ISIC_000000" in said
    assert "Problem(" not in said


def test_copies_with_two_labels_are_shown_side_by_side(derm, raw, tmp_path, monkeypatch):
    monkeypatch.setenv("DERM_OUT", str(tmp_path / "out"))
    (raw / "own" / "melanoma" / "copy.png").write_bytes((raw / "own" / "nevus" / "1.png").read_bytes())
    code, _, said = prepare(derm, raw)
    assert code == 0, said
    assert "✗ duplicates_have_one_label: 1 duplicate pair with two labels" in said
    page = tmp_path / "out" / "lesion_classification" / "contradictions.html"
    assert str(page) in said
    shown = page.read_text(encoding="utf-8")
    assert ">left " in shown
    assert shown.count("<img ") == 2
    with Image.open(page.with_suffix(".png")) as sheet:
        assert sheet.width > 200


def test_one_patient_in_several_spellings_is_one_and_that_is_said(derm, tmp_path):
    raw = tmp_path / "raw"
    rows = ["filename,label,patient_id"]
    for k in range(24):
        draw(raw / "images" / f"{k}.png", k, KINDS[k % 3])
        rows.append(f"{k}.png,{'malignant' if k % 2 else 'benign'},{k // 2}{'.0' if k % 2 else ''}")
    (raw / "labels.csv").write_text("\n".join(rows) + "\n")
    code, out, said = prepare(derm, raw, "malignancy_screening")
    assert code in (0, 1), said
    assert "12 patient IDs are written in several ways and taken for one each: 0 as '0' and '0.0'" in said
    assert Dataset.open(Path(out.strip())).info["groups"] == 12


def test_boxes_and_masks_follow_the_frame_they_were_drawn_on(derm, tmp_path):
    """Boxes of a phone's photos were drawn on the sensor's pixels and read as upright ones; every check was green."""
    raw = tmp_path / "raw"
    raw.mkdir()
    exif = Image.Exif()
    exif[0x0112] = 6
    for k in range(6):
        pixels = np.full((60, 80, 3), 128, np.uint8)
        pixels[5:15, 10:30] = 20 * k
        pixels[40:50, :] = draw_lesion("nevus", seed=k, side=60, width=80).image[40:50]
        Image.fromarray(pixels).save(raw / f"f{k}.png", exif=exif)
        size = "<size><width>80</width><height>60</height></size>" if k else ""
        box = "<bndbox><xmin>10</xmin><ymin>5</ymin><xmax>30</xmax><ymax>15</ymax></bndbox>"
        (raw / f"f{k}.xml").write_text(
            f"<annotation><filename>f{k}.png</filename>{size}<object><name>papules</name>{box}</object></annotation>"
        )
    code, out, said = prepare(derm, raw, "persistent_conditions")
    assert code in (0, 1), said
    dataset = Dataset.open(Path(out.strip()))
    assert set(dataset.quarantine["file"]) == {"f0.png"}  # it declares no size
    assert dataset.quarantine["reason"].str.contains("EXIF orientation 6").all()
    for row in dataset.manifest.to_dict("records"):
        ((_, *box),) = [found[:5] for found in json.loads(row["first.regions"])]
        assert box == [45, 10, 55, 30]
        assert (row["first.width"], row["first.height"]) == (60, 80)


def test_a_name_longer_than_an_archive_allows_is_kept(derm, tmp_path):
    raw = tmp_path / "raw"
    for k in range(12):
        draw(raw / KINDS[k % 3] / f"{'ảnh tổn thương ' * 9}{k}.png", k, KINDS[k % 3])
    code, out, said = prepare(derm, raw)
    assert code in (0, 1), said
    assert len(Dataset.open(Path(out.strip())).manifest) == 12


def test_the_account_is_the_same_for_the_same_data(raw, tmp_path):
    from derm_ml.data.prepare import prepare

    task = get_task("lesion_classification")
    made = [prepare(task, raw, task.settings(), tmp_path / name) for name in ("a", "b")]
    assert made[0].md5 == made[1].md5
