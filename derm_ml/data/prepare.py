"""A raw folder as downloaded → a dataset (derm_ml/data/dataset.py): what `derm prepare <task>` does.

read → decode and fingerprint → quarantine → group and split → manifest and shards
"""

from __future__ import annotations

import io
import json
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa

from derm_ml import formats
from derm_ml.cache import FORGETFUL, Cache
from derm_ml.data.account import account_of, nothing_usable, require_matching, spellings
from derm_ml.data.columns import Columns
from derm_ml.data.dataset import ACCOUNT, Dataset, contents_of, identities_of
from derm_ml.data.decoded import Stored, decoded, kept_print, stored_bytes
from derm_ml.data.deliveries import deliveries
from derm_ml.data.shards import EarlierFiles, ShardWriter, part_of
from derm_ml.data.splits import ImageIdentity, Settled, SplitFractions, known_again, settle, split_hash
from derm_ml.files import replacing_folder, write_json
from derm_ml.images.duplicates import DuplicatePair, find_duplicates
from derm_ml.images.fingerprints import Fingerprint
from derm_ml.images.stored_prints import KeptPrint, StoredPrints
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

Progress = Callable[[str, int, int], None]  # stage, done, total


def prepare(
    task: Task,
    raw: Path,
    settings: PrepareSettings,
    out: Path,
    progress: Progress = lambda *_: None,
    kept: Path | None = None,
    settings_must_match: bool = True,
    cache: Cache = FORGETFUL,
) -> Dataset:
    """Read a raw folder as downloaded, decode and fingerprint every image, freeze the splits, write the dataset.

    Images that cannot be used are quarantined with their reason; the rest goes on. The folder at `out` is
    replaced whole or not at all. An image that is in the dataset `kept` (by default the one at `out`) stays in its
    split, as long as `settings.seed` is the same. What `cache` knows is not computed again, and shards that dataset has
    are linked; the bytes are the same without either. Raises `DataError` when nothing usable is left, and, unless a
    single delivery is only tried, `SettingError` for a setting that names what the raw folder does not hold.
    """
    progress("read", 0, 0)
    reading = task.read(raw, settings)
    if settings_must_match:
        require_matching(reading, settings.training_only)
    progress("read", len(reading.samples), len(reading.samples))
    samples = sorted(_as_prepared(reading.samples, settings), key=lambda s: s.id)
    reading = replace(reading, samples=(), notes=(*reading.notes, *spellings(reading.samples)))  # a million are large
    problems = list(reading.problems)
    earlier_files = EarlierFiles(kept or out)

    def bytes_of(sample: Sample, role: str, stored: Stored) -> bytes:
        found = earlier_files.get(stored.sha256)
        return found if found is not None else stored_bytes(sample, role, stored, raw, settings.store_side, cache)

    def print_of(photo: str, kept: KeptPrint) -> Fingerprint:
        role = photo.removeprefix(f"{owner[photo].id} ")
        return kept_print(owner[photo], role, kept, raw, settings.store_side, cache)

    with replacing_folder(out) as folder:
        writer = ShardWriter(folder / "shards", (kept or out) / "shards", bytes_of)
        usable: list[Sample] = []
        stored = Columns()  # where the files of each of them lie
        prints = StoredPrints(folder, print_of)
        owner: dict[str, Sample] = {}  # of each photograph
        numbers = {delivery.folder: delivery.number for delivery in deliveries(raw)}
        # what is delivered later comes last: shards and searches of what was there before stay as they are
        in_turn = sorted(samples, key=lambda s: part_of(s, numbers))
        progress("decode", 0, len(samples))
        for done, (sample, result) in enumerate(decoded(in_turn, raw, settings.store_side, cache), start=1):
            progress("decode", done, len(samples))
            if isinstance(result, Problem):
                problems.append(result)
                continue
            usable.append(replace(sample, regions={**sample.regions, **result.regions}) if result.regions else sample)
            stored.append(writer.add(sample, result.files, part_of(sample, numbers)))
            for role, found in result.fingerprints.items():
                owner[photo := f"{sample.id} {role}"] = sample
                if isinstance(found, KeptPrint):
                    prints.keep(photo, found)
                else:
                    prints[photo] = found
        writer.close()
        cache.flush()
        if not usable:
            raise nothing_usable(raw, len(samples), problems)
        by_id = sorted(range(len(usable)), key=lambda k: usable[k].id)
        usable, files = [usable[k] for k in by_id], stored.table().take(by_id)
        del stored
        progress("compare", 0, len(prints))
        pairs = _duplicate_samples(prints, owner, partial(progress, "compare"), cache)
        prints.close()
        cache.flush()
        progress("split", 0, 0)
        earlier = _earlier_splits(kept or out, settings.seed, usable, files)
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
        progress("split", len(usable), len(usable))
        progress("write", 0, 0)
        taken = [k for k, s in enumerate(usable) if s.id in settled.splits]
        table = _manifest(task, labels, [usable[k] for k in taken], files.take(taken), settled, settings)
        _write(folder, task, labels, settings, table, pairs, problems, writer.sizes, reading.left_out)
        write_json(folder / ACCOUNT, account_of(reading, samples, settled, task.negative, problems))
        progress("write", len(table), len(table))
    return Dataset.open(out)


