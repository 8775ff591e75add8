"""Pairs and boxes in the layouts people have them: a box that is lost or misread is a lesion that is."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from derm_ml.data.sources import PAIR_LAYOUTS, read_source
from derm_ml.records import DataError

LABELS = ("pimple", "comedone", "nodule")


def read(root: Path):
    return read_source(root, labels=LABELS, layouts=PAIR_LAYOUTS)


def photos(root: Path, *names: str) -> None:
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"not looked at here")


def voc(root: Path, name: str, *objects: tuple[str, int, int, int, int]) -> None:
    inner = "".join(
        f"<object><name>{label}</name><bndbox><xmin>{a}</xmin><ymin>{b}</ymin><xmax>{c}</xmax><ymax>{d}</ymax></bndbox>"
        "</object>"
        for label, a, b, c, d in objects
    )
    (root / name).with_suffix(".xml").write_text(f"<annotation><filename>{name}</filename>{inner}</annotation>")


def test_versions_of_one_photo_are_pairs_whose_boxes_correspond(tmp_path):
    names = ["face_jpg.rf.00000001.jpg", "face_jpg.rf.00000002.jpg", "other_jpg.rf.00000003.jpg"]
    photos(tmp_path, *names)
    for name in names:
        voc(tmp_path, name, ("papules", 1, 2, 11, 12), ("nodules and cysts", 20, 20, 30, 31))
    pair, alone = read(tmp_path).samples
    assert pair.id == "face+face"
    assert (pair.patient, pair.lesion, alone.patient) == ("", "face", "")  # nobody has named the person
    assert [r.id for r in pair.regions["first"]] == [r.id for r in pair.regions["second"]] == ["0", "1"]
    assert [r.label for r in pair.regions["second"]] == ["pimple", "nodule"]
    assert pair.regions["first"][0].box == (1, 2, 11, 12)
    assert list(alone.files) == ["first"]
    assert pair.target == {"pimple": 1.0, "comedone": 0.0, "nodule": 1.0}


def test_coco_boxes_are_corner_width_height(tmp_path):
    photos(tmp_path, "images/a.jpg")
    table = {
        "images": [{"id": 7, "file_name": "a.jpg"}],
        "categories": [{"id": 1, "name": "pimple"}],
        "annotations": [{"id": 1, "image_id": 7, "category_id": 1, "bbox": [5, 6, 10, 20]}],
    }
    (tmp_path / "instances.json").write_text(json.dumps(table))
    (sample,) = read(tmp_path).samples
    assert sample.regions["first"][0].box == (5, 6, 15, 26)


def test_the_original_s_tables_pair_row_by_row(tmp_path):
    photos(tmp_path, "v1/a.jpg", "v2/a.jpg")
    for visit in ("v1", "v2"):
        details = {
            "annotation": [
                {"label": "pimple", "condition": "Detected", "bounding_boxes": ["1,2,3,4", "5,6,7,8"]},
                {"label": "comedone", "condition": "Not Detected", "bounding_boxes": ["1,1,9,9"]},
            ],
            "landmarks": {"nose_base": [3, 4]},
        }
        row = {"image_path": f"{visit}/a.jpg", "image_details": details}
        (tmp_path / f"{visit}.json").write_text(json.dumps([row]))
    (sample,) = read(tmp_path).samples
    assert dict(sample.files) == {"first": "v1/a.jpg", "second": "v2/a.jpg"}
    assert [r.box for r in sample.regions["first"]] == [(1, 2, 3, 4), (5, 6, 7, 8)]


def test_lists_name_pairs_patients_and_lesions(tmp_path):
    photos(tmp_path, "images/a.jpg", "images/b.jpg")
    (tmp_path / "pairs.csv").write_text("first,second,patient_id,second_patient_id,split\na.jpg,b.jpg,p1,p2,test\n")
    (tmp_path / "boxes.csv").write_text(
        "filename,label,x1,y1,x2,y2,lesion_id\na.jpg,pimple,1,1,5,5,L1\nb.jpg,pimple,2,2,6,6,L1\n"
    )
    (sample,) = read(tmp_path).samples
    assert (sample.patient, sample.split) == ("p1", "test")
    assert sample.attributes["second_patient"] == "p2"
    assert sample.regions["first"][0].id == sample.regions["second"][0].id == "L1"


def test_states_are_read_and_must_not_contradict(tmp_path):
    photos(tmp_path, "a.jpg", "b.jpg")
    (tmp_path / "pairs.csv").write_text("first,second\na.jpg,b.jpg\n")
    head = "filename,label,x1,y1,x2,y2,lesion_id,state\n"
    (tmp_path / "boxes.csv").write_text(f"{head}a.jpg,pimple,1,1,5,5,,not_visible\nb.jpg,pimple,2,2,6,6,L1,\n")
    (sample,) = read(tmp_path).samples
    assert [sample.regions[role][0].state for role in ("first", "second")] == ["not_visible", ""]
    (tmp_path / "boxes.csv").write_text(f"{head}a.jpg,pimple,1,1,5,5,L1,gone\n")
    with pytest.raises(DataError, match=r"boxes.csv:2: state is 'gone'; write persistent, resolved"):
        read(tmp_path)
    (tmp_path / "boxes.csv").write_text(f"{head}a.jpg,pimple,1,1,5,5,L1,resolved\nb.jpg,pimple,2,2,6,6,L1,\n")
    with pytest.raises(DataError, match=r"a.jpg: lesion L1 is resolved, but both photos have a box of it"):
        read(tmp_path)


def test_a_series_of_one_person_gives_pairs_without_boxes(tmp_path):
    photos(tmp_path, *(f"images/{name}.jpg" for name in "abcd"))
    (tmp_path / "subjects.csv").write_text("filename,subject\na.jpg,s1\nb.jpg,s1\nc.jpg,s1\nd.jpg,s2\n")
    reading = read(tmp_path)
    assert [s.id for s in reading.samples] == ["a+b", "b+c", "a+c"]
    assert reading.problems[0].file == "images/d.jpg"


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("a.jpg,wart,1,1,5,5", "boxes.csv:2: unknown label 'wart'"),
        ("a.jpg,pimple,5,1,1,5", "boxes.csv:2: the box is empty"),
        ("a.jpg,pimple,5,1,x,5", "boxes.csv:2: the box is"),
        ("../a.jpg,pimple,1,1,5,5", "is no path below it"),
    ],
)
def test_a_wrong_row_is_named(tmp_path, row, message):
    photos(tmp_path, "a.jpg")
    (tmp_path / "boxes.csv").write_text(f"filename,label,x1,y1,x2,y2\n{row}\n")
    with pytest.raises(DataError, match=message):
        read(tmp_path)


def test_a_missing_photo_is_a_problem_not_a_loss(tmp_path):
    photos(tmp_path, "a.jpg")
    (tmp_path / "pairs.csv").write_text("first,second\na.jpg,gone.jpg\n")
    (tmp_path / "boxes.csv").write_text("filename,label,x1,y1,x2,y2\na.jpg,pimple,1,1,5,5\n")
    problem = read(tmp_path).problems[0]
    assert (problem.file, problem.row) == ("pairs.csv", 2)


def test_the_real_triples(shared_data):
    reading = read(shared_data / "faces" / "acne04" / "triples")
    assert len(reading.samples) == 135
    assert not reading.problems
    assert all(len(s.regions["first"]) == len(s.regions["second"]) for s in reading.samples)
