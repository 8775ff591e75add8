"""Age and sex by picture: a fact given to the wrong person changes that person's answer."""

from __future__ import annotations

import pytest

from derm_ml.data.sources.attributes import read_facts
from derm_ml.records import DataError


@pytest.mark.parametrize(
    "text",
    [
        "image_id,age_approximate,sex\nISIC_1,55,female\nISIC_2,unknown,\n",
        "filename,sex,age\nISIC_1.jpg,f,55\nISIC_2.png,,NA\n",
        "file,age,sex,more\na/ISIC_1.jpg,55,Female,x\nISIC_2.jpg,,unknown,y\n",
    ],
)
def test_lists_as_people_have_them(tmp_path, text):
    (tmp_path / "facts.csv").write_text(text)
    assert read_facts(tmp_path / "facts.csv") == {"ISIC_1": {"age": 55.0, "sex": "female"}, "ISIC_2": {}}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("age,sex\n55,male\n", "facts.csv:2: no image is named"),
        ("file,age\na.jpg,5\na.png,6\n", "facts.csv:3: a.png stands in this list twice"),
        ("file,age\na.jpg,555\n", "facts.csv:2: age is '555'"),
    ],
)
def test_a_wrong_list_is_refused_by_its_row(tmp_path, text, said):
    (tmp_path / "facts.csv").write_text(text)
    with pytest.raises(DataError, match=said):
        read_facts(tmp_path / "facts.csv")
