"""The prepared dataset: deterministic, whole or absent, honest about what was left out."""

from __future__ import annotations

import shutil
import tarfile
from pathlib import Path

import cv2
import numpy as np
import pytest

from derm_ml.data.dataset import Dataset
from derm_ml.data.prepare import prepare
from derm_ml.data.rules import (
    duplicates_have_one_label,
    every_class_in_every_split,
    no_duplicates_across_splits,
    patients_do_not_cross_splits,
)
from derm_ml.images.decode import INGEST_FORMATS, decode
from derm_ml.images.preprocess import limit_side
from derm_ml.records import DataError
from derm_ml.registry import get_task
from derm_ml.tree import folder_md5

pytestmark = pytest.mark.slow  # computes for long

task = get_task("lesion_classification")


@pytest.fixture
def raw(drawn_raw, tmp_path) -> Path:
    return Path(shutil.copytree(drawn_raw, tmp_path / "raw"))


def add(raw: Path, name: str, picture: np.ndarray | bytes, label: str = "0.0,0.0") -> None:
    """Add a training picture under a new id."""
    data = picture if isinstance(picture, bytes) else cv2.imencode(".png", picture[..., ::-1])[1].tobytes()
    suffix = "jpg" if data[:2] == b"\xff\xd8" else "png"
    (raw / "ISIC-2017_Training_Data" / f"{name}.{suffix}").write_bytes(data)
    with (raw / "ISIC-2017_Training_Part3_GroundTruth.csv").open("a") as file:
        file.write(f"{name},{label}\n")


def test_the_same_input_gives_the_same_bytes(drawn_raw, drawn_dataset, tmp_path):
    again = prepare(task, drawn_raw, task.settings(), tmp_path / "again")
    assert again.md5 == drawn_dataset.md5 == folder_md5(tmp_path / "again")


def test_every_stored_picture_is_the_delivered_one(drawn_raw, drawn_dataset):
    for _, row in drawn_dataset.manifest.iterrows():
        delivered = next(drawn_raw.rglob(f"{row['id']}.jpg")).read_bytes()
        expected = limit_side(decode(delivered, INGEST_FORMATS), task.settings().store_side)
        assert np.array_equal(drawn_dataset.image(row), expected)


def test_any_tool_opens_the_shards(drawn_dataset):
    with tarfile.open(drawn_dataset.path / "shards" / "00000.tar") as tar:
        assert len(tar.getnames()) == len(drawn_dataset.manifest)


def test_official_splits_are_kept(drawn_raw, drawn_dataset):
    for split, part in (("train", "Training"), ("validation", "Validation"), ("test", "Test")):
        delivered = {p.stem for p in (drawn_raw / f"ISIC-2017_{part}_Data").glob("*.jpg")}
        assert set(drawn_dataset.split(split)["id"]) == delivered


def test_a_broken_picture_is_quarantined_with_its_reason_and_the_rest_goes_on(raw, tmp_path):
    victim = next((raw / "ISIC-2017_Training_Data").glob("*.jpg"))
    victim.write_bytes(victim.read_bytes()[:200])
    dataset = prepare(task, raw, task.settings(), tmp_path / "out")
    assert len(dataset.manifest) == 119
    (row,) = dataset.quarantine.to_dict("records")
    assert row["file"].endswith(victim.name)
    assert row["reason"]


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(lambda x: x, id="as-is"),
        pytest.param(lambda x: x[:, ::-1], id="flipped"),
        pytest.param(
            lambda x: cv2.imencode(".jpg", x[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 40])[1].tobytes(), id="q40"
        ),
        pytest.param(lambda x: x[: int(x.shape[0] * 0.9), : int(x.shape[1] * 0.9)], id="cropped-10%"),
    ],
)
def test_a_duplicate_planted_across_splits_turns_the_rule_red(raw, tmp_path, change):
    original = next((raw / "ISIC-2017_Test_Data").glob("*.jpg"))
    add(raw, "ISIC_9999999", change(decode(original.read_bytes())))
    dataset = prepare(task, raw, task.settings(duplicates="stop"), tmp_path / "out")
    finding = no_duplicates_across_splits(dataset)
    assert not finding.passed
    assert "ISIC_9999999" in finding.message
    assert original.stem in finding.message

    settled = prepare(task, raw, task.settings(), tmp_path / "settled")
    finding = no_duplicates_across_splits(settled)
    assert finding.passed
    assert "1 image held back" in finding.message
    (row,) = settled.held_back.to_dict("records")
    assert "ISIC_9999999" in row["file"]
    assert original.stem in row["reason"]


