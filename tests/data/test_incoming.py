"""A delivered batch: what is good is taken, what is not is listed, and nothing that was there is ever harmed."""

from __future__ import annotations

import csv
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis
from hypothesis import strategies as st

from derm_ml.data.dataset import Dataset
from derm_ml.data.incoming import RejectedBatch, receive, take_in
from derm_ml.data.prepare import prepare
from derm_ml.data.withdrawal import withdraw
from derm_ml.images.changes import cropped, turned
from derm_ml.records import DataError
from derm_ml.registry import get_task

pytestmark = pytest.mark.slow  # computes for long

TASK = get_task("lesion_classification")
SETTINGS = TASK.settings()


def write(path: Path, seed: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (24, 32, 3), np.uint8)
    path.write_bytes(cv2.imencode(".png", pixels)[1].tobytes())


def batch_of(folder: Path, seeds: dict[str, list[int]]) -> Path:
    """A batch in class folders: label → seeds of its pictures."""
    for label, numbers in seeds.items():
        for seed in numbers:
            write(folder / label / f"{label}{seed}.png", seed)
    return folder


@pytest.fixture
def raw(tmp_path) -> Path:
    return tmp_path / "raw" / TASK.name


@pytest.fixture
def batch(tmp_path) -> Path:
    return batch_of(tmp_path / "incoming" / "monday", {"nevus": [1, 2, 3], "melanoma": [4, 5]})


def names(raw: Path) -> list[str]:
    return sorted(p.relative_to(raw).as_posix() for p in raw.rglob("*") if p.is_file())


def bytes_of(folder: Path) -> dict[str, bytes]:
    return {name: (folder / name).read_bytes() for name in names(folder)}


def listed(folder: Path, rows: list[dict[str, object]], task=None) -> Path:
    """A batch with a list: one image a row, drawn from its `seed`, unless that is None: then the image is missing."""
    columns = [name for name in rows[0] if name != "seed"]
    for row in rows:
        if row["seed"] is not None:
            write(folder / "images" / str(row["filename"]), int(str(row["seed"])))
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "labels.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, columns, extrasaction="ignore")
        writer.writeheader()
        writer.writerows(rows)
    return folder


SCREENING = get_task("malignancy_screening")


def patients(folder: Path, first: int, n: int, **facts: object) -> Path:
    """`n` images, numbered, of as many numbered patients."""
    return listed(
        folder,
        [
            {"filename": f"{k}.png", "label": ("benign", "malignant")[k % 2], "patient_id": k, "seed": k} | facts
            for k in range(first, first + n)
        ],
    )


def test_a_batch_is_taken_whole(batch, raw):
    intake = take_in(TASK, batch, raw, SETTINGS)
    assert (intake.delivered, intake.taken, intake.left_out) == (5, 5, ())
    assert intake.folder == raw / "batches" / f"monday-{intake.content[:8]}"
    assert {s.label for s in TASK.read(raw, SETTINGS).samples} == {"nevus", "melanoma"}


@pytest.mark.parametrize("name", ["monday", "tuesday"])
def test_the_same_content_again_changes_nothing(batch, raw, name):
    """Under its old name or a new one: a courier that retries must not double the data."""
    take_in(TASK, batch, raw, SETTINGS)
    before = names(raw)
    again = take_in(TASK, shutil.copytree(batch, batch.parents[1] / "again" / name), raw, SETTINGS)
    assert (again.taken, again.duplicates, again.folder) == (0, 5, None)
    assert names(raw) == before


def test_bad_and_known_pictures_are_left_out_and_the_others_go_on(batch, raw):
    take_in(TASK, batch, raw, SETTINGS)
    second = batch_of(batch.parent / "tuesday", {"nevus": [3, 6, 7]})  # 3 is known
    write(second / "nevus" / "twin.png", 6)  # twice in this batch
    (second / "nevus" / "cut.png").write_bytes((second / "nevus" / "nevus7.png").read_bytes()[:100])
    (second / "nevus" / "empty.png").touch()
    intake = take_in(TASK, second, raw, SETTINGS)
    assert (intake.delivered, intake.taken, intake.duplicates, len(intake.left_out)) == (6, 2, 2, 4)
    assert {Path(p.file).name for p in intake.left_out} == {"nevus3.png", "twin.png", "cut.png", "empty.png"}
    assert len(TASK.read(raw, SETTINGS).samples) == 7
    assert not TASK.read(raw, SETTINGS).problems


