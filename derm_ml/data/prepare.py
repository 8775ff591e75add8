"""A raw folder as downloaded → a dataset (derm_ml/data/dataset.py): what `derm prepare <task>` does.

read → decode and fingerprint → quarantine → group and split → manifest and shards
"""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import pandas as pd

from derm_ml import formats
from derm_ml.data.account import account_of, nothing_usable, require_matching
from derm_ml.data.dataset import ACCOUNT, Dataset, content_of
from derm_ml.data.splits import ImageIdentity, Settled, SplitFractions, known_again, settle, split_hash
from derm_ml.files import replacing_folder, write_json
from derm_ml.images.containers import ImageError
from derm_ml.images.decode import INGEST_FORMATS, canonical_mask, decode, read_image_file, stored_form
from derm_ml.images.fingerprints import DuplicatePair, Fingerprint, find_duplicates, fingerprint
from derm_ml.images.orientation import Frame, WrongFrame, frame_of, turn_of_mask, upright_regions
from derm_ml.images.stored_prints import StoredPrints
from derm_ml.records import (
    FROZEN,
    RECENT,
    SPLITS,
    UNLABELLED,
    DataError,
    Problem,
    Region,
    Sample,
    normal_id,
)
from derm_ml.tables import write_table
from derm_ml.task import PrepareSettings, Task

SHARD_BYTES = 256 * 2**20  # large enough to read fast, small enough to move and to re-verify
Progress = Callable[[str, int, int], None]  # stage, done, total


def prepare(
    task: Task,
    raw: Path,
    settings: PrepareSettings,
    out: Path,
    progress: Progress = lambda *_: None,
    kept: Path | None = None,
    settings_must_match: bool = True,
) -> Dataset:
    """Read a raw folder as downloaded, decode and fingerprint every image, freeze the splits, write the dataset.

    Images that cannot be used are quarantined with their reason; the rest goes on. The folder at `out` is
    replaced whole or not at all. An image that is in the dataset `kept` (by default the one at `out`) stays in its
    split, as long as `settings.seed` is the same. Raises `DataError` when nothing usable is left, and, unless a single
    delivery is only tried, `SettingError` for a setting that names what the raw folder does not hold.
    """
    progress("read", 0, 0)
    reading = task.read(raw, settings)
    if settings_must_match:
        require_matching(reading, settings.training_only)
    progress("read", len(reading.samples), len(reading.samples))
    problems = list(reading.problems)
    with replacing_folder(out) as folder:
        writer = _ShardWriter(folder / "shards")
        usable: list[Sample] = []
        rows: dict[str, dict[str, Any]] = {}
        prints = StoredPrints(folder)
        sample_of: dict[str, str] = {}  # of each photograph
        samples = sorted((_as_prepared(s, settings) for s in reading.samples), key=lambda s: s.id)
        for done, (sample, result) in enumerate(decoded(samples, raw, settings.store_side), start=1):
            progress("decode", done, len(samples))
            if isinstance(result, Problem):
                problems.append(result)
                continue
            usable.append(replace(sample, regions={**sample.regions, **result.regions}) if result.regions else sample)
            rows[sample.id] = writer.add(sample, result.files)
            for role, found in result.fingerprints.items():
                sample_of[f"{sample.id} {role}"] = sample.id
                prints[f"{sample.id} {role}"] = found
        writer.close()
        if not usable:
            raise nothing_usable(raw, reading, problems)
        pairs = _duplicate_samples(prints, sample_of, partial(progress, "compare"))
        prints.close()
        earlier = _earlier_splits(kept or out, settings.seed, usable, rows)
        settled = settle(
            usable,
            [(p.a, p.b) for p in pairs],
            SplitFractions(settings.validation, settings.test, settings.seed, settings.test_grows, settings.recent),
            earlier,
            frozenset(settings.training_only),
            settings.patients,
            keep_copies=settings.duplicates == "stop",
        )
        out_of_splits = settled.held_back
        problems += [s.problem(out_of_splits[s.id], kind="held_back") for s in usable if s.id in out_of_splits]
        if not settled.splits:
            raise DataError(f"{raw}: all {len(usable)} usable images are held back; the first: {problems[-1].reason}")
        labels = reading.labels or task.labels
        pairs = [p for p in pairs if p.a not in out_of_splits and p.b not in out_of_splits]
        table = _manifest(task, labels, [s for s in usable if s.id in settled.splits], rows, settled, settings)
        _write(folder, task, labels, settings, table, pairs, problems, writer.sizes, reading.left_out)
        write_json(folder / ACCOUNT, account_of(reading, samples, settled, task.negative, problems))
    return Dataset.open(out)


