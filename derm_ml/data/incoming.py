"""Takes a delivered batch of labelled images into a task's raw folder, or rejects it with its reasons.

    copy aside → read it alone → read it with the raw folder → leave out what is broken or known → list corrections
    → prepare raw folder and batch on trial, run the data checks, let the champion look → accept whole, or reject

The batch may have any layout the task reads. Accepted, it becomes `raw/batches/<batch>-<content>`, a source of its
own and a copy of what was delivered, to the byte (derm_ml/data/deliveries.py). The raw folder is not touched before.
The same content again changes nothing.

    intake = receive(task, Path("data/incoming/lesion_classification/2026-11-20"), raw, settings, kept)
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from derm_ml.cache import FORGETFUL, Cache
from derm_ml.data.dataset import Dataset
from derm_ml.data.decoded import decoded
from derm_ml.data.deliveries import REJECTED, Correction, Delivery, LeftOut, changes, deliveries, files_of
from derm_ml.data.prepare import prepare
from derm_ml.data.staging import copied, linked, staging, stored_once
from derm_ml.files import replacing_file, replacing_folder, sha256
from derm_ml.records import DELIVERIES, DataError, Problem, Reading, Sample
from derm_ml.tables import write_rows
from derm_ml.task import PrepareSettings, Task
from derm_ml.tree import files_below, folder_md5

ALREADY_THERE = "the same file is there already"
MOSTLY = (
    0.5  # of a delivery that is held back: of the whole set again, sent in another form, it is the test share, 0.15
)
COLUMNS = ["file", "row", "reason", "kind"]


class RejectedBatch(DataError):
    """A batch that is not accepted. `problems` names what is wrong with it, file by file."""

    def __init__(self, message: str, problems: Sequence[Problem] = ()) -> None:
        super().__init__(message)
        self.problems = tuple(problems)


@dataclass(frozen=True, slots=True)
class Objection:
    """What speaks against a delivery that is readable and complete: a person says whether it counts."""

    sentence: str
    problems: tuple[Problem, ...] = ()


Look = Callable[[Dataset, Sequence[str]], Sequence[Objection]]  # (dataset with the delivery, its images there)


def nobody_looks(trial: Dataset, ids: Sequence[str]) -> Sequence[Objection]:
    """No objection: where there is no champion yet."""
    return ()


@dataclass(frozen=True, slots=True)
class Intake:
    """What became of a batch: `delivered` = `taken` + those left out and why; of the taken ones some are held back.

    `folder` is None where nothing was new: the batch had been delivered before.
    """

    content: str
    delivered: int
    taken: int
    left_out: tuple[Problem, ...]
    folder: Path | None
    held_back: tuple[Problem, ...] = ()
    corrections: tuple[Correction, ...] = ()

    @property
    def duplicates(self) -> int:
        return sum(p.reason.startswith(ALREADY_THERE) for p in self.left_out)


def receive(
    task: Task,
    batch: Path,
    raw: Path,
    settings: PrepareSettings,
    kept: Path | None = None,
    look: Look = nobody_looks,
    reviewed_by: str = "",
    cache: Cache = FORGETFUL,
) -> Intake:
    """`take_in`; a rejected batch is moved to `rejected/` beside it, with the reasons, so that it blocks no other.

    Raises `RejectedBatch` saying where it lies now, and `DataError` where the raw folder is at fault.
    """
    try:
        return take_in(task, batch, raw, settings, kept, look, reviewed_by, cache)
    except RejectedBatch as error:
        problems = error.problems or (Problem(batch.name, str(error)),)
        place = _set_aside(batch, str(error), problems)
        raise RejectedBatch(
            f"{error}. The batch was moved to {place}; {place.name}.csv beside it lists every reason. Correct it and "
            f"move it back to {batch.parent}",
            problems,
        ) from None


def take_in(
    task: Task,
    batch: Path,
    raw: Path,
    settings: PrepareSettings,
    kept: Path | None = None,
    look: Look = nobody_looks,
    reviewed_by: str = "",
    cache: Cache = FORGETFUL,
) -> Intake:
    """Validate a batch and add it to `raw`, whole or not at all; `kept` is the dataset whose splits stay as they are.

    `look` may object to what was found usable; so does this function where most of it would be held back. Neither is
    asked where a person has reviewed the images, whose name is recorded with the delivery. What `cache` has of images
    that are there already is not computed again, and the preparation that follows finds there what was computed here.

    Raises `RejectedBatch`, with nothing added: for a list that is wrong (naming file and line), for a batch without
    images, for one of which nothing can be used, one that corrects known images although corrections are refused,
    one that would fail a data check the raw folder alone passes, and one with an objection. Raises `DataError` for a
    `raw` folder that cannot be read.
    """
    if not batch.is_dir():
        raise DataError(f"{batch}: there is no such batch; it may lie in {batch.parent / REJECTED}, with its reasons")
    with staging(raw) as work:
        stage = work / "stage"
        odd = copied(batch, stage)
        try:
            alone = task.read(stage, settings)
        except DataError as error:
            raise RejectedBatch(str(error).replace(str(stage), str(batch))) from None
        problems = [*odd, *alone.problems]
        if not alone.samples and not problems:
            raise RejectedBatch(f"{batch}: the batch holds no labelled image; put images and their labels into it")
        content = folder_md5(stage).removesuffix(".dir")
        before = deliveries(raw)
        if again := next((d for d in before if d.content == content), None):
            known = [s.problem(f"{ALREADY_THERE}: {again.folder}") for s in alone.samples]
            return Intake(content, len(known) + len(problems), 0, (*known, *problems), None)
        view = work / "raw"
        if raw.exists():
            linked(raw, view)
        delivery = Delivery(
            f"{DELIVERIES}/{batch.name}-{content[:8]}",
            batch.name,
            content,
            max((d.number for d in before), default=0) + 1,
            0,
            reviewed_by=reviewed_by,
        )
        (view / DELIVERIES).mkdir(parents=True, exist_ok=True)
        stage.rename(view / delivery.folder)
        sorted_out = _sorted_out(task, batch, raw, view, delivery, settings, cache)
        delivery = replace(sorted_out, left_out=(*(LeftOut(p) for p in odd), *sorted_out.left_out))
        intake = Intake(
            content,
            delivery.taken + len(delivery.left_out),
            delivery.taken,
            tuple(entry.problem for entry in delivery.left_out),
            raw / delivery.folder,
            corrections=delivery.corrections,
        )
        if not delivery.taken and not delivery.corrections:
            if intake.duplicates == intake.delivered:
                return replace(intake, folder=None)
            first = next(p for p in intake.left_out if not p.reason.startswith(ALREADY_THERE))
            why = f"none of its {intake.delivered} images can be used; the first is {first.file}: {first.reason}"
            raise RejectedBatch(f"{batch}: {why}", intake.left_out)
        if delivery.corrections and settings.corrections == "refuse":
            raise _refused(batch, task, delivery)
        delivery.write(view)
        held_back = _tried(task, batch, work, delivery, settings, kept, look, cache)
        with replacing_folder(raw / delivery.folder) as folder:
            for path in (view / delivery.folder).iterdir():
                path.rename(folder / path.name)
        return replace(intake, held_back=held_back)


# --- the batch beside the raw folder ----------------------------------------------------------------------------------


def _sorted_out(
    task: Task, batch: Path, raw: Path, view: Path, delivery: Delivery, settings: PrepareSettings, cache: Cache
) -> Delivery:
    """What of the batch is usable, left out, or a correction of a known image."""
    reading = _read_together(task, batch, raw, view, settings)
    inside = f"{delivery.folder}/"
    new = [s for s in reading.samples if files_of(s)[0].startswith(inside)]
    left_out = [LeftOut(_below(p, inside)) for p in reading.problems if p.file.startswith(inside)]
    known = _Known(view, [s for s in reading.samples if not files_of(s)[0].startswith(inside)])
    corrections: list[Correction] = []
    good: dict[tuple[str, ...], Sample] = {}

    def leave_out(sample: Sample, problem: Problem) -> None:
        left_out.append(LeftOut(_below(problem, inside), tuple(f.removeprefix(inside) for f in files_of(sample))))

    for sample, result in decoded(sorted(new, key=lambda s: s.id), view, settings.store_side, cache):
        if isinstance(result, Problem):
            leave_out(sample, result)
            continue
        old = known.same(sample)
        if old is None:
            known.add(sample)
            good[files_of(sample)] = sample
            continue
        told = changes(old, sample, known.other_mask(old, sample))
        if told and files_of(old)[0].startswith(inside):
            # neither of two that contradict each other is believed
            for one, other in [(sample, old), *([(old, sample)] if good.pop(files_of(old), None) else [])]:
                said = f"{told[0].what} {told[0].old} and {told[0].new}"
                leave_out(one, one.problem(f"it is the same image as {files_of(other)[0]}, and they differ in {said}"))
            continue
        leave_out(sample, sample.problem(f"{ALREADY_THERE}: {files_of(old)[0]}"))
        for (_, mine), (_, theirs) in zip(photos(sample), photos(old), strict=True):
            stored_once(view / theirs, view / mine)
        if told:
            corrections.append(Correction(files_of(old), files_of(sample), told, sample.row))
    return replace(delivery, taken=len(good), left_out=tuple(left_out), corrections=tuple(corrections))


def _read_together(task: Task, batch: Path, raw: Path, view: Path, settings: PrepareSettings) -> Reading:
    """The raw folder with the batch in it. An error is the raw folder's own where it has it without the batch too."""
    try:
        return task.read(view, settings)
    except DataError as error:
        if _has_files(raw):
            task.read(raw, settings)
        raise RejectedBatch(f"{batch}: {str(error).replace(str(view), str(raw))}") from None