def test_of_what_was_left_out_nothing_is_reported_again_and_no_list_is_rewritten(tmp_path, raw):
    """Otherwise the dataset would report it as missing, with the wrong reason; a rewritten list loses other rows."""
    batch = tmp_path / "incoming" / "official"
    TASK.draw(batch, 10, seed=1)
    broken = sorted((batch / "ISIC-2017_Training_Data").glob("*.jpg"))[0]
    broken.write_bytes(b"\xff\xd8 no picture")
    delivered = bytes_of(batch)
    intake = take_in(TASK, batch, raw, SETTINGS)
    assert intake.taken == 9
    (problem,) = intake.left_out
    assert (Path(problem.file).name, problem.row) == (broken.name, 2)
    assert "line 2 of ISIC-2017_Training_Part3_GroundTruth.csv" in problem.reason
    reading = TASK.read(raw, SETTINGS)
    assert len(reading.samples) == 9
    assert not reading.problems
    assert delivered.items() <= bytes_of(intake.folder).items()


def test_rows_are_matched_by_their_image_and_by_nothing_else(tmp_path, raw):
    """An age of 55 is not `55.png`, patient 3 is not `3.png`: such an export lost every row, and its day 1 with it."""
    settings = SCREENING.settings()
    take_in(SCREENING, patients(tmp_path / "day1", 1, 12, age=5), raw, settings)
    day2 = patients(tmp_path / "day2", 1, 16, age=5)
    (day2 / "images" / "14.png").write_bytes(b"")
    intake = take_in(SCREENING, day2, raw, settings)
    assert (intake.delivered, intake.taken, intake.duplicates) == (16, 3, 12)
    assert [(p.file, p.row) for p in intake.left_out if "empty" in p.reason] == [("images/14.png", 15)]
    reading = SCREENING.read(raw, settings)
    assert {s.patient for s in reading.samples} == {str(k) for k in range(1, 17) if k != 14}
    assert not reading.problems


def test_a_listed_image_that_is_missing_costs_that_row_and_no_later_delivery(tmp_path, raw):
    """It once destroyed the raw folder: the list was left out, and no batch and no `prepare` worked until a repair."""
    settings = SCREENING.settings()
    rows = [{"filename": f"{k}.png", "label": ("benign", "malignant")[k % 2], "seed": k or None} for k in range(12)]
    intake = take_in(SCREENING, listed(tmp_path / "monday", rows), raw, settings)
    (problem,) = intake.left_out
    assert (problem.file, problem.row, intake.taken) == ("labels.csv", 2, 11)
    assert "0.png is not there" in problem.reason
    assert take_in(SCREENING, patients(tmp_path / "tuesday", 20, 12), raw, settings).taken == 12
    dataset = prepare(SCREENING, raw, settings, tmp_path / "prepared")
    assert len(dataset.manifest) == 23
    assert dataset.quarantine.empty


def test_a_cumulative_export_costs_no_space(tmp_path, raw):
    settings = SCREENING.settings()
    first = take_in(SCREENING, patients(tmp_path / "day1", 1, 6), raw, settings)
    second = take_in(SCREENING, patients(tmp_path / "day2", 1, 8), raw, settings)
    assert os.path.samefile(first.folder / "images" / "1.png", second.folder / "images" / "1.png")


def test_links_are_not_followed_out_of_a_delivery(batch, raw, tmp_path):
    (tmp_path / "secret.png").write_bytes((batch / "nevus" / "nevus1.png").read_bytes()[:50])
    (batch / "nevus" / "link.png").symlink_to(tmp_path / "secret.png")
    (batch / "melanoma" / "more").symlink_to(tmp_path)
    intake = take_in(TASK, batch, raw, SETTINGS)
    assert {p.file for p in intake.left_out} == {"nevus/link.png", "melanoma/more"}
    assert intake.taken == 5
    assert not any(path.is_symlink() for path in raw.rglob("*"))