def _as_prepared(samples: Sequence[Sample], settings: PrepareSettings) -> Iterator[Sample]:
    """Their IDs in the form in which they are compared, and without the split a delivery claims for itself.

    Targets and attributes that are alike become one object.
    """
    shared: dict[tuple[tuple[str, str | float], ...], Any] = {}
    nowhere: Mapping[str, tuple[Region, ...]] = {}
    for sample in samples:
        attributes = dict(sample.attributes)
        if "second_patient" in attributes:
            attributes["second_patient"] = normal_id(str(attributes["second_patient"]))
        yield replace(
            sample,
            patient=normal_id(sample.patient),
            lesion=normal_id(sample.lesion),
            target=shared.setdefault(tuple(sample.target.items()), sample.target),
            attributes=shared.setdefault(tuple(attributes.items()), attributes),
            regions=sample.regions or nowhere,
            split="" if sample.delivered and not settings.believe_splits else sample.split,
        )


def _duplicate_samples(
    prints: StoredPrints,
    owner: Mapping[str, Sample],
    progress: Callable[[int, int], None],
    cache: Cache,
) -> list[DuplicatePair]:
    """Samples of which any photo is a duplicate of any photo of the other, sorted by id."""
    best: dict[tuple[str, str], DuplicatePair] = {}
    for found in find_duplicates(prints, progress=progress, order=list(prints), memory=cache, pixels=prints.pixels):
        a, b = sorted((owner[found.a].id, owner[found.b].id))
        if a != b and ((a, b) not in best or found.score > best[a, b].score):
            best[a, b] = DuplicatePair(a, b, found.kind, found.score)
    return [best[names] for names in sorted(best)]


def _earlier_splits(out: Path, seed: int, samples: Sequence[Sample], files: pa.Table) -> dict[str, str]:
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
    contents = contents_of(files.select([n for n in files.column_names if n.endswith(".sha256")]).to_pandas())
    now = [ImageIdentity(s.source, s.id, content) for s, content in zip(samples, contents, strict=True)]
    return known_again(identities_of(table), now)


def _manifest(
    task: Task,
    labels: Sequence[str],
    samples: Sequence[Sample],
    files: pa.Table,
    settled: Settled,
    settings: PrepareSettings,
) -> pd.DataFrame:
    names = sorted({name for s in samples for name in s.attributes})
    columns: dict[str, list[Any]] = {  # no record of its own for each sample: a million of them are to fit
        "id": [s.id for s in samples],
        "source": [s.source for s in samples],
        "patient": [s.patient for s in samples],
        "lesion": [s.lesion for s in samples],
        "group": [settled.groups[s.id] for s in samples],
        "split": [settled.splits[s.id] for s in samples],
        "official_split": [s.split for s in samples],
        "label": [task.negative if s.label == "none" else s.label for s in samples],
        "licence": [s.licence if s.licence != "unknown" else settings.licence for s in samples],
    }
    columns |= {f"target.{label}": [s.target.get(label, float("nan")) for s in samples] for label in labels}
    columns |= {f"attribute.{name}": [_attribute(name, s.attributes.get(name)) for s in samples] for name in names}
    for role in sorted({role for s in samples for role in s.regions}):
        columns[f"{role}.regions"] = [_boxes(s.regions[role]) if role in s.regions else None for s in samples]
    return pd.concat([pd.DataFrame(columns), files.to_pandas()], axis=1)


def _attribute(name: str, value: str | float | None) -> str | float:
    if name == "age":
        return float("nan") if value is None else float(value)
    return "" if value is None or value != value else str(value)


def _boxes(regions: Sequence[Region]) -> str:
    return json.dumps([[r.label, *r.box, r.id, *([r.state] if r.state else [])] for r in regions])


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