def _has_files(raw: Path) -> bool:
    return raw.is_dir() and bool(files_below(raw, links="all").files())


def _below(problem: Problem, inside: str) -> Problem:
    """The problem with its paths as delivered."""
    return replace(problem, file=problem.file.removeprefix(inside), reason=problem.reason.replace(inside, ""))


class _Known:
    """Samples by the content of their photos. Only files of equal size are ever hashed."""

    def __init__(self, root: Path, samples: Sequence[Sample]) -> None:
        self._root = root
        self._by_size: dict[tuple[tuple[str, int], ...], list[Sample]] = defaultdict(list)
        self._hashes: dict[str, str] = {}
        for sample in samples:
            if all((root / file).is_file() for file in sample.files.values()):
                self.add(sample)

    def add(self, sample: Sample) -> None:
        self._by_size[self._sizes(sample)].append(sample)

    def same(self, sample: Sample) -> Sample | None:
        """The known sample that shows exactly these photos in these roles."""
        candidates = self._by_size.get(self._sizes(sample), [])
        return next((s for s in candidates if self._content(s) == self._content(sample)), None)

    def other_mask(self, old: Sample, new: Sample) -> bool:
        """Whether the new sample brings a mask of other bytes."""
        masks = [s.files.get("mask") for s in (old, new)]
        return bool(masks[1]) and (not masks[0] or self._hash(masks[0]) != self._hash(masks[1] or ""))

    def _sizes(self, sample: Sample) -> tuple[tuple[str, int], ...]:
        return tuple((role, (self._root / file).stat().st_size) for role, file in photos(sample))

    def _content(self, sample: Sample) -> list[str]:
        return [self._hash(file) for _, file in photos(sample)]

    def _hash(self, file: str) -> str:
        if file not in self._hashes:
            self._hashes[file] = sha256(self._root / file)
        return self._hashes[file]