# --- rejected ---------------------------------------------------------------------------------------------------


def test_a_batch_without_a_good_picture_fails_and_leaves_nothing(tmp_path, raw):
    batch = tmp_path / "incoming" / "bad"
    (batch / "nevus").mkdir(parents=True)
    (batch / "nevus" / "a.png").write_bytes(b"\x89PNG no picture")
    with pytest.raises(RejectedBatch, match=r"none of its 1 images can be used; the first is nevus/a\.png"):
        take_in(TASK, batch, raw, SETTINGS)
    assert not raw.exists()


def test_an_empty_batch_is_refused(tmp_path, raw):
    (tmp_path / "incoming" / "empty").mkdir(parents=True)
    with pytest.raises(DataError):
        take_in(TASK, tmp_path / "incoming" / "empty", raw, SETTINGS)


def test_a_wrong_list_names_file_and_line_and_nothing_is_taken(tmp_path, raw):
    batch = tmp_path / "incoming" / "typo"
    batch_of(batch, {"images": [1, 2]})
    (batch / "labels.csv").write_text("filename,label\nimages/images1.png,nevus\nimages/images2.png,nevsu\n")
    with pytest.raises(DataError, match=r"labels\.csv.*3"):
        take_in(TASK, batch, raw, SETTINGS)
    assert not raw.exists()


def test_a_raw_folder_that_is_itself_one_set_hides_no_batch(tmp_path, batch, raw):
    """Its own layout claims its own files; what is delivered beside them is a source like any other."""
    TASK.draw(raw, 6, seed=2)
    intake = receive(TASK, batch, raw, SETTINGS)
    assert intake.taken == intake.delivered
    for layout in ("auto", "isic2017"):
        reading = TASK.read(raw, SETTINGS.model_copy(update={"source": layout}))
        assert len(reading.samples) == 6 + intake.taken
        assert {s.source for s in reading.samples if s.delivered} == {f"batches/{intake.folder.name}"}


def test_a_crash_while_copying_leaves_no_half_batch(batch, raw, monkeypatch):
    def full(*_, **__):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as broken:
        broken.setattr(shutil, "copyfile", full)
        with pytest.raises(OSError, match="No space left"):
            take_in(TASK, batch, raw, SETTINGS)
    assert names(raw) == []
    assert take_in(TASK, batch, raw, SETTINGS).taken == 5


def test_a_rejected_batch_is_set_aside_with_its_reasons_and_later_ones_go_on(tmp_path, batch, raw):
    bad = batch_of(batch.parent / "typo", {"images": [21, 22]})
    (bad / "labels.csv").write_text("filename,label\nimages/images21.png,nevus\nimages/images22.png,nevsu\n")
    delivered = bytes_of(bad)
    with pytest.raises(RejectedBatch) as raised:
        receive(TASK, bad, raw, SETTINGS)
    place = batch.parent / "rejected" / "typo"
    assert f"{bad / 'labels.csv'}:3: unknown label 'nevsu'" in str(raised.value)
    assert str(place) in str(raised.value)
    assert bytes_of(place) == delivered
    assert not bad.exists()
    assert "unknown label 'nevsu'" in (place.parent / "typo.txt").read_text()
    assert "unknown label 'nevsu'" in (place.parent / "typo.csv").read_text()
    assert receive(TASK, batch, raw, SETTINGS).taken == 5
    with pytest.raises(RejectedBatch, match=r"rejected/typo\.2"):  # nothing that was rejected before is overwritten
        receive(TASK, Path(shutil.copytree(place, bad)), raw, SETTINGS)


