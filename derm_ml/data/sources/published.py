"""Data sets as their publishers offer them: what `layouts.yaml` says of each, and whether a folder is one.

A published set is images and tables: a column with the image's name, columns with the label (a diagnosis, one 0/1
column a class, a grade, findings), columns of facts, and folders. One entry of `layouts.yaml` describes such a set;
`published_table.py` reads any of them. To add a set, add an entry, a row of its test, and a row of docs/layouts.md.

    layout = layouts()["isic2019"]
    layout.recognise(tree, labels)          whether one of its tables lies in this folder, under its published name
    published_set.read_set(layout, tree, labels)       → Reading
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path, PurePosixPath
from typing import Literal

import yaml
from pydantic import BaseModel, ConfigDict

from derm_ml.data.sources.csv_table import columns_of
from derm_ml.data.sources.labels import LabelMap
from derm_ml.tree import Tree

_FILE = Path(__file__).with_name("layouts.yaml")
PART = "{part}"


class _Entry(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Facts(_Entry):
    """A second table about the same images: ages, sites, lesions. Joined by the image's name, or by `on`."""

    files: list[str]
    image: str = "image"
    required: bool = False  # without it the images cannot be placed (a case's table that names no image)


class ImageColumn(_Entry):
    """A column that names an image; where a row has one for each eye, which eye it is and what is said of it."""

    column: str
    eye: str = ""
    keywords: str = ""


class Table(_Entry):
    """One table of a set. Column names are compared in lower case."""

    files: list[str]  # as published; {part} stands for a key of `parts`. Also looked for in a folder of that name
    parts: dict[str, str] = {}  # what {part} may be → split
    belongs_to: str = ""  # the split of a table that is one
    columns: list[str] = []  # that must be there: only where other sets use the same file name
    any_of: list[str] = []  # of which one must be there
    optional: bool = False  # passed over where none of its folders is there
    header: list[str] = []  # of a table that is published without one
    titled: bool = False  # a sheet with a title and legends above its header, which is the line with the image column
    instead_of: list[str] = []  # the same list in another form: where one of these is there, this one is not read
    folders: list[str] = []  # where the images are (* is any text), the first that is there; else anywhere below
    ignore: list[str] = []  # names (without suffix, * is any text) that are no sample: masks, superpixels
    image: list[str | ImageColumn]
    also: dict[str, str] = {}  # column that names another image of the row → what it is; counted, not read
    once: str = ""  # a column whose value is read once: rows that repeat it say the same
    name: str = ""  # a pattern of image names: groups `patient` and `eye`
    diagnosis: list[str] = []  # columns, the first that says something counts
    weighted: str = ""  # column with {name: weight} as text: the heaviest counts
    one_hot: list[str] = []  # columns of 0 and 1, of which one is 1
    crossed: bool = False  # of `one_hot`: an x is 1, an empty cell 0
    neither: str = ""  # the diagnosis of a row in which none is 1
    names: dict[str, str] = {}  # code → diagnosis
    malignancy: list[str] = []  # columns in which the publisher says malignant or benign
    malignant: list[str] = ["malignant"]  # its values (lower case) that mean so; `…/malignant` counts, too
    benign: list[str] = ["benign"]
    findings: dict[str, str] = {}  # retina: column of 0 and 1 → finding
    absent: dict[str, str] = {}  # retina: column that is 0 where the finding is there: no disease at all → normal
    grades: dict[str, str] = {}  # retina: column of 0, 1, 2 … → finding; from 1 on it is there
    keywords: dict[str, list[str]] = {}  # finding → what an eye's keywords hold where that eye has it
    patient: str = ""
    lesion: str = ""
    eye: str = ""
    split: str = ""  # column
    rows: dict[str, str] = {}  # a list of row numbers (from 0) in its first column → split
    facts: list[Facts] = []
    attributes: dict[str, str] = {}  # attribute → column, beside those every table is asked for
    values: dict[str, dict[str, str]] = {}  # column → code → what it means
    licence: str = ""  # column
    unlabelled: bool = False  # a list of test images without labels

    def is_it(self, tree: Tree, path: str) -> bool:
        """Whether the file has the columns by which this table is told from others of its name."""
        if not self.columns and not self.any_of:
            return True
        header = columns_of(tree.root / path)
        wanted, some = ({*map(str.lower, names)} for names in (self.columns, self.any_of))
        return wanted <= header and (not some or bool(some & header))


class Published(_Entry):
    """One published set."""

    name: str
    title: str
    about: Literal["skin", "retina"]
    tables: list[Table]
    open_ended: bool = False  # has diagnoses beyond any list: those nobody knows are left out and counted
    others: dict[
        str, str
    ] = {}  # folders (* is any text) of the same publication that are no images of it → what they are
    incomplete: bool = False  # lists images that the publisher does not give (addresses that may be dead)

    def recognise(self, tree: Tree, labels: LabelMap) -> bool:
        return next(self.found(tree), None) is not None or any(True for _ in self.orphans(tree))

    def found(self, tree: Tree) -> Iterator[FoundTable]:
        """The tables that are there, in the order in which they are declared; each file once."""
        seen: set[str] = set()
        for table in self.tables:
            if any(tree.has_file(place) for file in table.instead_of for place in _places(file)):
                continue
            for part in table.parts or [""]:
                files = [place for file in table.files for place in _places(file.replace(PART, part))]
                path = next((p for p in files if tree.has_file(p) and p not in seen and table.is_it(tree, p)), None)
                if path:
                    seen.add(path)
                    yield FoundTable(table, path, part)

    def orphans(self, tree: Tree) -> Iterator[tuple[str, str]]:
        """(image folder, table) of each part whose own folder is there and whose table is not."""
        parts = {found.part for found in self.found(tree)}
        for table in self.tables:
            for part in table.parts:
                for folder in table.folders:
                    own = folder.replace(PART, part)
                    if PART in folder and "*" not in folder and part not in parts and tree.has_folder(own):
                        yield own, table.files[0].replace(PART, part)


@dataclass(frozen=True, slots=True)
class FoundTable:
    """A table of a set, where it lies, and which part of the set it is ("" for the whole)."""

    table: Table
    path: str
    part: str

    @property
    def split(self) -> str:
        return self.table.parts.get(self.part, "") or self.table.belongs_to

    def filled(self, texts: list[str]) -> list[str]:
        """Names with {part} filled in."""
        return [text.replace(PART, self.part) for text in texts]


@cache
def layouts() -> dict[str, Published]:
    """Name → description of every published set, in the order of the file."""
    entries = yaml.safe_load(_FILE.read_text(encoding="utf-8"))
    return {name: Published(name=name, **entry) for name, entry in entries.items()}


def facts_of(found: FoundTable, tree: Tree) -> Iterator[tuple[Facts, str]]:
    """(its description, path) of each table of facts that is there."""
    for facts in found.table.facts:
        places = [place for file in found.filled(facts.files) for place in _places(file)]
        path = next((place for place in places if tree.has_file(place)), None)
        if path:
            yield facts, path


def _places(file: str) -> list[str]:
    """A table lies where it is published, or in the folder its archive unpacks to; in lower case on some mirrors."""
    path = PurePosixPath(file)
    inner = str(path.parent / path.stem / path.name) if path.suffix else ""
    return [place for one in (file, inner) if one for place in dict.fromkeys((one, one.lower()))]
