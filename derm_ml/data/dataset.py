"""A prepared dataset: few, plain, deterministic files that any tool opens. `derm prepare <task>` writes one.

    manifest.parquet   one row a sample: id, source, patient, lesion, group, split, label, target.*, attribute.*,
                       and for each file role: shard, offset, size, sha256, height, width (of the original);
                       for a mask also its area, a share of the picture in 0..1; where pictures have boxes,
                       regions: JSON rows [label, x1, y1, x2, y2, id(, state)] in pixels of the original
    shards/00000.tar   the files, uncompressed, ≤ 256 MB a shard; `tar tf` lists them
    quarantine.csv     what is not used: file, row, reason, kind (unusable, or held_back: intact, but it would leak)
    duplicates.csv     pairs of samples that show the same image: a, b, kind, score, and the split and label of each
    dataset.json       settings, counts, labels, split hashes, licences
    account.json       what became of everything the raw folder held (derm_ml/data/account.py)

Same input and settings give the same bytes, so the md5 DVC gives the folder names exactly these data.
"""

from __future__ import annotations

import io
import json
import os
import shutil
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pandas as pd
from pyarrow import ArrowException

from derm_ml import formats
from derm_ml.data.ahead import Turns
from derm_ml.data.splits import ImageIdentity, known_again, split_hash
from derm_ml.data.streaming import StreamedShards, is_streamed, streamed_md5, streamed_shards
from derm_ml.files import replacing_folder
from derm_ml.images.decode import INGEST_FORMATS, ImageError, decode, stored_mask
from derm_ml.records import (
    FROZEN,
    UNLABELLED,
    DataError,
    Region,
    namespace,
)
from derm_ml.tables import read_table
from derm_ml.tree import folder_md5

ACCOUNT = "account.json"
_INFO = ("task", "labels", "settings", "counts", "sizes", "samples", "shards", "split_hashes", "licences", "left_out")
IN_TURN = 4  # shards of 256 MB whose images are mixed where they are read in turn: 4000 images of 512 pixels
_COLUMNS = ("id", "source", "patient", "group", "split", "label")


class Shards(Protocol):
    """Where the stored files of a dataset lie."""

    def __call__(self, shard: str, offset: int, size: int) -> bytes:
        """The bytes of one file."""
        ...

    def where(self, shard: str) -> str:
        """What an error calls a shard."""
        ...


@dataclass(frozen=True, slots=True)
class LocalShards:
    """The shards in a folder of this machine."""

    folder: Path

    def __call__(self, shard: str, offset: int, size: int) -> bytes:
        with (self.folder / shard).open("rb") as file:
            file.seek(offset)
            return file.read(size)

    def where(self, shard: str) -> str:
        return str(self.folder / shard)


@dataclass(frozen=True, eq=False)
class Reader:
    """i → the RGB image, or for the role `mask` the mask, of the i-th of some rows of a manifest.

    Holds where the shards are and three small arrays: cheap to send to worker processes, which know no Dataset.
    """

    files: Shards
    role: str
    shards: np.ndarray  # (K,) names
    shard: np.ndarray  # (N,) which of them
    offset: np.ndarray  # (N,) bytes
    size: np.ndarray  # (N,) bytes

    def __call__(self, i: int) -> np.ndarray:
        shard = str(self.shards[self.shard[i]])
        return _decoded(self.files, shard, int(self.offset[i]), int(self.size[i]), self.role)

    def fetch(self, i: int) -> None:
        """Bring what a streamed file lies in to this machine, before it is read."""
        if isinstance(self.files, StreamedShards):
            self.files.fetch(str(self.shards[self.shard[i]]), int(self.offset[i]))