def test_a_batch_is_rejected_for_a_check_that_only_it_fails(tmp_path):
    """Half of the masks of a broken export are empty: with it no model could be trained any more."""
    task = get_task("lesion_segmentation")
    raw, settings = tmp_path / "raw" / task.name, task.settings()
    task.draw(raw / "first", 20, seed=1)
    task.draw(tmp_path / "broken", 12, seed=2)
    for mask in (tmp_path / "broken").rglob("*_segmentation.png"):
        shape = cv2.imread(str(mask), cv2.IMREAD_GRAYSCALE).shape
        mask.write_bytes(cv2.imencode(".png", np.zeros(shape, np.uint8))[1].tobytes())
    before = bytes_of(raw)
    with pytest.raises(RejectedBatch, match=r"the data check few_masks_are_empty fails: 12 of 32 masks"):
        take_in(task, tmp_path / "broken", raw, settings)
    assert bytes_of(raw) == before

    shutil.copytree(tmp_path / "broken", raw / "second")  # now the raw folder fails the check by itself
    task.draw(tmp_path / "good", 6, seed=3)
    assert take_in(task, tmp_path / "good", raw, settings).taken == 6


def test_a_delivery_of_test_images_under_new_names_is_stopped(tmp_path):
    """Turned by 15° and cropped, each by a new patient: learned from, they would flatter the next model."""
    raw, settings = tmp_path / "raw" / SCREENING.name, SCREENING.settings()
    SCREENING.draw(raw / "first", 40, seed=1)
    first = prepare(SCREENING, raw, settings, tmp_path / "prepared")
    tested = first.split("test")
    batch = tmp_path / "incoming" / "friday"
    (batch / "images").mkdir(parents=True)
    rows = ["filename,label,patient_id"]
    for k, row in enumerate(tested.to_dict("records")):
        image = cropped(turned(first.image(row), 15, "cut"), 0.1)
        (batch / "images" / f"new{k}.png").write_bytes(cv2.imencode(".png", image[..., ::-1])[1].tobytes())
        rows.append(f"new{k}.png,benign,walk-in {k}")
    (batch / "labels.csv").write_text("\n".join(rows) + "\n")
    before = names(raw)
    with pytest.raises(RejectedBatch) as raised:
        receive(SCREENING, batch, raw, settings, first.path)
    said = re.search(
        r"(\d+) of its (\d+) usable images must not be learned from, .*; the first is (\S+): (.+?)\. Look",
        f"{raised.value}",
    )
    assert said, raised.value
    assert int(said[1]) >= 0.8 * len(tested) == 0.8 * int(said[2])
    assert said[3].startswith("images/new")
    assert said[4].startswith("it shows the same image as ")
    assert names(raw) == before
    listed_too = (batch.parent / "rejected" / "friday.csv").read_text()
    assert listed_too.count("it shows the same image as") == int(said[1])


@pytest.mark.slow
def test_two_processes_do_not_change_one_raw_folder_at_once(batch, raw):
    raw.mkdir(parents=True)
    script = (
        "import sys; from pathlib import Path; from derm_ml.data.staging import only_one\n"
        "with only_one(Path(sys.argv[1])): print('held', flush=True); sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", script, raw], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as other:
        assert other.stdout.readline() == "held\n"
        with pytest.raises(DataError, match="is being changed by another process: try again"):
            take_in(TASK, batch, raw, SETTINGS)
        other.kill()
    assert take_in(TASK, batch, raw, SETTINGS).taken == 5


def test_what_a_killed_intake_left_is_cleared(batch, raw):
    left = raw.parent / f".{raw.name}.intake.killed" / "stage"
    left.mkdir(parents=True)
    take_in(TASK, batch, raw, SETTINGS)
    assert not left.parent.exists()


# --- corrections ------------------------------------------------------------------------------------------------


def facts_of(raw: Path, settings) -> dict[str, tuple]:
    return {s.id: (s.label, s.patient, s.attributes.get("age")) for s in SCREENING.read(raw, settings).samples}


