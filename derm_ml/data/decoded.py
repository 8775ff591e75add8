"""Files of a raw folder → what a dataset stores of them, and the fingerprints of the photos; each file once.

for sample, result in decoded(samples, raw, side, cache): …       a `Decoded`, or the `Problem` with the sample

What a file becomes follows from its bytes, `store_side` and the code alone, so a `Cache` keeps it by these.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from functools import cache
from pathlib import Path

from derm_ml.cache import FORGETFUL, Cache, code_digest
from derm_ml.images.containers import ImageError
from derm_ml.images.decode import INGEST_FORMATS, canonical_mask, decode, read_image_file, stored_form
from derm_ml.images.fingerprints import Fingerprint, fingerprint
from derm_ml.images.orientation import Frame, WrongFrame, frame_of, turn_of_mask, upright_regions
from derm_ml.images.stored_prints import KeptPrint, packed, unpacked
from derm_ml.records import DataError, Problem, Region, Sample

_FACTS, _PRINT = "file", "print"
_BYTES = "bytes"  # which a finished dataset makes superfluous: its shards hold the same
_AHEAD = 64  # files that are decoded or wait to be written
_LARGE = 2**19  # bytes; longer to hash than to take from another thread


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
    """A sample's files and fingerprints by role, and its regions on the upright images. Of a photo that was not decoded
    now `kept_print` brings the fingerprint."""

    files: dict[str, Stored]
    fingerprints: dict[str, Fingerprint | KeptPrint]
    regions: dict[str, tuple[Region, ...]]


def decoded(
    samples: Sequence[Sample], raw: Path, side: int, memory: Cache = FORGETFUL
) -> Iterator[tuple[Sample, Decoded | Problem]]:
    """Decode ahead with a bounded number of images in memory, in input order (Pillow and OpenCV release the GIL).

    As long as small files are known this thread looks them up: many threads would take three times as long, since a
    look is a few short system calls, after each of which they wait for each other.
    """
    waiting = iter(samples)
    window: deque[tuple[Sample, Decoded | Problem | Future[Decoded | Problem]]] = deque()
    decoding = False  # whether what came last was not known
    with ThreadPoolExecutor((os.cpu_count() or 1) + 1) as pool:  # more would wait for each other
        while True:
            while len(window) < (_AHEAD if decoding else 1) and (sample := next(waiting, None)):
                known = None if decoding else _looked_up(sample, raw, side, memory)
                decoding = known is None
                window.append((sample, known or pool.submit(_decode, sample, raw, side, memory)))
            if not window:
                return
            sample, found = window.popleft()
            result = found.result() if isinstance(found, Future) else found
            decoding = isinstance(result, Problem) or any(file.data is not None for file in result.files.values())
            yield sample, result


def stored_bytes(sample: Sample, role: str, stored: Stored, raw: Path, side: int, memory: Cache) -> bytes:
    """The bytes of a file that was not decoded now. Raises `DataError` where it has changed since."""
    data = memory.passing.get(_BYTES, bytes.fromhex(stored.key))
    if data is None or hashlib.sha256(data).hexdigest() != stored.sha256:
        again = _decode(sample, raw, side, FORGETFUL)
        data = again.files[role].data if isinstance(again, Decoded) else None
    if data is None or hashlib.sha256(data).hexdigest() != stored.sha256:
        raise _changed(raw / sample.files[role])
    return data


def kept_print(sample: Sample, role: str, kept: KeptPrint, raw: Path, side: int, memory: Cache) -> Fingerprint:
    """The fingerprint of a photo that was not decoded now. Raises `DataError` where it has changed since."""
    if data := memory.get(_PRINT, kept.key):
        return unpacked(data)
    again = _decode(sample, raw, side, FORGETFUL)
    made = again.fingerprints[role] if isinstance(again, Decoded) else None
    if not isinstance(made, Fingerprint) or made.pixels != kept.pixels:
        raise _changed(raw / sample.files[role])
    return made


def _changed(path: Path) -> DataError:
    return DataError(f"{path} changed while it was prepared: run `derm prepare` again")


def stored_image(data: bytes, side: int) -> bytes:
    """The bytes an image file is stored with in a dataset of that `store_side`: by them it is known again.

    Raises `ImageError` for what is no image that is read.
    """
    return stored_form(data, side)[0]


class _NotKnown(Exception):
    """A file would have to be decoded."""


def _looked_up(sample: Sample, raw: Path, side: int, memory: Cache) -> Decoded | Problem | None:
    """What is known of a sample; None where something has to be decoded, or is so large that hashing it takes long."""
    try:
        if any((raw / file).stat().st_size > _LARGE for file in sample.files.values()):
            return None
        return _decode(sample, raw, side, memory, only_known=True)
    except (OSError, _NotKnown):
        return None


def _decode(sample: Sample, raw: Path, side: int, memory: Cache, only_known: bool = False) -> Decoded | Problem:
    """Raises `_NotKnown` where `only_known`, and a file is not."""
    files: dict[str, Stored] = {}
    prints: dict[str, Fingerprint | KeptPrint] = {}
    frames: dict[str, Frame] = {}
    regions: dict[str, tuple[Region, ...]] = {}
    for role, relative in sorted(sample.files.items(), key=lambda item: item[0] == "mask"):  # it lies on the image
        try:
            data = read_image_file(raw / relative)
            if role == "mask" or "mask" in sample.files or sample.regions.get(role):
                frames[role] = frame_of(data)
            if role == "mask":
                files[role] = _mask(data, turn_of_mask(frames["mask"], frames["image"]), memory, only_known)
            else:
                files[role], prints[role] = _photo(data, side, memory, only_known)
            if sample.regions.get(role):
                regions[role] = upright_regions(sample.regions[role], frames[role])
        except FileNotFoundError:
            return sample.problem("the file is listed but missing", relative)
        except (ImageError, WrongFrame) as error:
            return sample.problem(str(error), relative)
    return Decoded(files, prints, regions)


def _photo(data: bytes, side: int, memory: Cache, only_known: bool) -> tuple[Stored, Fingerprint | KeptPrint]:
    key = _key("photo", side, data)
    if kept := memory.get(_FACTS, key):
        memory.keep(_PRINT, key)
        facts, _, pixels = kept.partition(b"\n")
        return Stored(**json.loads(facts)), KeptPrint(key, pixels.decode())
    if only_known:
        raise _NotKnown
    stored, (height, width) = stored_form(data, side)
    made = fingerprint(decode(stored, INGEST_FORMATS))
    memory.put(_PRINT, key, packed(made))  # before the facts: who finds these finds both
    return _remembered(key, stored, height, width, None, memory, made.pixels), made


def _mask(data: bytes, turn: int, memory: Cache, only_known: bool) -> Stored:
    key = _key("mask", turn, data)
    if kept := memory.get(_FACTS, key):
        return Stored(**json.loads(kept))
    if only_known:
        raise _NotKnown
    png, mask = canonical_mask(data, turn)
    height, width = mask.shape
    return _remembered(key, png, height, width, float((mask > 0).mean()), memory)


def _remembered(
    key: bytes, data: bytes, height: int, width: int, area: float | None, memory: Cache, pixels: str = ""
) -> Stored:
    suffix = "jpg" if data[:2] == b"\xff\xd8" else "png"
    stored = Stored(key.hex(), hashlib.sha256(data).hexdigest(), len(data), suffix, height, width, area)
    facts: Mapping[str, object] = {name: value for name, value in asdict(stored).items() if name != "data"}
    memory.passing.put(_BYTES, key, data)
    memory.put(_FACTS, key, f"{json.dumps(facts)}\n{pixels}".encode())
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
