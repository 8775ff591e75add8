"""`derm inspect` says what a folder is and what is in the way, and leaves it as it was."""

from __future__ import annotations

from pathlib import Path

import pytest

from derm_ml.registry import get_task
from derm_ml.tree import folder_md5

pytestmark = pytest.mark.slow  # computes for long


@pytest.mark.parametrize(
    ("task", "layout"),
    [
        ("lesion_classification", "isic2017"),
        ("retinal_findings", "findings_table"),
        ("persistent_conditions", "visits"),
        ("lesion_segmentation", "image_and_mask_folders"),
    ],
)
def test_it_names_the_layout_and_the_tasks_and_why_the_others_cannot(derm, tmp_path, task, layout):
    raw = tmp_path / "raw"
    get_task(task).draw(raw, 12)
    before = folder_md5(raw)
    code, out, _ = derm("inspect", raw)
    assert code == 0
    assert f"{task} reads it as {layout}: " in out
    assert "cannot read it: " in out
    assert "Problem(" not in out
    assert folder_md5(raw) == before
    assert {path.name for path in tmp_path.iterdir()} == {"raw"}


def test_it_says_what_is_in_the_way(derm, tmp_path):
    raw = tmp_path / "raw"
    get_task("lesion_classification").draw(raw, 12)
    images = raw / "ISIC-2017_Training_Data"
    (images / "IMG_1.jp2").write_bytes(b"x")
    (images / "extra.jpg").write_bytes(next(images.glob("*.jpg")).read_bytes())
    code, out, _ = derm("inspect", raw, "--task", "lesion_classification")
    assert code == 0
    assert "IMG_1.jp2: JPEG 2000 is no accepted image format" in out
    assert "extra.jpg: is not listed in" in out
    assert "no list names patients or lesions" in out


def test_a_folder_that_no_task_reads_ends_with_an_error(derm, tmp_path):
    (tmp_path / "holiday").mkdir()
    (tmp_path / "holiday" / "beach.jpg").write_bytes(b"x")
    code, out, _ = derm("inspect", tmp_path / "holiday")
    assert code == 1
    assert out.count("cannot read it") == 5


def test_on_real_folders(derm, shared_data: Path):
    code, out, _ = derm("inspect", shared_data / "ham10000", "--task", "lesion_classification")
    assert code == 0
    assert "reads it as ham10000: 8917 samples" in out