def test_corrected_labels_are_refused_with_the_line_that_allows_them(tmp_path, raw):
    """They were a silent no-op: the file is known, so nothing happened, and the wrong label was trained on."""
    settings = SCREENING.settings()
    take_in(SCREENING, patients(tmp_path / "day1", 1, 6), raw, settings)
    before = bytes_of(raw)
    day2 = patients(tmp_path / "day2", 1, 8)
    text = (day2 / "labels.csv").read_text()
    (day2 / "labels.csv").write_text(text.replace("3.png,malignant", "3.png,benign"))
    with pytest.raises(
        RejectedBatch, match=r"set `corrections: apply` in params\.yaml, section tasks\.malig"
    ) as raised:
        take_in(SCREENING, day2, raw, settings)
    assert "label malignant → none" in str(raised.value)
    assert (raised.value.problems[0].file, raised.value.problems[0].row) == ("images/3.png", 4)
    assert bytes_of(raw) == before


@hypothesis(deadline=None, max_examples=12, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.dictionaries(st.integers(1, 6), st.sampled_from(["label", "patient_id", "age"]), min_size=1))
def test_applied_corrections_change_exactly_what_they_say_and_withdrawing_takes_them_back(tmp_path_factory, wrong):
    place = tmp_path_factory.mktemp("corrections")
    raw, settings = place / "raw", SCREENING.settings(corrections="apply")
    rows = [
        {
            "filename": f"{k}.png",
            "label": ("benign", "malignant")[k % 2],
            "patient_id": f"p{k}",
            "age": 30 + k,
            "seed": k,
        }
        for k in range(1, 7)
    ]
    take_in(SCREENING, listed(place / "day1", rows), raw, settings)
    before = facts_of(raw, settings)
    other = {
        "label": lambda row: ("malignant", "benign")[row % 2],
        "patient_id": lambda row: f"q{row}",
        "age": lambda row: 60 + row,
    }
    told = [row | ({wrong[k]: other[wrong[k]](k)} if (k := row["seed"]) in wrong else {}) for row in rows]
    told.append({"filename": "7.png", "label": "benign", "patient_id": "p7", "age": 37, "seed": 7})
    intake = take_in(SCREENING, listed(place / "day2", told), raw, settings)
    assert intake.taken == 1
    assert {int(Path(c.of[0]).stem): c.changes[0].what.split("_")[0] for c in intake.corrections} == {
        k: what.split("_")[0] for k, what in wrong.items()
    }
    after = facts_of(raw, settings)
    assert set(after) == {*before, "7"}
    for name, (label, patient, age) in before.items():
        k = int(name)
        assert after[name] == (
            ("none" if label == "malignant" else "malignant") if wrong.get(k) == "label" else label,
            f"q{k}" if wrong.get(k) == "patient_id" else patient,
            60 + k if wrong.get(k) == "age" else age,
        )
    withdraw(raw, "day2", place / "withdrawn")
    assert facts_of(raw, settings) == before


@pytest.mark.slow
def test_from_a_terminal_a_delivery_is_taken_corrected_and_withdrawn(tmp_path):
    """As a user without Dagster does it, in processes of their own."""
    (tmp_path / "params.yaml").write_text("tasks: {malignancy_screening: {}}\n")
    patients(tmp_path / "data" / "raw" / SCREENING.name / "first", 1, 20)
    environment = os.environ | {"DERM_DATA": str(tmp_path / "data"), "DERM_OUT": str(tmp_path / "out")}

    def derm(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "derm_ml.cli", *arguments]
        return subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)

    batch = patients(tmp_path / "monday", 15, 8)
    taken = derm("deliver", SCREENING.name, "monday")
    assert taken.returncode == 0, taken.stderr
    folder = tmp_path / taken.stdout.strip()
    assert bytes_of(batch).items() <= bytes_of(folder).items()
    (batch / "labels.csv").write_text((batch / "labels.csv").read_text().replace("16.png,benign", "16.png,malignant"))
    refused = derm("deliver", SCREENING.name, "monday")
    assert refused.returncode == 2
    assert "Traceback" not in refused.stderr
    assert "label none → malignant" in refused.stderr
    again = derm("withdraw", SCREENING.name, "monday")
    assert (again.returncode, again.stdout.strip()) == (0, f"{tmp_path}/data/withdrawn/{SCREENING.name}/{folder.name}")
    wrong = derm("withdraw", SCREENING.name, "monday")
    assert wrong.returncode == 2
    assert "no accepted delivery is called 'monday'" in wrong.stderr