def photos(sample: Sample) -> list[tuple[str, str]]:
    return sorted((role, file) for role, file in sample.files.items() if role != "mask")


# --- accepted or rejected ---------------------------------------------------------------------------------------


def _refused(batch: Path, task: Task, delivery: Delivery) -> RejectedBatch:
    told = delivery.corrections
    listed = [Problem(c.by[0].removeprefix(f"{delivery.folder}/"), f"corrects {c}", c.row) for c in told]
    return RejectedBatch(
        f"{batch}: it says something else of {len(told)} images that are there already, e.g. {told[0]}. If it is "
        f"right, set `corrections: apply` in params.yaml, section tasks.{task.name}; else take these images out of it",
        [*listed, *(entry.problem for entry in delivery.left_out)],
    )


def _tried(
    task: Task,
    batch: Path,
    work: Path,
    delivery: Delivery,
    settings: PrepareSettings,
    kept: Path | None,
    look: Look,
    cache: Cache,
) -> tuple[Problem, ...]:
    """What a dataset with this batch holds back of it. Raises `RejectedBatch` where the batch makes a check fail, or
    where something speaks against it and no person has reviewed it."""
    view, inside = work / "raw", f"{delivery.folder}/"
    try:
        trial = prepare(task, view, settings, work / "trial", kept=kept, settings_must_match=False, cache=cache)
    except DataError as error:
        raise RejectedBatch(f"{batch}: {str(error).replace(str(view), 'with it, the raw folder')}") from None
    held = [
        Problem(
            str(row["file"]), str(row["reason"]), None if row["row"] != row["row"] else int(row["row"]), "held_back"
        )
        for row in trial.held_back.to_dict("records")
        if str(row["file"]).startswith(inside)
    ]
    # of the dataset, those that were read back where they will lie
    mine = trial.manifest[trial.manifest["source"].astype(str).str.startswith(delivery.folder)]
    found = len(mine) + len(held)
    if found != delivery.taken:
        raise RejectedBatch(f"{batch}: of its {delivery.taken} usable images {found} are found again beside the others")
    failing = [(rule, rule.check(trial)) for rule in task.rules if not rule.more_data_may_help]
    failing = [(rule.name, finding) for rule, finding in failing if rule.stops(finding)]
    before = _fails_without(task, work, delivery, settings, kept, cache) if failing else set()
    for name, finding in failing:
        if name not in before:
            raise RejectedBatch(
                f"{batch}: with it the data check {name} fails: {finding.message}",
                [Problem(batch.name, f"{name}: {row}") for row in finding.rows],
            )
    held_back = tuple(_below(problem, inside) for problem in held)
    if not delivery.reviewed_by:
        _raise_objections(
            task, batch, [*_mostly_held_back(held_back, delivery.taken), *look(trial, mine["id"].tolist())]
        )
    return held_back