def _as_prepared(sample: Sample, settings: PrepareSettings) -> Sample:
    """Its IDs in the form in which they are compared, and without the split a delivery claims for itself."""
    attributes = dict(sample.attributes)
    if "second_patient" in attributes:
        attributes["second_patient"] = normal_id(str(attributes["second_patient"]))
    return replace(
        sample,
        patient=normal_id(sample.patient),
        lesion=normal_id(sample.lesion),
        attributes=attributes,
        split="" if sample.delivered and not settings.believe_splits else sample.split,
    )


@dataclass(frozen=True, slots=True)
class _Stored:
    """One file as it is stored, with facts of the original for the manifest."""

    data: bytes
    height: int
    width: int
    area: float | None = None  # of a mask: its share of the picture


@dataclass(frozen=True, slots=True)
class _Prepared:
    files: dict[str, _Stored]  # by role
    fingerprints: dict[str, Fingerprint]  # of every photo, by role
    regions: dict[str, tuple[Region, ...]]  # on the upright photos, by role


def decoded(samples: Sequence[Sample], raw: Path, side: int) -> Iterator[tuple[Sample, _Prepared | Problem]]:
    """Decode ahead with a bounded number of images in memory, in input order (Pillow and OpenCV release the GIL)."""
    with ThreadPoolExecutor() as pool:
        waiting = iter(samples)
        window = [(s, pool.submit(_prepare_one, s, raw, side)) for s in islice(waiting, 64)]
        while window:
            sample, future = window.pop(0)
            window += [(s, pool.submit(_prepare_one, s, raw, side)) for s in islice(waiting, 1)]
            yield sample, future.result()


def _prepare_one(sample: Sample, raw: Path, side: int) -> _Prepared | Problem:
    files: dict[str, _Stored] = {}
    frames: dict[str, Frame] = {}
    regions: dict[str, tuple[Region, ...]] = {}
    for role, relative in sorted(sample.files.items(), key=lambda item: item[0] == "mask"):  # it lies on the image
        try:
            data = read_image_file(raw / relative)
            if role == "mask" or "mask" in sample.files or sample.regions.get(role):
                frames[role] = frame_of(data)
            turn = turn_of_mask(frames["mask"], frames["image"]) if role == "mask" else 1
            files[role] = _stored(role, data, side, turn)
            if sample.regions.get(role):
                regions[role] = upright_regions(sample.regions[role], frames[role])
        except FileNotFoundError:
            return sample.problem("the file is listed but missing", relative)
        except (ImageError, WrongFrame) as error:
            return sample.problem(str(error), relative)
    photos = {role: decode(stored.data, INGEST_FORMATS) for role, stored in files.items() if role != "mask"}
    return _Prepared(files, {role: fingerprint(photo) for role, photo in photos.items()}, regions)


def _duplicate_samples(
    prints: Mapping[str, Fingerprint], sample_of: Mapping[str, str], progress: Callable[[int, int], None]
) -> list[DuplicatePair]:
    """Samples of which any photo is a duplicate of any photo of the other, sorted by id."""
    best: dict[tuple[str, str], DuplicatePair] = {}
    for found in find_duplicates(prints, progress=progress):
        a, b = sorted((sample_of[found.a], sample_of[found.b]))
        if a != b and ((a, b) not in best or found.score > best[a, b].score):
            best[a, b] = DuplicatePair(a, b, found.kind, found.score)
    return [best[names] for names in sorted(best)]


