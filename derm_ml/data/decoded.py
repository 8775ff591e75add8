"""Files of a raw folder → what a dataset stores of them, and the fingerprints of the photos; each file once.

for sample, result in decoded(samples, raw, side, cache): …       a `Decoded`, or the `Problem` with the sample

What a file becomes follows from its bytes, `store_side` and the code alone, so a `Cache` keeps it by these.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from functools import cache
from itertools import islice
from pathlib import Path

from derm_ml.cache import FORGETFUL, Cache, code_digest
from derm_ml.images.containers import ImageError
from derm_ml.images.decode import INGEST_FORMATS, canonical_mask, decode, read_image_file, stored_form
from derm_ml.images.fingerprints import Fingerprint, fingerprint
from derm_ml.images.orientation import Frame, WrongFrame, frame_of, turn_of_mask, upright_regions
from derm_ml.images.stored_prints import packed, unpacked
from derm_ml.records import DataError, Problem, Region, Sample

_FACTS = "file"
_BYTES = "bytes"  # which a finished dataset makes superfluous: its shards hold the same
_AHEAD = 64  # files that are decoded or wait to be written


@dataclass(frozen=True, slots=True)
class Stored:
    """One file as it is stored, with facts of the original for the manifest. `data` is None where it was not made now:
    `stored_bytes` brings it."""

    key: str
    sha256: str
    size: int
    suffix: str
    height: int
    width: int
    area: float | None = None  # of a mask: its share of the image
    data: bytes | None = None


@dataclass(frozen=True, slots=True)
class Decoded:
    """A sample's files and fingerprints by role, and its regions on the upright images."""

    files: dict[str, Stored]
    fingerprints: dict[str, Fingerprint]
    regions: dict[str, tuple[Region, ...]]


def decoded(
    samples: Sequence[Sample], raw: Path, side: int, memory: Cache = FORGETFUL
) -> Iterator[tuple[Sample, Decoded | Problem]]:
    """Decode ahead with a bounded number of images in memory, in input order (Pillow and OpenCV release the GIL)."""
    with ThreadPoolExecutor() as pool:
        waiting = iter(samples)
        window = [(s, pool.submit(_decode, s, raw, side, memory)) for s in islice(waiting, _AHEAD)]
        while window:
            sample, future = window.pop(0)
            window += [(s, pool.submit(_decode, s, raw, side, memory)) for s in islice(waiting, 1)]
            yield sample, future.result()


def stored_bytes(sample: Sample, role: str, stored: Stored, raw: Path, side: int, memory: Cache) -> bytes:
    """The bytes of a file that was not decoded now. Raises `DataError` where it has changed since."""
    data = memory.passing.get(_BYTES, bytes.fromhex(stored.key))
    if data is None or hashlib.sha256(data).hexdigest() != stored.sha256:
        again = _decode(sample, raw, side, FORGETFUL)
        data = again.files[role].data if isinstance(again, Decoded) else None
    if data is None or hashlib.sha256(data).hexdigest() != stored.sha256:
        raise DataError(f"{raw / sample.files[role]} changed while it was prepared: run `derm prepare` again")
    return data


def stored_image(data: bytes, side: int) -> bytes:
    """The bytes an image file is stored with in a dataset of that `store_side`: by them it is known again.

    Raises `ImageError` for what is no image that is read.
    """
    return stored_form(data, side)[0]


def _decode(sample: Sample, raw: Path, side: int, memory: Cache) -> Decoded | Problem:
    files: dict[str, Stored] = {}
    prints: dict[str, Fingerprint] = {}
    frames: dict[str, Frame] = {}
    regions: dict[str, tuple[Region, ...]] = {}
    for role, relative in sorted(sample.files.items(), key=lambda item: item[0] == "mask"):  # it lies on the image
        try:
            data = read_image_file(raw / relative)
            if role == "mask" or "mask" in sample.files or sample.regions.get(role):
                frames[role] = frame_of(data)
            if role == "mask":
                files[role] = _mask(data, turn_of_mask(frames["mask"], frames["image"]), memory)
            else:
                files[role], prints[role] = _photo(data, side, memory)
            if sample.regions.get(role):
                regions[role] = upright_regions(sample.regions[role], frames[role])
        except FileNotFoundError:
            return sample.problem("the file is listed but missing", relative)
        except (ImageError, WrongFrame) as error:
            return sample.problem(str(error), relative)
    return Decoded(files, prints, regions)


def _photo(data: bytes, side: int, memory: Cache) -> tuple[Stored, Fingerprint]:
    key = _key("photo", side, data)
    if kept := memory.get(_FACTS, key):
        facts, _, made = kept.partition(b"\n")
        return Stored(**json.loads(facts)), unpacked(made)
    stored, (height, width) = stored_form(data, side)
    made = fingerprint(decode(stored, INGEST_FORMATS))
    return _remembered(key, stored, height, width, None, memory, packed(made)), made


def _mask(data: bytes, turn: int, memory: Cache) -> Stored:
    key = _key("mask", turn, data)
    if kept := memory.get(_FACTS, key):
        return Stored(**json.loads(kept))
    png, mask = canonical_mask(data, turn)
    height, width = mask.shape
    return _remembered(key, png, height, width, float((mask > 0).mean()), memory)


def _remembered(
    key: bytes, data: bytes, height: int, width: int, area: float | None, memory: Cache, made: bytes = b""
) -> Stored:
    suffix = "jpg" if data[:2] == b"\xff\xd8" else "png"
    stored = Stored(key.hex(), hashlib.sha256(data).hexdigest(), len(data), suffix, height, width, area)
    facts: Mapping[str, object] = {name: value for name, value in asdict(stored).items() if name != "data"}
    memory.passing.put(_BYTES, key, data)
    memory.put(_FACTS, key, json.dumps(facts).encode() + b"\n" + made)
    return replace(stored, data=data)


def _key(what: str, setting: int, data: bytes) -> bytes:
    return hashlib.sha256(_code() + f"{what} {setting} ".encode() + hashlib.sha256(data).digest()).digest()


@cache
def _code() -> bytes:
    """What the result depends on beside the file: this code, and the libraries below it."""
    names = (
        "alignment",
        "containers",
        "decode",
        "dicom",
        "fingerprints",
        "local_features",
        "preprocess",
        "stored_prints",
    )
    return code_digest(__name__, *(f"derm_ml.images.{name}" for name in names))
