"""Planted faults: the truth beside the set says exactly which image has which, and nothing else was touched."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest
from typer.testing import CliRunner

from derm_ml import DermError
from derm_ml.cli import app
from derm_ml.images.decode import decode
from derm_ml.registry import get_task
from derm_ml.synthetic.planted import PLANTS, plant
from derm_ml.tables import read_table

SHARE, N = 0.2, 60


def rows_of(path: Path) -> dict[str, dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return {row["filename"]: row for row in csv.DictReader(file)}


@pytest.fixture(scope="module", params=["lesion_classification", "malignancy_screening"])
def drawn(request, tmp_path_factory) -> tuple[str, Path]:
    folder = tmp_path_factory.mktemp("drawn")
    get_task(request.param).draw(folder, N, 1)
    return request.param, folder


def planted(drawn: tuple[str, Path], into: Path, *plants: str) -> dict[str, dict[str, str]]:
    name, folder = drawn
    task = get_task(name)
    return rows_of(plant(task.read(folder, task.settings()), folder, into, plants, SHARE, 3, task.negative))


@pytest.mark.parametrize("what", PLANTS)
def test_the_truth_names_what_was_changed_and_only_that(drawn, what, tmp_path):
    truth = planted(drawn, tmp_path / "set", what)
    originals = {path.name: path.read_bytes() for path in drawn[1].rglob("*.jpg")}
    for name, row in truth.items():
        stored = (tmp_path / "set" / "images" / name).read_bytes()
        same = stored == originals.get(name)
        is_planted = row["planted"] == what
        assert is_planted or row["planted"] == ""
        if what in ("label-noise", "subgroup"):
            assert same
            assert (row["label"] != row["true_label"]) <= is_planted
            assert (row["label"] != row["true_label"]) or not is_planted or what == "subgroup"
        else:
            assert same != is_planted
        assert bool(row["copy_of"]) == (what == "leak" and is_planted)
    assert sum(row["planted"] == what for row in truth.values()) > 0


def test_all_faults_together_leave_a_set_the_task_reads_with_the_labels_the_truth_gives(drawn, tmp_path):
    truth = planted(drawn, tmp_path / "set", *PLANTS)
    task = get_task(drawn[0])
    reading = task.read(tmp_path / "set", task.settings())
    assert not reading.problems
    said = {s.files["image"].split("/")[-1]: task.negative if s.label == "none" else s.label for s in reading.samples}
    assert said == {name: row["label"] for name, row in truth.items()}
    assert {s.id: s.split for s in reading.samples} == {Path(name).stem: row["split"] for name, row in truth.items()}
    copies = [row for row in truth.values() if row["copy_of"]]
    assert all(row["split"] == "train" and truth[row["copy_of"]]["split"] == "test" for row in copies)


def test_the_command_writes_the_truth_beside_the_set_the_same_every_time(tmp_path):
    for name in ("one", "two"):
        asked = ["draw", "malignancy_screening", "--n", "24", "--into", str(tmp_path / name)]
        done = CliRunner().invoke(app, [*asked, "--plant", "shortcut", "--plant", "blur"])
        assert done.exit_code == 0, done.output
    assert (tmp_path / "one.planted.csv").read_bytes() == (tmp_path / "two.planted.csv").read_bytes()
    images = sorted(path.name for path in (tmp_path / "one" / "images").iterdir())
    assert [(tmp_path / "one/images" / i).read_bytes() for i in images] == [
        (tmp_path / "two/images" / i).read_bytes() for i in images
    ]
    assert set(read_table(tmp_path / "one.planted.csv")["planted"]) == {"shortcut", "blur shortcut"}


def test_the_dot_of_a_shortcut_has_the_colour_of_the_label(drawn, tmp_path):
    truth = planted(drawn, tmp_path / "set", "shortcut")
    colours: dict[str, set[tuple[int, ...]]] = {}
    for name, row in truth.items():
        image = decode((tmp_path / "set/images" / name).read_bytes())
        height, width = image.shape[:2]
        at = 2 * round(0.06 * min(height, width))
        corners = [image[y, x] for y in (at, height - at) for x in (at, width - at)]
        vivid = max(corners, key=lambda pixel: int(pixel.max()) - int(pixel.min()))
        colours.setdefault(row["label"], set()).add(tuple(int(v) // 64 for v in vivid))
    for label, found in colours.items():
        others = set().union(*(seen for name, seen in colours.items() if name != label))
        assert not found & others


def test_a_fault_nobody_knows_and_a_set_of_another_kind_are_named(tmp_path):
    for task, what, why in (("lesion_classification", "blurr", "did you mean 'blur'"),
                            ("lesion_segmentation", "blur", "one label")):  # fmt: skip
        done = CliRunner().invoke(app, ["draw", task, "--n", "12", "--into", str(tmp_path / task), "--plant", what])
        assert isinstance(done.exception, DermError)
        assert why in str(done.exception)
