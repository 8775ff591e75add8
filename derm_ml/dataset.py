"""A prepared dataset: few, plain, deterministic files that any tool opens. `derm prepare <task>` writes one.

    manifest.parquet   one row a sample: id, source, patient, lesion, group, split, label, target.*, attribute.*,
                       and for each file role: shard, offset, size, sha256, height, width (of the original);
                       for a mask also its area, a share of the picture in 0..1; where pictures have boxes,
                       regions: JSON rows [label, x1, y1, x2, y2, id(, state)] in pixels of the original
    shards/00000.tar   the files, uncompressed, ≤ 256 MB a shard; `tar tf` lists them
    quarantine.csv     what is not used: file, row, reason, kind (unusable, or held_back: intact, but it would leak)
    duplicates.csv     pairs of samples that show the same image: a, b, kind, score, and the split and label of each
    dataset.json       settings, counts, labels, split hashes, licences

Same input and settings give the same bytes, so the md5 DVC gives the folder names exactly these data.
"""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Callable, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from derm_ml.files import folder_md5
from derm_ml.images.decode import INGEST_FORMATS, decode, stored_mask
from derm_ml.records import (
    SPLITS,
    UNLABELLED,
    DataError,
    Region,
    namespace,
)
from derm_ml.splits import (
    Identity,
    known_again,
)
from derm_ml.task import Recipe, Task


class Dataset:
    """A prepared dataset, read lazily: images are fetched from the shards by offset.

    Example:
        >>> dataset = Dataset.open(Path("data/prepared/lesion_classification"))   # doctest: +SKIP
        >>> dataset.image(dataset.split("test").iloc[0]).shape                    # doctest: +SKIP
    """

    def __init__(self, path: Path, info: dict[str, Any], manifest: pd.DataFrame) -> None:
        self.path = path
        self.info = info
        self.manifest = manifest

    @classmethod
    def open(cls, path: Path) -> Dataset:
        """Open a prepared folder. Raises `DataError` if it is not one or if a shard is missing or cut short."""
        try:
            info = json.loads((path / "dataset.json").read_text(encoding="utf-8"))
            manifest = pd.read_parquet(io.BytesIO((path / "manifest.parquet").read_bytes()))
        except FileNotFoundError as error:
            raise DataError(
                f"{path} is not a prepared dataset ({error.filename} is missing): run `derm prepare`"
            ) from None
        for name, size in info["shards"].items():
            shard = path / "shards" / name
            if not shard.is_file() or shard.stat().st_size != size:
                raise DataError(
                    f"{shard} is missing or damaged (expected {size} bytes): run `dvc checkout` or `derm prepare`"
                )
        return cls(path, info, manifest)

    @cached_property
    def md5(self) -> str:
        """The data version: what DVC writes to dvc.lock for this folder."""
        return folder_md5(self.path)

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
    def quarantine(self) -> pd.DataFrame:
        """What is not used: columns file, row, reason, kind."""
        table = pd.read_csv(self.path / "quarantine.csv")
        return table if "kind" in table else table.assign(kind="unusable")  # older datasets held nothing back

    @property
    def held_back(self) -> pd.DataFrame:
        """Of these, the intact images that would leak in any split."""
        return self.quarantine.loc[self.quarantine["kind"] == "held_back"]

    @cached_property
    def duplicates(self) -> pd.DataFrame:
        """Pairs of samples that show the same image: columns a, b, kind, score, a_split, b_split, a_label, b_label."""
        pairs = pd.read_csv(self.path / "duplicates.csv", dtype=dict.fromkeys(("a", "b", "a_label", "b_label"), str))
        label = dict(zip(self.manifest["id"], self.manifest["label"], strict=True))
        sides = {f"{side}_label": [label[name] for name in pairs[side]] for side in ("a", "b")}
        return pairs.assign(**sides)  # older files lack them

    def namespaces(self, rows: pd.DataFrame) -> pd.Series:
        """For each row, within which patient and lesion IDs mean the same."""
        patients = self.info["settings"].get("patients", "per_source")  # as older datasets were made
        return pd.Series([namespace(source, patients) for source in rows["source"]], rows.index, dtype=str)

    def split(self, name: str) -> pd.DataFrame:
        """The rows of one split (or of `unlabelled`), in the order of the manifest. Raises `KeyError` otherwise."""
        if name not in (*SPLITS, UNLABELLED):
            raise KeyError(f"no split '{name}'; splits are {', '.join(SPLITS)}, and {UNLABELLED}")
        return self.manifest.loc[self.manifest["split"] == name]

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
        with (self.path / "shards" / row[f"{role}.shard"]).open("rb") as shard:
            shard.seek(int(row[f"{role}.offset"]))
            return shard.read(int(row[f"{role}.size"]))

    def image(self, row: Any, role: str = "image") -> np.ndarray:
        """RGB (H, W, 3) uint8 of a manifest row."""
        return decode(self.read(row, role), INGEST_FORMATS)

    def mask(self, row: Any) -> np.ndarray:
        """The mask of a manifest row at its original resolution: (H, W) uint8 of 0 and 255."""
        return stored_mask(self.read(row, "mask"))

    def reader(self, rows: pd.DataFrame, role: str = "image") -> Callable[[int], np.ndarray]:
        """i → the RGB image (or the mask) of `rows.iloc[i]`, from three small arrays: cheap to hand to workers."""
        shards, shard = np.unique(rows[f"{role}.shard"].to_numpy(str), return_inverse=True)
        offset, size = (rows[f"{role}.{name}"].to_numpy(np.int64) for name in ("offset", "size"))

        def read(i: int) -> np.ndarray:
            place = {"shard": str(shards[shard[i]]), "offset": offset[i], "size": size[i]}
            row = {f"{role}.{name}": value for name, value in place.items()}
            return self.mask(row) if role == "mask" else self.image(row, role)

        return read

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
    def identities(self) -> dict[Identity, str]:
        """What each sample is known again by, and its split."""
        rows = self.manifest.to_dict("records")
        return {Identity(row["source"], row["id"], content_of(row)): row["split"] for row in rows}

    def learned_from(self, newer: Dataset, split: str) -> list[str]:
        """Ids of a newer dataset's split that lie in the training or validation split of this one."""
        asked = [key for key, where in newer.identities.items() if where == split]
        known = known_again(self.identities, asked)
        return [name for name, was in known.items() if was in ("train", "validation")]

    def attributes(self, row: Any) -> dict[str, str | float]:
        """Known attributes of a row: `age` in years, `sex`, `site`, `diagnosis`. Unknown ones are absent."""
        found = {c.removeprefix("attribute."): row[c] for c in self.manifest.columns if c.startswith("attribute.")}
        return {name: value for name, value in found.items() if pd.notna(value) and value != ""}


def model_folder(root: Path, task: Task, recipe: Recipe, dataset_md5: str) -> Path:
    """Where a model lives: `root/<task>/<recipe>-<id>`, the id being a hash of the recipe's values and the data.

    The same recipe on the same data is the same folder, so a fit that was killed is resumed by fitting again.
    """
    identity = json.dumps([recipe.name, recipe.model_dump(mode="json"), dataset_md5], sort_keys=True)
    return root / task.name / f"{recipe.name}-{hashlib.sha256(identity.encode()).hexdigest()[:10]}"


def content_of(row: Mapping[str, Any]) -> str:
    """The sha256 of a sample's stored pictures; a corrected mask does not make another image of it."""
    names = sorted(n for n in row if n.endswith(".sha256") and n != "mask.sha256")
    return " ".join(row[n] for n in names if isinstance(row[n], str))
