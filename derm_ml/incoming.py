"""Takes a delivered batch of labelled images into a task's raw folder.

    read (layout, lists) → decode every image → leave out what is broken or already there → append, whole or not

The batch may have any layout the task reads. It becomes `raw/batches/<batch>-<content>`, a source of its own;
the same content again changes nothing. What was left out is listed with its reason.

    intake = take_in(task, Path("data/incoming/lesion_classification/2026-11-20"), raw, settings)
"""

from __future__ import annotations

import csv
import shutil
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from derm_ml.files import folder_md5, replacing_folder, sha256
from derm_ml.images.decode import INGEST_FORMATS, ImageError, decode, decode_mask, read_image_file
from derm_ml.records import DataError, Problem, Sample
from derm_ml.task import PrepareSettings, Task

ALREADY_THERE = "the same file is there already"


@dataclass(frozen=True, slots=True)
class Intake:
    """What became of a batch: usable samples taken, files left out and why, and where the rest went.

    `folder` is None where nothing was new: the batch had been delivered before.
    """

    content: str
    delivered: int
    taken: int
    left_out: tuple[Problem, ...]
    folder: Path | None

    @property
    def duplicates(self) -> int:
        return sum(ALREADY_THERE in p.reason for p in self.left_out)


def take_in(task: Task, batch: Path, raw: Path, settings: PrepareSettings) -> Intake:
    """Validate a batch and append it to `raw`.

    Raises `DataError`, with nothing appended: for a list that is wrong (naming file and line), for a batch
    without images, for one of which nothing can be used, and for a `raw` folder batches cannot lie in.
    """
    reading = task.read(batch, settings)
    if not reading.samples and not reading.problems:
        raise DataError(f"{batch}: the batch holds no labelled image; put images and their labels into it")
    content = folder_md5(batch).removesuffix(".dir")
    known = _Known(raw)
    problems, good = list(reading.problems), 0
    dropped = {problem.file for problem in problems}
    for sample in sorted(reading.samples, key=lambda s: s.id):
        problem = _broken(batch, sample) or known.again(batch, sample)
        if problem:
            problems.append(problem)
            dropped.update(sample.files.values())  # a mask is of no use without its picture
        else:
            good += 1
    delivered = len(reading.samples) + len(reading.problems)
    intake = Intake(content, delivered, good, tuple(problems), raw / "batches" / f"{batch.name}-{content[:8]}")
    if intake.duplicates == len(problems) and not good:
        return Intake(content, delivered, 0, tuple(problems), None)
    if not good:
        first = f"{problems[0].file}: {problems[0].reason}"
        raise DataError(f"{batch}: none of its {delivered} images can be used; the first is {first}")
    _append(task, batch, intake, dropped, raw, settings)
    return intake


def _broken(batch: Path, sample: Sample) -> Problem | None:
    for role, relative in sample.files.items():
        read = decode_mask if role == "mask" else decode
        try:
            read(read_image_file(batch / relative), INGEST_FORMATS)
        except FileNotFoundError:
            return Problem(relative, "the file is listed but missing")
        except ImageError as error:
            return Problem(relative, str(error))
    return None


class _Known:
    """Which files are there already, by content. Only files of equal size are ever hashed."""

    def __init__(self, raw: Path) -> None:
        self._by_size: dict[int, list[Path]] = defaultdict(list)
        self._hashes: dict[Path, str] = {}
        for path in sorted(raw.rglob("*")):
            if path.is_file():
                self._by_size[path.stat().st_size].append(path)

    def again(self, batch: Path, sample: Sample) -> Problem | None:
        """A problem if all files of the sample are known; else they are remembered, for the rest of the batch."""
        paths = {batch / relative for relative in sample.files.values()}
        found = [self._same(path) for path in sorted(paths)]
        if all(found):
            return Problem(next(iter(sample.files.values())), f"{ALREADY_THERE}: {found[0]}")
        for path in paths:
            self._by_size[path.stat().st_size].append(path)
        return None

    def _same(self, path: Path) -> Path | None:
        candidates = self._by_size.get(path.stat().st_size, [])
        return next((other for other in candidates if self._hash(other) == self._hash(path)), None)

    def _hash(self, path: Path) -> str:
        if path not in self._hashes:
            self._hashes[path] = sha256(path)
        return self._hashes[path]


def _append(task: Task, batch: Path, intake: Intake, dropped: set[str], raw: Path, settings: PrepareSettings) -> None:
    target = intake.folder
    assert target is not None
    with replacing_folder(target) as folder:
        for path in sorted(p for p in batch.rglob("*") if p.is_file()):
            relative = path.relative_to(batch)
            if relative.as_posix() in dropped:
                continue
            (folder / relative).parent.mkdir(parents=True, exist_ok=True)
            if path.suffix.lower() == ".csv":
                _copy_list(path, folder / relative, dropped)
            else:
                shutil.copyfile(path, folder / relative)
    name = target.relative_to(raw).as_posix()
    if not any(file.startswith(f"{name}/") for s in task.read(raw, settings).samples for file in s.files.values()):
        shutil.rmtree(target)
        raise DataError(
            f"{raw} is itself one image set, so a batch beside its files is not seen; "
            f"move its files into a folder of their own, such as {raw / 'first'}"
        )


def _copy_list(source: Path, target: Path, dropped: Iterable[str]) -> None:
    """Copy a CSV list without the rows of files that were left out, so that they are not reported missing later."""
    names = {form for file in dropped for form in (file, Path(file).name, Path(file).stem)}
    with source.open(newline="", encoding="utf-8-sig") as read, target.open("w", newline="", encoding="utf-8") as write:
        rows = csv.reader(read)
        csv.writer(write).writerows(row for row in rows if not names.intersection(row))