class Dataset:
    """A prepared dataset, read lazily: images are fetched from the shards by offset.

    Example:
        >>> dataset = Dataset.open(Path("data/prepared/lesion_classification"))
        >>> dataset.image(dataset.split("test").iloc[0]).shape
        (144, 192, 3)
    """

    def __init__(self, path: Path, info: dict[str, Any], manifest: pd.DataFrame) -> None:
        self.path = path
        self.info = info
        self.manifest = manifest

    @classmethod
    def open(cls, path: Path) -> Dataset:
        """Open a prepared folder. Raises `DataError` if it is not one or if a file is missing, damaged or cut short."""
        try:
            info = json.loads((path / "dataset.json").read_text(encoding="utf-8"))
            table = (path / "manifest.parquet").read_bytes()
        except (FileNotFoundError, NotADirectoryError) as error:
            raise DataError(
                f"{path} is not a prepared dataset ({error.filename} is missing): run `derm prepare`"
            ) from None
        except OSError as error:
            raise DataError(f"{error.filename} cannot be read ({error.strerror}): run `derm prepare`") from error
        except ValueError as error:
            raise _damaged(path / "dataset.json", error) from error
        info = formats.DATASET.read(info, path / "dataset.json", DataError)
        missing = [name for name in _INFO if name not in info]
        if missing:
            raise _damaged(path / "dataset.json", f"it has no {', '.join(missing)}")
        try:
            manifest = pd.read_parquet(io.BytesIO(table))
        except (ArrowException, OSError) as error:  # Arrow says OSError of a page it cannot decompress
            raise _damaged(path / "manifest.parquet", error) from error
        missing = [name for name in _COLUMNS if name not in manifest]
        if missing:
            raise _damaged(path / "manifest.parquet", f"it has no column {', '.join(missing)}")
        for name, size in () if is_streamed(path) else info["shards"].items():
            shard = path / "shards" / name
            if not shard.is_file() or shard.stat().st_size != size:
                raise DataError(
                    f"{shard} is missing or damaged (expected {size} bytes): run `dvc checkout` or `derm prepare`"
                )
        return cls(path, info, manifest)

    @cached_property
    def md5(self) -> str:
        """The data version: what DVC writes to dvc.lock for this folder."""
        return version_of(self.path)

    @cached_property
    def files(self) -> Shards:
        """The stored files, here or in DVC's remote. Raises `DataError` where they are there and none is set."""
        if is_streamed(self.path):
            return streamed_shards(self.path, self.info["shards"], self.manifest)
        return LocalShards(self.path / "shards")

    @property
    def streamed(self) -> bool:
        """Whether its shards lie in DVC's remote and not here."""
        return is_streamed(self.path)

    @property
    def task(self) -> str:
        return self.info["task"]

    @property
    def labels(self) -> tuple[str, ...]:
        return tuple(self.info["labels"])

    @property
    def split_hashes(self) -> dict[str, str]:
        return self.info["split_hashes"]

    @property
    def licences(self) -> dict[str, int]:
        return self.info["licences"]

    @cached_property
    def account(self) -> dict[str, Any]:
        """What became of everything the raw folder held; empty for a dataset that was prepared without one.

        Raises `DataError` for a damaged file.
        """
        try:
            return json.loads((self.path / ACCOUNT).read_text(encoding="utf-8"))
        except FileNotFoundError:
            return {}
        except (OSError, ValueError) as error:
            raise _damaged(self.path / ACCOUNT, error) from error

    @cached_property
    def quarantine(self) -> pd.DataFrame:
        """What is not used: columns file, row, reason, kind."""
        table = _list_of(self.path / "quarantine.csv")
        return table if "kind" in table else table.assign(kind="unusable")  # older datasets held nothing back

    @property
    def held_back(self) -> pd.DataFrame:
        """Of these, the intact images that would leak in any split."""
        return self.quarantine.loc[self.quarantine["kind"] == "held_back"]

    @cached_property
    def duplicates(self) -> pd.DataFrame:
        """Pairs of samples that show the same image: columns a, b, kind, score, a_split, b_split, a_label, b_label."""
        pairs = _list_of(self.path / "duplicates.csv", dict.fromkeys(("a", "b", "a_label", "b_label"), str))
        label = dict(zip(self.manifest["id"], self.manifest["label"], strict=True))
        sides = {f"{side}_label": [label[name] for name in pairs[side]] for side in ("a", "b")}
        return pairs.assign(**sides)  # older files lack them

    def namespaces(self, rows: pd.DataFrame) -> pd.Series:
        """For each row, within which patient and lesion IDs mean the same."""
        patients = self.info["settings"].get("patients", "per_source")  # as older datasets were made
        return pd.Series([namespace(source, patients) for source in rows["source"]], rows.index, dtype=str)

    def split(self, name: str) -> pd.DataFrame:
        """The rows of one split (or of `unlabelled`), in the order of the manifest. Raises `DataError` otherwise."""
        if name not in (*FROZEN, UNLABELLED):
            raise DataError(f"there is no split '{name}'; splits are {', '.join(FROZEN)}, and {UNLABELLED}")
        return self.manifest.loc[self.manifest["split"] == name]

    def split_hash(self, name: str) -> str:
        """The hash of the ids that are in a split here and now, which `split_hashes` was frozen with."""
        return split_hash(dict.fromkeys(self.split(name)["id"].astype(str), name), name)

    def count(self, split: str, label: str) -> int:
        """How many images of a split carry a label."""
        return int((self.split(split)[f"target.{label}"].to_numpy() == 1).sum())

    def targets(self, rows: pd.DataFrame) -> np.ndarray:
        """(N, L) float32 of 1, 0 or NaN in the order of `labels`."""
        return rows[[f"target.{label}" for label in self.labels]].to_numpy(np.float32, copy=True)

    def fellows(self, rows: pd.DataFrame) -> np.ndarray:
        """(N,) int: the place in `rows` of the same patient's other eye, -1 where there is no photo of it."""
        if "attribute.eye" not in rows:
            return np.full(len(rows), -1)
        eyes = list(zip(self.namespaces(rows), rows["patient"], rows["attribute.eye"], strict=True))
        places = {eye: k for k, eye in reversed(list(enumerate(eyes)))}
        other = {"left": "right", "right": "left"}
        return np.array([places.get((s, p, other.get(eye, "")), -1) if p else -1 for s, p, eye in eyes], int)

    def read(self, row: Any, role: str = "image") -> bytes:
        """The stored bytes of one file of a manifest row (a Series, or a dict)."""
        return self.files(*_place(row, role))

    def image(self, row: Any, role: str = "image") -> np.ndarray:
        """RGB (H, W, 3) uint8 of a manifest row. Raises `DataError` naming the shard whose bytes are no image."""
        return _decoded(self.files, *_place(row, role), role)

    def mask(self, row: Any) -> np.ndarray:
        """The mask of a manifest row at its original resolution: (H, W) uint8 of 0 and 255. Raises as `image` does."""
        return _decoded(self.files, *_place(row, "mask"), "mask")

    def reader(self, rows: pd.DataFrame, role: str = "image") -> Reader:
        """Reads the images (or the masks) of some rows by their place among them."""
        shards, shard = np.unique(rows[f"{role}.shard"].to_numpy(str), return_inverse=True)
        offset, size = (rows[f"{role}.{name}"].to_numpy(np.int64) for name in ("offset", "size"))
        return Reader(self.files, role, shards, shard, offset, size)

    def turns(self, rows: pd.DataFrame) -> Turns | None:
        """How a training reads these rows, where their shards are streamed: one shard after another if there are more
        than are read at a time, and a shard's time ahead if the cache has room for that."""
        files = self.files
        if not isinstance(files, StreamedShards):
            return None
        reader = self.reader(rows)
        names, several = reader.shards[reader.shard], len(reader.shards) > IN_TURN
        blocks = [files.block_of(*place) for place in zip(names.tolist(), reader.offset.tolist(), strict=True)]
        _, block = np.unique(blocks, return_inverse=True)
        return Turns(
            reader.shard if several else None,
            np.where(np.array(blocks) == "", -1, block),
            reader.fetch,
            lent=len(rows) // len(reader.shards) if several else len(rows),
            room=files.room(IN_TURN + 1) if several else files.room(len(files.sizes) - 1),
        )

    def regions(self, row: Any, role: str) -> tuple[Region, ...]:
        """The boxes of one picture of a row, in pixels of the picture `image` gives. Empty where there are none."""
        stored = row.get(f"{role}.regions")
        if not isinstance(stored, str) or not stored:
            return ()
        height, width = float(row[f"{role}.height"]), float(row[f"{role}.width"])
        longest = self.info["settings"]["store_side"]
        scale = min(1.0, longest / max(height, width))
        across, down = (max(1, round(size * scale)) / size for size in (width, height))  # as `limit_side` rounds
        return tuple(Region(*values).scaled(across, down) for values in json.loads(stored))

    @property
    def identities(self) -> dict[ImageIdentity, str]:
        """What each sample is known again by, and its split."""
        return identities_of(self.manifest)

    def learned_from(self, newer: Dataset, split: str) -> list[str]:
        """Ids of a newer dataset's split that lie in the training or validation split of this one."""
        asked = [key for key, where in newer.identities.items() if where == split]
        known = known_again(self.identities, asked)
        return [name for name, was in known.items() if was in ("train", "validation")]

    def also_learned(self, other: Dataset, split: str) -> list[str]:
        """Ids of images in a split of another dataset that are, byte by byte, in the training or validation split of
        this one, whatever they are called there."""
        columns = [name for name in other.manifest if str(name).endswith(".sha256") and "mask" not in str(name)]
        mine = self.manifest[self.manifest["split"].isin(("train", "validation"))]
        known = {value for name in columns if name in mine for value in mine[name].tolist() if isinstance(value, str)}
        rows = other.split(split).to_dict("records")
        return [str(row["id"]) for row in rows if any(row[name] in known for name in columns)]

    def attributes(self, row: Any) -> dict[str, str | float]:
        """Known attributes of a row: `age` in years, `sex`, `site`, `diagnosis`. Unknown ones are absent."""
        found = {c.removeprefix("attribute."): row[c] for c in self.manifest.columns if c.startswith("attribute.")}
        return {name: value for name, value in found.items() if pd.notna(value) and value != ""}

    def attributes_of(self, rows: pd.DataFrame) -> list[dict[str, str | float]]:
        """`attributes` of many rows, a column at a time: of 100,000 rows in a second."""
        found: list[dict[str, str | float]] = [{} for _ in range(len(rows))]
        for column in (c for c in self.manifest.columns if c.startswith("attribute.")):
            known = (rows[column].notna() & (rows[column] != "")).to_numpy()
            values = rows[column].tolist()
            for place in np.flatnonzero(known):
                found[place][column.removeprefix("attribute.")] = values[place]
        return found


