"""Reads a published set by its description: its tables, the images they list, and the facts beside them.

read_set(layout, tree, labels)   → Reading; nothing it lists or holds is passed over without a word
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from pathlib import Path, PurePosixPath
from typing import Literal

from derm_ml.data.sources.attributes import attributes_of
from derm_ml.data.sources.csv_table import TableRow, read_csv
from derm_ml.data.sources.image_files import distinct_ids, image_files, unlisted
from derm_ml.data.sources.image_index import ImageIndex, same_bytes, several
from derm_ml.data.sources.labels import LabelMap
from derm_ml.data.sources.published import FoundTable, ImageColumn, Published, facts_of, layouts
from derm_ml.data.sources.split_names import row_split
from derm_ml.data.sources.table_labels import NO_LABEL, label_of, said_by_name
from derm_ml.data.sources.text_files import quoted
from derm_ml.records import DataError, Problem, Reading, Sample
from derm_ml.tree import Tree

MASK = "a mask or superpixel file, for which this task has no use"
NO_IMAGE = "listed without an image"


@dataclass
class _Found:
    """What the tables read so far have given."""

    samples: list[Sample] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)
    left_out: Counter[str] = field(default_factory=Counter)
    set_aside: dict[str, str] = field(default_factory=dict)  # image → why it takes no part
    claimed: dict[str, str] = field(default_factory=dict)  # image → the table that listed it
    targets: dict[str, tuple[str, Mapping[str, float]]] = field(default_factory=dict)  # stem → image, what it shows

    def has(self, tree: Tree, image: str, target: Mapping[str, float], row: TableRow) -> bool:
        """Whether another table has listed the same image, in another folder; it is counted.

        Raises `DataError` if the two say different things of it.
        """
        stem = Path(image).stem.casefold()
        first, said = self.targets.setdefault(stem, (image, target))
        if first == image or not same_bytes(tree, first, image):
            return False
        if repr(said) != repr(target):  # NaN is like NaN here
            raise row.error(
                f"{quoted(image)} is the same image as {first}, with another label", "remove one of the two"
            )
        self.set_aside[image] = f"a copy of an image in {PurePosixPath(first).parent}"
        return True


@dataclass(frozen=True)
class PublishedSet:
    """A published set as a layout among others."""

    description: Published

    def recognise(self, tree: Tree, labels: LabelMap) -> bool:
        """Whether one of its tables lies in this folder, under its published name."""
        return self.description.recognise(tree, labels)

    def read(self, tree: Tree, labels: LabelMap) -> Reading:
        """`read_set` of it."""
        return read_set(self.description, tree, labels)


def layouts_about(what: Literal["skin", "retina"]) -> dict[str, PublishedSet]:
    """Name → layout of every published set about that."""
    return {name: PublishedSet(found) for name, found in layouts().items() if found.about == what}


def read_set(layout: Published, tree: Tree, labels: LabelMap) -> Reading:
    """Read every table of a set that is there.

    Raises `DataError` for a part whose table or folder is missing, and for a table that is wrong, by file and row.
    """
    tables = [t for t in layout.found(tree) if not t.table.optional or _has_folder(t, tree)]
    orphan = next(layout.orphans(tree), None)
    if orphan:
        folder, table = orphan
        raise DataError(f"{tree.root / folder} has no ground truth; put {table} beside it, or remove the folder")
    if not tables:
        names = ", ".join(file for table in layout.tables for file in table.files)
        raise DataError(f"{tree.root}: there is none of {names}; get {layout.title} from its page (`derm fetch list`)")
    found = _Found(set_aside=dict(_others(layout, tree)))
    seen: dict[str, list[str]] = {}  # image folder → its files, of which several tables may list some
    for table in tables:
        files, odd, where = _images_of(table, tree, found.set_aside, several_tables=len(tables) > 1)
        found.problems += [problem for problem in odd if problem not in found.problems]
        _read_table(layout, table, tree, labels, files, where, found)
        seen.setdefault(where, []).extend(files)
    _unlisted(tree, tables, {file for files in seen.values() for file in files}, found)
    ids = distinct_ids([next(iter(s.files.values())) for s in found.samples])
    samples = tuple(replace(s, id=name) for s, name in zip(found.samples, ids, strict=True))
    return Reading(samples, tuple(found.problems), dict(found.left_out), set_aside=found.set_aside)


def _others(layout: Published, tree: Tree) -> Iterator[tuple[str, str]]:
    """(image, what it is) of folders of the publication that are no images of the set."""
    for pattern, what in layout.others.items():
        for folder in _matching(tree, pattern):
            for file in image_files(tree, folder, deep=True)[0]:
                yield file, what


def _has_folder(found: FoundTable, tree: Tree) -> bool:
    return any(_matching(tree, pattern) for pattern in found.filled(found.table.folders))


def _images_of(
    found: FoundTable, tree: Tree, aside: dict[str, str], several_tables: bool
) -> tuple[list[str], list[Problem], str]:
    """The images a table may list, and where they are: in the first of its folders that has any, else anywhere."""
    wanted = found.filled(found.table.folders)
    there = [folders for pattern in wanted if (folders := _matching(tree, pattern))]
    own = bool(found.part and several_tables and len(wanted) == 1)  # looking anywhere would take other parts' images
    for folders in there or ([] if own else [[""]]):
        images: list[str] = []
        problems: list[Problem] = []
        for folder in folders:
            files, odd = image_files(tree, folder, deep=True)
            aside |= {file: MASK for file in files if _ignored(file, found.table.ignore)}
            images += [file for file in files if file not in aside]
            problems += odd if folder else []
        if images:
            return images, problems, " or ".join(folders) if there else "any folder below"
    missing = f"the folder {(wanted or ['with them'])[0].strip('*')} is not there"
    empty = f"{' and '.join(there[0])} holds none" if there else missing
    raise DataError(f"{tree.root / found.path} lists images, but {empty}; unpack the images there")


def _matching(tree: Tree, pattern: str) -> list[str]:
    """The folders that a pattern of the description means, whatever their case."""
    found = [""]
    for part in PurePosixPath(pattern).parts:
        found = [
            inner
            for folder in found
            for inner in tree.folders(folder)
            if fnmatchcase(PurePosixPath(inner).name.lower(), part.lower())
        ]
    return found


def _ignored(file: str, names: list[str]) -> bool:
    return any(fnmatchcase(Path(file).stem.lower(), name) for name in names)


def _read_table(
    layout: Published,
    found_table: FoundTable,
    tree: Tree,
    labels: LabelMap,
    files: list[str],
    where: str,
    found: _Found,
) -> None:
    table, path = found_table.table, tree.root / found_table.path
    columns = [c if isinstance(c, ImageColumn) else ImageColumn(column=c) for c in table.image]
    required = [columns[0].column, *table.one_hot, *table.findings, *table.grades, *table.absent]
    required += [*(table.diagnosis if len(table.diagnosis) == 1 else ()), *([table.once] if table.once else [])]
    rows = read_csv(
        path,
        list(map(str.lower, required)),
        unique="" if len(columns) > 1 else columns[0].column.lower(),
        any_separator=True,
        header=table.header,
        titled=table.titled,
    )
    index = ImageIndex(tree, files)
    facts = _Facts(found_table, tree)
    by_row = _row_splits(found_table, tree)
    for number, row in enumerate(_once(rows, table.once)):
        for name, what in table.also.items():
            for other in index.find(row.get(name.lower())) if row.get(name.lower()) else ():
                found.set_aside[other] = what
        for column in columns:
            row_of = facts.joined(row, column.column.lower())
            given = row_of.get(column.column.lower())
            if not given:
                continue  # a case with fewer pictures than columns
            label = label_of(layout, table, labels, row_of, column)
            image = index.find(given)
            if label.left_out:
                said = {label.left_out: 0.0}
                if label.left_out != NO_LABEL and len(image) == 1 and found.has(tree, image[0], said, row):
                    continue  # counted once, however many tables list it
                found.left_out[label.left_out] += 1
                found.set_aside |= dict.fromkeys(image, label.reason)
                continue
            if len(image) > 1:
                raise row.error(f"{quoted(given)} {several(image)}", "write its path, or remove one")
            if not image:
                _missing(layout, found_table, given, row, where, found)
                continue
            if image[0] in found.claimed:
                raise row.error(
                    f"image {quoted(given)} stands in {found.claimed[image[0]]} already", "remove one of the two rows"
                )
            found.claimed[image[0]] = found_table.path
            if found.has(tree, image[0], label.target, row):
                continue
            split = row_split(row_of, table.split.lower()) or by_row.get(number, "") or found_table.split
            about = facts.about(row, column.column.lower(), table.attributes) | dict(label.about)
            found.samples.append(
                Sample(
                    given,
                    {"image": image[0]},
                    label.target,
                    patient=_cell(row_of, table.patient) or said_by_name(table, row_of, column, "patient"),
                    lesion=_cell(row_of, table.lesion),
                    split=split if label.target else "",
                    attributes=about,
                    licence=_cell(row_of, table.licence) or "unknown",
                    listed_in=found_table.path,
                    row=row.line,
                    named=label.named,
                )
            )
    facts.note_used(rows)
    found.problems += facts.unknown({Path(r[columns[0].column.lower()]).stem for r in rows if len(columns) == 1})


def _once(rows: list[TableRow], column: str) -> list[TableRow]:
    return list({row.get(column.lower()): row for row in reversed(rows)}.values())[::-1] if column else rows


def _cell(row: TableRow, column: str) -> str:
    return row.get(column.lower()) if column else ""


def _missing(layout: Published, table: FoundTable, given: str, row: TableRow, where: str, found: _Found) -> None:
    if layout.incomplete:  # the publisher gives addresses, of which some are dead
        found.left_out[NO_IMAGE] += 1
        return
    found.problems.append(Problem(table.path, f"image {quoted(given)} is not in {where}; add it", row.line))


class _Facts:
    """The tables of facts beside a table, joined by the image's name."""

    def __init__(self, found: FoundTable, tree: Tree) -> None:
        self._tables: list[tuple[str, str, dict[str, TableRow]]] = []
        self._codes = {column.lower(): codes for column, codes in found.table.values.items()}
        for facts, path in facts_of(found, tree):
            column = facts.image.lower()
            rows = read_csv(tree.root / path, (column,), unique=column, any_separator=True)
            self._tables.append((path, column, {Path(row[column]).stem: row for row in rows}))

    def joined(self, row: TableRow, column: str) -> TableRow:
        """The row with the columns of its facts, and with publishers' codes in words."""
        values = dict(self._in_words(row).values)
        for other in self._of(row, column):
            values = {**other.values, **values}
        return replace(row, values=values)

    def about(self, row: TableRow, column: str, columns: Mapping[str, str]) -> dict[str, str | float]:
        """The attributes of an image; a value that is wrong is named where it stands."""
        found: dict[str, str | float] = {}
        for one in (self._in_words(row), *self._of(row, column)):
            found = attributes_of(one, {name: c for name, c in columns.items() if c in one.values}) | found
        return found

    def note_used(self, rows: list[TableRow]) -> None:
        """What was asked of a joined row was asked of the list that had it."""
        for row in rows[:1]:
            for _, _, others in self._tables:
                for other in itertools.islice(others.values(), 1):
                    other.used.update(row.used - row.values.keys())

    def _of(self, row: TableRow, column: str) -> list[TableRow]:
        keys = [(rows, row.values.get(key if key in row.values else column, "")) for _, key, rows in self._tables]
        return [rows[stem] for rows, name in keys if (stem := Path(name).stem) in rows]

    def _in_words(self, row: TableRow) -> TableRow:
        codes = {name: known[value] for name, known in self._codes.items() if (value := row.get(name)) in known}
        return replace(row, values={**row.values, **codes}) if codes else row

    def unknown(self, listed: set[str]) -> list[Problem]:
        """A problem for each image that only a table of facts names."""
        if not listed:
            return []
        return [
            Problem(path, f"image {quoted(name)} has no ground truth", row.line)
            for path, _, rows in self._tables
            for name, row in rows.items()
            if name not in listed
        ]


def _row_splits(found: FoundTable, tree: Tree) -> dict[int, str]:
    """Row number (from 0) → split, from the lists of row numbers beside a table."""
    splits: dict[int, str] = {}
    for file, split in found.table.rows.items():
        if tree.has_file(file):
            for row in read_csv(tree.root / file, ()):
                number = row.number(list(row.values)[-1], 0, 10**7)
                if number is not None:
                    splits[int(number)] = split
    return splits


def _unlisted(tree: Tree, tables: list[FoundTable], files: set[str], found: _Found) -> None:
    """A problem for each image no table lists; a copy of a listed one is counted instead."""
    placed = [*found.claimed, *found.set_aside]
    left = sorted(files.difference(placed))
    stems = {Path(file).stem.casefold() for file in placed}
    doubtful = [file for file in left if Path(file).stem.casefold() in stems]
    index = ImageIndex(tree, [*placed, *doubtful])
    for file in doubtful:
        if alike := [other for other in index.copies(file) if other not in doubtful]:
            found.set_aside[file] = f"a copy of an image in {PurePosixPath(alike[0]).parent}"
    names = " or ".join(dict.fromkeys(table.path for table in tables))
    found.problems += unlisted({file: file for file in left if file not in found.set_aside}, set(), names)