def test_a_corrected_mask_replaces_the_old_one(tmp_path):
    task = get_task("lesion_segmentation")
    raw, settings = tmp_path / "raw" / task.name, task.settings(corrections="apply")
    task.draw(raw / "first", 10, seed=1)
    image = sorted((raw / "first" / "ISIC-2017_Training_Data").glob("*.jpg"))[0]
    mask = raw / "first" / "ISIC-2017_Training_Part1_GroundTruth" / f"{image.stem}_segmentation.png"
    for folder, path in (("images", image), ("masks", mask)):
        (tmp_path / "again" / folder).mkdir(parents=True)
        shutil.copy(path, tmp_path / "again" / folder)
    pixels = cv2.imread(str(mask), cv2.IMREAD_GRAYSCALE)
    pixels[:10] = 255
    (tmp_path / "again" / "masks" / mask.name).write_bytes(cv2.imencode(".png", pixels)[1].tobytes())
    (correction,) = take_in(task, tmp_path / "again", raw, settings).corrections
    assert [change.what for change in correction.changes] == ["mask"]
    dataset = prepare(task, raw, settings, tmp_path / "prepared")
    assert len(dataset.manifest) == 10
    row = next(row for row in dataset.manifest.to_dict("records") if row["id"] == image.stem)
    assert np.array_equal(dataset.mask(row), pixels)


def test_the_same_image_with_two_labels_in_one_delivery_is_believed_in_neither(batch, raw):
    shutil.copy(batch / "nevus" / "nevus1.png", batch / "melanoma" / "copy.png")
    intake = take_in(TASK, batch, raw, SETTINGS)
    assert {p.file for p in intake.left_out} == {"nevus/nevus1.png", "melanoma/copy.png"}
    assert all("melanoma and nevus" in p.reason or "nevus and melanoma" in p.reason for p in intake.left_out)
    assert intake.taken == 4


# --- splits -----------------------------------------------------------------------------------------------------


@pytest.fixture
def screened(tmp_path) -> tuple[Path, Path]:
    """A raw folder of 40 numbered patients and its dataset."""
    raw = tmp_path / "raw" / SCREENING.name
    patients(raw / "first", 1, 40)
    prepare(SCREENING, raw, SCREENING.settings(), tmp_path / "prepared")
    return raw, tmp_path / "prepared"


def test_a_test_patient_s_new_image_is_held_back_and_the_others_are_learned_from(screened, tmp_path):
    raw, prepared = screened
    first = Dataset.open(prepared)
    tested, learned = first.split("test")["patient"].iloc[0], first.split("train")["patient"].iloc[0]
    rows = [
        {"filename": f"new{k}.png", "label": "benign", "patient_id": who, "split": "test", "seed": 100 + k}
        for k, who in enumerate([f"{tested}.0", f" {learned}", "", "", "", ""])
    ]
    intake = take_in(SCREENING, listed(tmp_path / "later", rows), raw, SCREENING.settings(), prepared)
    assert (intake.taken, [p.file for p in intake.held_back]) == (6, ["images/new0.png"])
    assert f"({'test'})" in intake.held_back[0].reason
    assert intake.held_back[0].row == 2
    second = prepare(SCREENING, raw, SCREENING.settings(), prepared)
    assert second.split_hashes["test"] == first.split_hashes["test"]  # nor does it grow by what the batch claims
    assert set(second.held_back["file"]) == {f"{intake.folder.relative_to(raw)}/images/new0.png"}
    assert second.manifest.set_index("id").loc["new1", "split"] == "train"
    assert json.loads((prepared / "dataset.json").read_text())["held_back"] == 1