def version_of(folder: Path) -> str:
    """The data version of a prepared folder: what DVC writes to dvc.lock for it."""
    return streamed_md5(folder) if is_streamed(folder) else folder_md5(folder)


def freeze(prepared: Path, frozen: Path) -> Path:
    """Keep a prepared dataset at `frozen`, by hard links, so that preparing again cannot pull it from under a training.

    Raises `DataError` if the bytes are not those of the version `frozen` is named after: a corrupt cache would
    otherwise be kept under the name of what it should have been.
    """
    if not frozen.exists():
        found = version_of(prepared)
        if found.removesuffix(".dir") != frozen.name:
            raise DataError(
                f"{prepared} holds {found}, not the version {frozen.name} it was prepared as: a file was damaged or "
                "changed; remove the folder and prepare again"
            )
        with replacing_folder(frozen) as folder:
            shutil.copytree(prepared, folder, copy_function=_linked, dirs_exist_ok=True)
    return frozen


def _linked(source: str, target: str) -> str:
    try:
        os.link(source, target)
    except OSError:  # another file system, or one without hard links
        shutil.copy2(source, target)
    return target


def _list_of(path: Path, types: Any = None) -> pd.DataFrame:
    try:
        return read_table(path, types)
    except (FileNotFoundError, ValueError) as error:  # pandas' own errors of empty and torn files are ValueErrors
        raise _damaged(path, error) from error