def test_a_published_set_with_a_copy_between_validation_and_test_can_be_trained_on(raw, tmp_path):
    """ISIC 2017 as published: one image lies in validation and in test, and quarantine did nothing about it."""
    from typer.testing import CliRunner

    from derm_ml.cli import app

    original = next((raw / "ISIC-2017_Test_Data").glob("*.jpg"))
    copy = next((raw / "ISIC-2017_Validation_Data").glob("*.jpg"))
    flipped = cv2.flip(cv2.imread(str(original)), 1)
    copy.write_bytes(cv2.imencode(".jpg", flipped, [cv2.IMWRITE_JPEG_QUALITY, 80])[1].tobytes())
    result = CliRunner().invoke(app, ["prepare", task.name, "--raw", str(raw), "--out", str(tmp_path / "out")])
    assert result.exit_code == 0
    dataset = Dataset.open(tmp_path / "out")
    (row,) = dataset.held_back.to_dict("records")
    assert copy.name in row["file"]
    assert original.stem in set(dataset.split("test")["id"])
    assert not any(rule.stops(rule.check(dataset)) for rule in task.rules)


def test_where_no_ids_are_known_the_patient_check_is_neither_green_nor_in_the_way(drawn_dataset):
    """A tick would say that no patient is in two splits; nobody can know."""
    rule = next(rule for rule in task.rules if rule.name == "patients_do_not_cross_splits")
    finding = rule.check(drawn_dataset)
    assert not finding.passed
    assert not finding.evaluable
    assert not rule.stops(finding)
    assert finding.message == "not checked: none of the 120 images has a patient or lesion ID"


@pytest.mark.parametrize(("a", "b"), [("P1", "p1 "), ("12", "12.0"), ("0012", "12")])
def test_the_patient_check_asks_the_ids_and_no_computed_group(drawn_dataset, a, b):
    table = drawn_dataset.manifest.copy()
    for split, name in (("train", a), ("test", b)):
        table.loc[table.index[table["split"] == split][0], "patient"] = name
    finding = patients_do_not_cross_splits(Dataset(drawn_dataset.path, drawn_dataset.info, table))
    assert not finding.passed
    assert finding.evaluable
    assert finding.rows[0]["splits"] == "test, train"
    sources = {"train": "batches/monday", "validation": "clinic", "test": "batches/tuesday"}
    apart = Dataset(drawn_dataset.path, drawn_dataset.info | {"settings": {"patients": "per_source"}}, table)
    table["source"] = table["split"].map(sources)
    assert not patients_do_not_cross_splits(apart).passed  # all deliveries are one source
    table.loc[table["split"] == "test", "source"] = "elsewhere"
    assert patients_do_not_cross_splits(apart).passed


def test_duplicates_with_two_labels_are_named(raw, tmp_path):
    """Of one image under two labels one is wrong, and half of the score on it is luck."""
    twins = sorted((raw / "ISIC-2017_Training_Data").glob("*.jpg"))[:2]
    shutil.copy(twins[0], twins[1])
    finding = duplicates_have_one_label(prepare(task, raw, task.settings(), tmp_path / "out"))
    assert not finding.passed
    assert f"{twins[0].stem} (melanoma) and {twins[1].stem} (nevus)" in finding.message


def test_different_drawn_lesions_are_not_called_duplicates(drawn_dataset):
    assert drawn_dataset.duplicates.empty


def test_nothing_usable_is_an_error_and_leaves_the_old_dataset(raw, drawn_dataset, tmp_path):
    out = Path(shutil.copytree(drawn_dataset.path, tmp_path / "out"))
    for picture in raw.rglob("*.jpg"):
        picture.write_bytes(b"")
    with pytest.raises(DataError, match="nothing can be used"):
        prepare(task, raw, task.settings(), out)
    assert Dataset.open(out).md5 == drawn_dataset.md5


def test_a_shard_cut_short_is_refused_by_name(drawn_dataset, tmp_path):
    path = Path(shutil.copytree(drawn_dataset.path, tmp_path / "out"))
    shard = path / "shards" / "00000.tar"
    shard.write_bytes(shard.read_bytes()[:-512])
    with pytest.raises(DataError, match=r"00000\.tar is missing or damaged"):
        Dataset.open(path)