def test_the_test_split_grows_where_the_settings_say_so(screened, tmp_path):
    raw, prepared = screened
    first = Dataset.open(prepared)
    settings = SCREENING.settings(test_grows=True, believe_splits=True)
    rows = [{"filename": f"n{k}.png", "label": "benign", "split": "test", "seed": 100 + k} for k in range(3)]
    assert not take_in(SCREENING, listed(tmp_path / "later", rows), raw, settings, prepared).held_back
    second = prepare(SCREENING, raw, settings, prepared)
    assert set(second.split("test")["id"]) == {*first.split("test")["id"], "n0", "n1", "n2"}


def test_of_later_patients_a_share_is_put_aside_for_good(screened, tmp_path):
    """It goes through the whole of `derm deliver` and `derm prepare`, and a setting that changes moves nobody."""
    raw, prepared = screened
    first = Dataset.open(prepared)
    assert "recent" not in {**first.split_hashes, **first.info["sizes"]}
    take_in(SCREENING, patients(tmp_path / "later", 100, 20), raw, SCREENING.settings(), prepared)
    second = prepare(SCREENING, raw, SCREENING.settings(), prepared)
    recent = second.split("recent")
    assert len(recent) == second.info["sizes"]["recent"] > 0
    assert recent["source"].str.startswith("batches/").all()
    assert second.split_hashes["recent"] == second.split_hash("recent")
    assert second.split_hashes["test"] == first.split_hashes["test"]
    assert not [rule.name for rule in SCREENING.rules if rule.stops(rule.check(second))]
    who = str(recent["patient"].iloc[0])
    rows = [{"filename": "again.png", "label": "benign", "patient_id": who, "seed": 900}]
    off = SCREENING.settings(recent=0.0)
    take_in(SCREENING, listed(tmp_path / "again", rows), raw, off, prepared)
    third = prepare(SCREENING, raw, off, prepared)
    assert set(third.split("recent")["id"]) == {*recent["id"], "again"}
    spoilt = third.manifest.assign(split=third.manifest["split"].where(third.manifest["id"] != "again", "train"))
    rules = {rule.name: rule.check(Dataset(third.path, third.info, spoilt)) for rule in SCREENING.rules}
    assert "recent, train" in rules["patients_do_not_cross_splits"].message


def test_a_delivery_takes_no_earlier_image_s_name(screened, tmp_path):
    """The names of a split are its hash: else every delivery of `IMG_1` would end all comparisons."""
    raw, prepared = screened
    first = Dataset.open(prepared)
    rows = [{"filename": f"{k}.png", "label": "benign", "seed": 200 + k} for k in range(1, 41)]
    take_in(SCREENING, listed(tmp_path / "a", rows), raw, SCREENING.settings(), prepared)
    assert prepare(SCREENING, raw, SCREENING.settings(), prepared).split_hashes["test"] == first.split_hashes["test"]


def test_a_withdrawn_delivery_leaves_the_others_where_they_are(screened, tmp_path):
    raw, prepared = screened
    before = bytes_of(raw)
    first = Dataset.open(prepared).identities
    for name, start in (("monday", 100), ("tuesday", 200)):
        take_in(SCREENING, patients(tmp_path / name, start, 8), raw, SCREENING.settings(), prepared)
        both = prepare(SCREENING, raw, SCREENING.settings(), prepared).identities
    with pytest.raises(DataError, match=r"no accepted delivery is called 'sunday'; give one of: monday-\w+, tuesday-"):
        withdraw(raw, "sunday", tmp_path / "withdrawn")
    gone = withdraw(raw, "monday", tmp_path / "withdrawn")
    assert (gone.delivery.taken, gone.folder.parent) == (8, tmp_path / "withdrawn")
    left = prepare(SCREENING, raw, SCREENING.settings(), prepared).identities
    assert left.items() <= both.items()
    assert len(left) == 48
    withdraw(raw, "tuesday", tmp_path / "withdrawn")
    assert bytes_of(raw) == before
    assert prepare(SCREENING, raw, SCREENING.settings(), prepared).identities == first
    assert take_in(SCREENING, tmp_path / "monday", raw, SCREENING.settings(), prepared).taken == 8  # as if it were new