def _mostly_held_back(held_back: tuple[Problem, ...], taken: int) -> list[Objection]:
    if len(held_back) <= MOSTLY * taken:
        return []
    said = (
        f"{len(held_back)} of its {taken} usable images must not be learned from, because they show patients or images "
        f"of another split; the first is {held_back[0].file}: {held_back[0].reason}"
    )
    return [Objection(said, held_back)]


def _raise_objections(task: Task, batch: Path, objections: Sequence[Objection]) -> None:
    if objections:
        raise RejectedBatch(
            f"{batch}: {'; '.join(o.sentence for o in objections)}. Look at the images; if they and their labels are "
            f"right, `derm deliver {task.name} FOLDER --reviewed-by NAME` takes them",
            [problem for objection in objections for problem in objection.problems],
        )


def _fails_without(
    task: Task, work: Path, delivery: Delivery, settings: PrepareSettings, kept: Path | None, cache: Cache
) -> set[str]:
    """The blocking checks the raw folder fails by itself."""
    view, aside = work / "raw", work / "aside"
    (view / delivery.folder).rename(aside)
    try:
        if not _has_files(view):
            return set()
        alone: Dataset = prepare(
            task, view, settings, work / "without", kept=kept, settings_must_match=False, cache=cache
        )
        return {rule.name for rule in task.rules if rule.stops(rule.check(alone))}
    finally:
        aside.rename(view / delivery.folder)


def _set_aside(batch: Path, message: str, problems: Sequence[Problem]) -> Path:
    """Move the batch to `rejected/`, with the reasons as a sentence and as a table beside it."""
    folder = batch.parent / REJECTED
    folder.mkdir(exist_ok=True)
    number = 1
    place = folder / batch.name
    while place.exists() or (folder / f"{place.name}.txt").exists():
        number += 1
        place = folder / f"{batch.name}.{number}"
    write_problems(folder / f"{place.name}.csv", problems)
    with replacing_file(folder / f"{place.name}.txt") as temporary:
        temporary.write_text(f"{message}\n", encoding="utf-8")
    batch.rename(place)
    return place


def write_problems(path: Path, problems: Sequence[Problem]) -> None:
    """A table of file, row, reason, kind."""
    with replacing_file(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        write_rows(file, COLUMNS, [asdict(problem) for problem in problems])