def stored_image(data: bytes, side: int) -> bytes:
    """The bytes an image file is stored with in a dataset of that `store_side`: by them it is known again.

    Raises `ImageError` for what is no image that is read.
    """
    return _stored("image", data, side, 1).data


def _stored(role: str, data: bytes, side: int, turn: int) -> _Stored:
    if role == "mask":
        png, mask = canonical_mask(data, turn)
        return _Stored(png, *mask.shape, area=float((mask > 0).mean()))
    stored, (height, width) = stored_form(data, side)
    return _Stored(stored, height, width)


class _ShardWriter:
    """Appends files to tar shards with fixed owners and times, and remembers where each lies."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True)
        self.folder = folder
        self.sizes: dict[str, int] = {}
        self._tar: tarfile.TarFile | None = None

    def add(self, sample: Sample, files: Mapping[str, _Stored]) -> dict[str, Any]:
        row: dict[str, Any] = {}
        for role, stored in files.items():
            size = len(stored.data)
            tar = self._shard(size)
            suffix = "jpg" if stored.data[:2] == b"\xff\xd8" else "png"
            entry = tarfile.TarInfo(f"{sample.id}.{role}.{suffix}")
            entry.size = size
            tar.addfile(entry, io.BytesIO(stored.data))
            row |= {
                f"{role}.shard": self._name,
                f"{role}.offset": tar.offset - _blocks(size),
                f"{role}.size": size,
                f"{role}.sha256": hashlib.sha256(stored.data).hexdigest(),
                f"{role}.height": stored.height,
                f"{role}.width": stored.width,
            }
            if stored.area is not None:
                row[f"{role}.area"] = stored.area
        return row

    def close(self) -> None:
        if self._tar:
            self._tar.close()
            self.sizes[self._name] = (self.folder / self._name).stat().st_size
            self._tar = None

    def _shard(self, size: int) -> tarfile.TarFile:
        if self._tar and self._tar.offset + size > SHARD_BYTES:
            self.close()
        if not self._tar:
            self._name = f"{len(self.sizes):05d}.tar"
            # as USTAR byte for byte, until a name has more than 100 bytes or letters beyond ASCII
            self._tar = tarfile.open(self.folder / self._name, "w", format=tarfile.PAX_FORMAT)  # noqa: SIM115
        return self._tar


def _blocks(size: int) -> int:
    return (size + tarfile.BLOCKSIZE - 1) // tarfile.BLOCKSIZE * tarfile.BLOCKSIZE


def _earlier_splits(
    out: Path, seed: int, samples: Sequence[Sample], rows: Mapping[str, Mapping[str, Any]]
) -> dict[str, str]:
    """Sample id → its split in the dataset that is about to be replaced; empty for a first one or a new seed.

    Raises `DataError` if the old manifest cannot be read.
    """
    if not (out / "dataset.json").exists():
        return {}
    try:
        info = json.loads((out / "dataset.json").read_text(encoding="utf-8"))
        table = pd.read_parquet(io.BytesIO((out / "manifest.parquet").read_bytes()))
    except (OSError, ValueError) as error:  # ArrowInvalid and JSONDecodeError are ValueErrors
        raise DataError(
            f"{out}: the dataset there cannot be read, so its splits cannot be kept ({error}): run `dvc checkout`, "
            "or remove it to create new splits"
        ) from None
    info = formats.DATASET.read(info, out / "dataset.json", DataError, "remove it to create new splits")
    if info["settings"]["seed"] != seed:
        return {}
    old = {ImageIdentity(row["source"], row["id"], content_of(row)): row["split"] for row in table.to_dict("records")}
    return known_again(old, [ImageIdentity(s.source, s.id, content_of(rows[s.id])) for s in samples])


def _manifest(
    task: Task,
    labels: Sequence[str],
    samples: Sequence[Sample],
    rows: Mapping[str, Mapping[str, Any]],
    settled: Settled,
    settings: PrepareSettings,
) -> pd.DataFrame:
    names = sorted({name for s in samples for name in s.attributes})
    roles = sorted({role for s in samples for role in s.regions})
    records = []
    for sample in samples:
        record: dict[str, Any] = {
            "id": sample.id,
            "source": sample.source,
            "patient": sample.patient,
            "lesion": sample.lesion,
            "group": settled.groups[sample.id],
            "split": settled.splits[sample.id],
            "official_split": sample.split,
            "label": task.negative if sample.label == "none" else sample.label,
            "licence": sample.licence if sample.licence != "unknown" else settings.licence,
        }
        record |= {f"target.{label}": sample.target.get(label, float("nan")) for label in labels}
        record |= {f"attribute.{name}": sample.attributes.get(name) for name in names}
        for role in (r for r in roles if r in sample.regions):
            boxes = [[r.label, *r.box, r.id, *([r.state] if r.state else [])] for r in sample.regions[role]]
            record[f"{role}.regions"] = json.dumps(boxes)
        records.append(record | dict(rows[sample.id]))
    table = pd.DataFrame.from_records(records)
    for name in names:
        numeric = name == "age"
        table[f"attribute.{name}"] = (
            table[f"attribute.{name}"].astype("float64")
            if numeric
            else table[f"attribute.{name}"].map(lambda v: "" if v is None or v != v else str(v)).astype(str)
        )
    return table


def _write(
    folder: Path,
    task: Task,
    labels: Sequence[str],
    settings: PrepareSettings,
    table: pd.DataFrame,
    pairs: Sequence[DuplicatePair],
    problems: Sequence[Problem],
    shards: Mapping[str, int],
    left_out: Mapping[str, int],
) -> None:
    table.to_parquet(folder / "manifest.parquet", index=False)
    splits = dict(zip(table["id"], table["split"], strict=True))
    quarantine = pd.DataFrame([asdict(p) for p in problems], columns=["file", "row", "reason", "kind"])
    write_table(folder / "quarantine.csv", quarantine.sort_values(["file", "row"], kind="stable"))
    label = dict(zip(table["id"], table["label"], strict=True))
    rows = [
        asdict(p) | {"a_split": splits[p.a], "b_split": splits[p.b], "a_label": label[p.a], "b_label": label[p.b]}
        for p in pairs
    ]
    columns = ["a", "b", "kind", "score", "a_split", "b_split", "a_label", "b_label"]
    write_table(folder / "duplicates.csv", pd.DataFrame(rows, columns=columns))
    # an image counts for each label it carries, so that multi-label images are not lost in combinations
    counts = Counter(
        (split, name) for split, label in zip(table["split"], table["label"], strict=True) for name in label.split("+")
    )
    names = sorted({name for _, name in counts})
    sizes = Counter(table["split"])
    there = [s for s in FROZEN if s != RECENT or sizes[s]]  # there is no recent split before the first later delivery
    write_json(
        folder / "dataset.json",
        formats.DATASET.stamped(
            {
                "task": task.name,
                "labels": list(labels),
                "settings": settings.model_dump(mode="json"),
                "samples": len(table),
                "groups": len(set(table["group"])),
                "quarantined": len(problems),
                "held_back": sum(p.kind == "held_back" for p in problems),  # of these: intact, but would leak
                "left_out": dict(sorted(left_out.items())),  # the source's own labels the task has none for
                "sizes": {s: sizes[s] for s in (*there, UNLABELLED) if s in SPLITS or sizes[s]},
                "counts": {s: {name: counts[s, name] for name in names if counts[s, name]} for s in there},
                "split_hashes": {s: split_hash(splits, s) for s in there},
                "licences": {str(k): int(v) for k, v in sorted(Counter(table["licence"]).items())},
                "sources": {str(k): int(v) for k, v in sorted(Counter(table["source"]).items())},
                "shards": dict(shards),
            }
        ),
    )
