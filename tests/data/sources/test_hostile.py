"""What a delivery may hold without harm: links, pipes, names and lists made to break a reader.

Each ends in one sentence or a named problem; nothing outside the folder is read, and an error quotes little of a file.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import tarfile
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from derm_ml.data.dataset import Dataset
from derm_ml.data.sources import PAIR_LAYOUTS, read_source
from derm_ml.records import DataError
from derm_ml.synthetic.lesions import draw_lesion

LABELS = ("benign", "malignant")
LONG = "ảnh chụp da liễu bệnh nhân nữ năm mươi tuổi vùng má trái nghi ngờ ung thư hắc tố lần khám thứ hai"


def image(path: Path, seed: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    drawn = draw_lesion("nevus", seed=seed, side=48, width=64).image
    path.write_bytes(cv2.imencode(".png", np.ascontiguousarray(drawn[..., ::-1]))[1].tobytes())


@pytest.fixture(scope="module")
def odd_folder(tmp_path_factory) -> Path:
    """Twelve images in class folders, two with long names, and one of everything that is no image of this study."""
    place = tmp_path_factory.mktemp("odd")
    raw = place / "raw"
    for k in range(12):
        image(raw / ("benign", "malignant")[k % 2] / f"{k}.png", k)
    image(raw / "benign" / f"{LONG}.png", 50)
    image(raw / "malignant" / f"{'x' * 92}.png", 51)
    image(raw / "benign" / "folder.png" / "inside.png", 52)
    image(place / "other study" / "secret.png", 60)
    (raw / "benign" / "theirs.png").symlink_to(place / "other study" / "secret.png")
    (raw / "benign" / "gone.png").symlink_to("nowhere.png")
    (raw / "malignant" / "theirs").symlink_to(place / "other study")
    (raw / "labels.csv").symlink_to("/etc/passwd")
    for folder in (raw, raw / "benign"):
        for name in "ab":
            (folder / name).symlink_to(".")
    os.mkfifo(raw / "malignant" / "pipe.png")
    Path(os.fsdecode(os.fsencode(raw) + b"/benign/caf\xe9.png")).write_bytes(b"x")
    return raw


def prepare(raw: Path, out: Path, params: str) -> subprocess.CompletedProcess[str]:
    (out.parent / "params.yaml").write_text(f"tasks:\n  malignancy_screening: {params}\n")
    command = [sys.executable, "-m", "derm_ml.cli", "prepare", "malignancy_screening"]
    command += ["--raw", str(raw), "--out", str(out), "--params", str(out.parent / "params.yaml")]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)


def test_a_folder_with_everything_odd_in_it_is_prepared_without_what_is_not_of_it(odd_folder, tmp_path):
    """Images of another study became part of a dataset, and two links in a circle never ended."""
    done = prepare(odd_folder, tmp_path / "prepared", "{store_side: 64}")
    assert done.returncode == 1, done.stderr  # prepared, but so many were quarantined that a blocking check is red
    assert "images_decode: 15 images intact, 11 quarantined" in done.stderr
    manifest = pd.read_parquet(tmp_path / "prepared" / "manifest.parquet")
    assert {LONG, "x" * 92, "inside"} <= set(manifest["id"])
    assert len(manifest) == 15
    dataset = Dataset.open(tmp_path / "prepared")  # names longer than a tar of 1988 has room for
    assert all(dataset.image(row).shape == (48, 64, 3) for row in manifest.to_dict("records"))
    with tarfile.open(tmp_path / "prepared" / "shards" / "00000.tar") as shard:
        assert f"{LONG}.image.png" in shard.getnames()
    found = pd.read_csv(tmp_path / "prepared" / "quarantine.csv").set_index("file")["reason"]
    expected = {
        "benign/theirs.png": "leaves the folder",
        "benign/gone.png": "leads nowhere",
        "malignant/theirs": "leaves the folder",
        "labels.csv": "leaves the folder",
        "a": "read already",
        "benign/b": "read already",
        "malignant/pipe.png": "named pipe",
        "benign/caf\\xe9.png": "not UTF-8",
        "benign/folder.png": "a folder with the name of an image",
    }
    assert {file: word for file, word in expected.items() if word not in found[file]} == {}
    assert "root:" not in done.stdout + done.stderr


def test_links_out_of_the_raw_folder_are_read_where_the_setting_allows_them(odd_folder):
    """People link large sets; they say so."""
    reading = read_source(odd_folder, "class_folders", labels=LABELS, follow_links=True)
    assert {"benign/theirs.png", "malignant/theirs/secret.png"} <= {s.files["image"] for s in reading.samples}


def test_a_list_that_is_a_link_is_not_read_and_not_quoted(tmp_path):
    """The first line of /etc/passwd stood in the error."""
    raw = tmp_path / "raw"
    raw.mkdir()
    (raw / "labels.csv").symlink_to("/etc/passwd")
    with pytest.raises(DataError, match=r"labels\.csv, is a link that leaves the folder") as caught:
        read_source(raw, labels=LABELS)
    assert "root:" not in str(caught.value)


DEEP = "[" * 100_000
HUGE = "9" * 5_000
LISTS = {
    "a header of a million columns": ("labels.csv", "filename,label" + "," * 1_000_000),
    "a header that is a text": ("labels.csv", "x" * 900_000 + "\na\n"),
    "a row that never ends": ("labels.csv", 'filename,label\n"' + "x\n" * 2_000_000),
    "a value of 100,000 characters": ("labels.csv", f"filename,label\na.png,{'x' * 100_000}\n"),
    "a label with escape codes": ("labels.csv", "filename,label\na.png,\x1b[2J\n"),
    "an age of 5,000 digits": ("labels.csv", f"filename,label,age\na.png,benign,{HUGE}\n"),
    "an age of 1e999": ("labels.csv", "filename,label,age\na.png,benign,1e999\n"),
    "an age of 5_0": ("labels.csv", "filename,label,age\na.png,benign,5_0\n"),
    "a name with a zero": ("labels.csv", "filename,label\na\0.png,benign\n"),
    "a licence nested without end": ("source.json", '{"licence": ' + DEEP),
    "a licence of 5,000 digits": ("source.json", '{"licence": ' + HUGE + "}"),
    "a licence that is a list": ("source.json", '{"licence": ["CC-0"]}'),
}


@pytest.mark.parametrize("case", LISTS)
def test_a_list_made_to_break_a_reader_is_one_short_sentence(lay, case):
    name, content = LISTS[case]
    root = lay({"labels.csv": "filename,label\na.png,benign\n", "a.png": "", name: content})
    with pytest.raises(DataError) as caught:
        read_source(root, labels=LABELS)
    said = str(caught.value)
    assert said.startswith(str(root / name))
    assert len(said) < len(str(root)) + 700
    assert said.isprintable()


def coco(**changes: object) -> str:
    table: dict = {
        "images": [{"id": 1, "file_name": "a.png"}],
        "categories": [{"id": 1, "name": "benign"}],
        "annotations": [{"id": 1, "image_id": 1, "category_id": 1, "bbox": [1, 2, 3, 4]}],
    }
    for where, value in changes.items():
        part, _, key = where.partition("__")
        table[part] = [{**table[part][0], key: value}] if key else value
    return json.dumps(table)


def scinet(value: object) -> str:
    entry = {"condition": "Detected", "label": "benign", "bounding_boxes": "1,2,3,4"}
    row = {"image_path": "a.png", "image_details": {"annotation": [entry]}}
    return json.dumps([{**row, **value} if isinstance(value, dict) else value])


BOXES = {
    "nested without end": ("b.json", DEEP),
    "a number of 5,000 digits": ("b.json", HUGE),
    "not a number": ("b.json", '{"images": NaN}'),
    "not UTF-8": ("b.json", b"\xff\xfe{}"),
    "an image that is a number": ("b.json", coco(images__file_name=7)),
    "an image that is null": ("b.json", coco(images__file_name=None)),
    "an image that is a list": ("b.json", coco(images__file_name=["a.png"])),
    "an image above": ("b.json", coco(images__file_name="../a.png")),
    "a label that is a number": ("b.json", coco(categories__name=3)),
    "a label that is a list": ("b.json", coco(categories__name=["benign"])),
    "an id that is a list": ("b.json", coco(images__id=[1])),
    "a box that is a text": ("b.json", coco(annotations__bbox="1234")),
    "a box of texts": ("b.json", coco(annotations__bbox=["a", "b", "c", "d"])),
    "a box of 400 digits": ("b.json", coco(annotations__bbox=[0, 0, 10**400, 1])),
    "a box of five": ("b.json", coco(annotations__bbox=[1, 2, 3, 4, 5])),
    "images that are a number": ("b.json", coco(images=3)),
    "annotations that are null": ("b.json", coco(annotations=None)),
    "a path that is a number": ("b.json", scinet({"image_path": 7})),
    "details that are nested without end": ("b.json", scinet({"image_details": DEEP})),
    "details that are a number of 5,000 digits": ("b.json", scinet({"image_details": HUGE})),
    "details that are a list": ("b.json", scinet({"image_details": [1]})),
    "XML in no encoding": ("a.xml", '<?xml version="1.0" encoding="nonsense"?><annotation/>'),
    "XML in a wide encoding": ("a.xml", '<?xml version="1.0" encoding="utf-7"?><annotation/>'),
    "XML that ends early": ("a.xml", "<annotation>" + "<object>" * 10),
    "XML with a box of words": ("a.xml", "<annotation><object><name>benign</name></object></annotation>"),
    "XML with another root": ("a.xml", f"<{'x' * 5_000}/>"),
    "a corner of 5,000 digits": ("boxes.csv", f"filename,label,x1,y1,x2,y2\na.png,benign,0,0,{HUGE},1\n"),
}


@pytest.mark.parametrize("case", BOXES)
def test_boxes_made_to_break_a_reader_are_one_short_sentence(lay, case):
    name, content = BOXES[case]
    root = lay({"a.png": "", name: content})
    with pytest.raises(DataError) as caught:
        read_source(root, labels=LABELS, layouts=PAIR_LAYOUTS)
    said = str(caught.value)
    assert said.startswith(str(root / name))
    assert len(said) < len(str(root)) + 400


anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["id", "file_name", "name", "bbox", "image_path", "image_details"]), inner)
    ),
    max_leaves=12,
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(st.fixed_dictionaries({"images": anything, "categories": anything, "annotations": anything}) | anything)
def test_no_json_is_more_than_a_sentence(lay, table):
    root = lay({"a.png": "", "b.json": json.dumps(table)})
    with contextlib.suppress(DataError):
        read_source(root, labels=LABELS, layouts=PAIR_LAYOUTS)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(st.binary(max_size=200))
def test_no_bytes_are_more_than_a_sentence(lay, content):
    root = lay({"a.png": "", "labels.csv": b"filename,label\n" + content})
    with contextlib.suppress(DataError):
        read_source(root, labels=LABELS)