def test_a_missing_class_is_named_with_its_split(raw, tmp_path):
    truth = raw / "ISIC-2017_Validation_Part3_GroundTruth.csv"
    lines = [
        line if line.startswith("image_id") else line.split(",")[0] + ",0.0,0.0" for line in truth.read_text().split()
    ]
    truth.write_text("\n".join(lines) + "\n")
    finding = every_class_in_every_split(prepare(task, raw, task.settings(), tmp_path / "out"))
    assert not finding.passed
    assert "melanoma in validation" in finding.message


def test_the_duplicate_in_isic_2017_is_found(shared_data, tmp_path):
    """Training image ISIC_0012970 is validation image ISIC_0012127: the leakage rule has to say so."""
    for part, names in (
        ("Training", ["ISIC_0012970", "ISIC_0000000", "ISIC_0000002", "ISIC_0000029"]),
        ("Validation", ["ISIC_0012127", "ISIC_0001769"]),
    ):
        folder = tmp_path / "raw" / f"ISIC-2017_{part}_Data"
        folder.mkdir(parents=True)
        lines = (shared_data / "isic2017" / f"ISIC-2017_{part}_Part3_GroundTruth.csv").read_text().splitlines()
        chosen = [line for line in lines if line.split(",")[0] in {*names, "image_id"}]
        (tmp_path / "raw" / f"ISIC-2017_{part}_Part3_GroundTruth.csv").write_text("\n".join(chosen) + "\n")
        for name in names:
            shutil.copy(shared_data / "isic2017" / f"ISIC-2017_{part}_Data" / f"{name}.jpg", folder)
    dataset = prepare(task, tmp_path / "raw", task.settings(duplicates="stop"), tmp_path / "out")
    pairs = {frozenset(p) for p in dataset.duplicates[["a", "b"]].itertuples(index=False)}
    assert pairs == {frozenset({"ISIC_0012970", "ISIC_0012127"})}
    assert not no_duplicates_across_splits(dataset).passed


@pytest.mark.parametrize("left", [0, 100, -1], ids=["empty", "torn", "last byte"])
@pytest.mark.parametrize("name", ["manifest.parquet", "dataset.json"])
def test_a_torn_file_of_a_dataset_is_named_with_its_cure(drawn_dataset, tmp_path, name, left):
    """A copy that was interrupted must not end in a stack trace of Arrow's."""
    folder = Path(shutil.copytree(drawn_dataset.path, tmp_path / "torn"))
    (folder / name).write_bytes((folder / name).read_bytes()[: left if name != "dataset.json" else left * 2])
    with pytest.raises(DataError, match=rf"torn/{name} is missing or damaged .*: run `dvc checkout` or `derm prepare`"):
        Dataset.open(folder)


def test_a_damaged_image_names_its_shard(drawn_dataset, tmp_path):
    folder = Path(shutil.copytree(drawn_dataset.path, tmp_path / "damaged"))
    row = drawn_dataset.manifest.iloc[3]
    shard = folder / "shards" / row["image.shard"]
    data = bytearray(shard.read_bytes())
    data[row["image.offset"] : row["image.offset"] + 200] = bytes(200)
    shard.write_bytes(data)
    with pytest.raises(DataError, match=rf"{row['image.shard']} is damaged: the image at byte {row['image.offset']}"):
        Dataset.open(folder).image(row)


def test_a_damaged_list_is_named_with_its_cure(drawn_dataset, tmp_path):
    folder = Path(shutil.copytree(drawn_dataset.path, tmp_path / "listless"))
    (folder / "duplicates.csv").write_bytes(b"")
    (folder / "quarantine.csv").unlink()
    for name in ("duplicates", "quarantine"):
        with pytest.raises(DataError, match=rf"{name}\.csv is missing or damaged"):
            getattr(Dataset.open(folder), name)


def test_the_attributes_of_many_rows_are_those_of_each(drawn_dataset):
    rows = drawn_dataset.split("train").iloc[::-1]
    found = drawn_dataset.attributes_of(rows)
    assert found == [drawn_dataset.attributes(row) for row in rows.to_dict("records")]
    assert len({len(attributes) for attributes in found}) > 1  # some are not known