def _damaged(path: Path, why: object) -> DataError:
    said = str(why).strip().splitlines()[0]
    return DataError(f"{path} is missing or damaged ({said}): run `dvc checkout` or `derm prepare`")


def _place(row: Any, role: str) -> tuple[str, int, int]:
    """Shard, offset and size in bytes of one file of a manifest row."""
    return str(row[f"{role}.shard"]), int(row[f"{role}.offset"]), int(row[f"{role}.size"])


def _decoded(files: Shards, shard: str, offset: int, size: int, role: str) -> np.ndarray:
    stored = files(shard, offset, size)
    try:
        return stored_mask(stored) if role == "mask" else decode(stored, INGEST_FORMATS)
    except ImageError as error:
        raise DataError(
            f"{files.where(shard)} is damaged: the {role} at byte {offset} cannot be read ({error}); run "
            "`dvc checkout` or `derm prepare`"
        ) from error


def identities_of(table: pd.DataFrame) -> dict[ImageIdentity, str]:
    """What each row of a manifest is known again by, and its split."""
    known = (table[name].tolist() for name in ("source", "id", "split"))
    return {
        ImageIdentity(source, name, content): split
        for source, name, split, content in zip(*known, contents_of(table), strict=True)
    }


def contents_of(table: pd.DataFrame) -> list[str]:
    """For each row the sha256 of its stored pictures; a corrected mask does not make another image of it."""
    names = sorted(n for n in table.columns if n.endswith(".sha256") and n != "mask.sha256")
    hashes = zip(*(table[name].tolist() for name in names), strict=True)
    return [" ".join(h for h in row if isinstance(h, str)) for row in hashes]
