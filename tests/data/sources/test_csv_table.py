"""A wrong list must stop the line before training, and say in which line of which file to look."""

from __future__ import annotations

import re

import pytest

from derm_ml.data.sources.csv_table import read_csv
from derm_ml.records import DataError

COLUMNS = ("filename", "label")


@pytest.fixture
def table(tmp_path):
    def write(content: str | bytes):
        path = tmp_path / "labels.csv"
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    return write


@pytest.mark.parametrize(
    "content",
    [
        "filename,label\na.jpg,nevus\n",
        "\ufefffilename,label\na.jpg,nevus\n",  # Excel's byte-order mark
        "filename,label\r\na.jpg,nevus\r\n\r\n",
        " Filename , LABEL \na.jpg , nevus\n",
        'filename,label\n"a.jpg","nevus"',
        "label,note,filename\nnevus,,a.jpg\n",
    ],
)
def test_what_spreadsheets_write_is_read(table, content):
    (row,) = read_csv(table(content), COLUMNS)
    assert (row["filename"], row["label"], row.line) == ("a.jpg", "nevus", 2)


@pytest.mark.parametrize(
    ("content", "line", "message"),
    [
        ("", 1, "empty"),
        ("\n\n", 1, "empty"),
        ("filename,label\n", 1, "no row below the header"),
        ("filename,diagnosis\na.jpg,nevus\n", 1, "missing column label; rename diagnosis to label in this line"),
        ("filename,grade\na.jpg,nevus\n", 1, "missing column label; the header has: filename, grade"),
        ("filename;label\na.jpg;nevus\n", 1, "separate the columns by commas"),
        ("filename\tlabel\na.jpg\tnevus\n", 1, "separate the columns by commas"),
        ("filename,label,label\na.jpg,nevus,nevus\n", 1, "column label is duplicated"),
        ("filename,label\na.jpg,nevus\nb.jpg\n", 3, "1 values for 2 columns"),
        ("filename,label\na.jpg,nevus,x\n", 2, "3 values for 2 columns"),
        ("filename,label\na.jpg,nevus\na.jpg,nevus\n", 3, "'a.jpg' stands on line 2 already"),
        ("filename,label\n,nevus\n", 2, "filename is empty"),
        ('filename,label\na.jpg,"nevus\n', 2, "quotation marks"),
        ('filename,label\n"a.jpg"x,nevus\n', 2, "quotation marks"),
        ("filename,label\na.jpg,nevus\nb.jpg,n\xe6vus\n".encode("latin-1"), 3, "not UTF-8"),
        ("filename,label\na.jpg,nevus\n".encode("utf-16"), 1, "not UTF-8"),
        ("filename,label\na.jpg,nevus\n".encode("utf-16-le"), 1, "binary zeros"),
        (b"filename,label\na.jpg,ne\0vus\n", 2, "binary zeros"),
    ],
)
def test_a_wrong_list_is_refused_with_file_and_line(table, content, line, message):
    path = table(content)
    with pytest.raises(DataError, match=re.escape(message)) as caught:
        read_csv(path, COLUMNS, unique="filename")
    assert str(caught.value).startswith(f"{path}:{line}: ")


def test_lines_are_counted_through_quoted_line_breaks(table):
    rows = read_csv(table('filename,label,note\na.jpg,nevus,"two\nlines"\nb.jpg,nevus,\n'), COLUMNS)
    assert [row.line for row in rows] == [3, 4]


@pytest.mark.parametrize("text", ["unknown", "", "NA", "nan", "None", "?"])
def test_unknown_is_no_number(table, text):
    (row,) = read_csv(table(f"filename,label,age\na.jpg,nevus,{text}\n"), COLUMNS)
    assert row.number("age", 0, 120) is None


@pytest.mark.parametrize("text", ["old", "-1", "121", "inf", "5O"])
def test_a_number_that_is_none_is_refused(table, text):
    """`5O` for 50 read as missing would be a silent change of the data."""
    (row,) = read_csv(table(f"filename,label,age\na.jpg,nevus,{text}\n"), COLUMNS)
    with pytest.raises(DataError, match=rf"labels\.csv:2: age is '{text}'"):
        row.number("age", 0, 120)
