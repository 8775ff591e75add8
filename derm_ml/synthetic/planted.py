"""Faults planted into a synthetic set, with exact truth: what each check must find, and what it must leave alone.

    plant(reading, drawn, into, ["shortcut", "leak"], share=0.1, seed=0, negative="benign")

`into` becomes a set as downloaded, `images/` beside `labels.csv`; the truth lies beside it, `<into>.planted.csv`, one
row an image: what the list says of it, what is true, what was planted.

    shortcut      a dot in a corner of every image, its colour that of the label
    leak          copies of test images in training, under new names and of new patients; `leaked_by` says how changed
    label-noise   labels exchanged for another one
    subgroup      women, a share of the patients: in the test split their labels are exchanged
    off-topic     images of something else
    blur          images out of focus

A share of the images is changed (of leaks: of the test images; of a subgroup: of the patients), no image in two of the
ways that exclude each other. All images carry the dot of a shortcut, whatever else they show.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import cv2
import numpy as np

from derm_ml.files import replacing_file
from derm_ml.images.changes import LEAKS, blurred, with_dot
from derm_ml.images.decode import INGEST_FORMATS, decode
from derm_ml.records import DataError, Reading, Sample
from derm_ml.sentences import WrongValue, unknown
from derm_ml.synthetic.off_topic import DISTINCT, off_topic
from derm_ml.synthetic_mark import mark_synthetic
from derm_ml.tables import write_rows

PLANTS = ("shortcut", "leak", "label-noise", "subgroup", "off-topic", "blur")
_LIST = ("filename", "label", "split", "patient_id", "age", "sex", "site")
_TRUTH = ("filename", "split", "label", "true_label", "planted", "copy_of", "leaked_by")


@dataclass(frozen=True)
class _Image:
    """One image of the set to be: where it comes from, what is said of it, what is true, and how it is changed."""

    name: str
    path: Path
    sample: Sample
    label: str
    true_label: str
    sex: str
    split: str
    patient: str
    planted: tuple[str, ...] = ()
    copy_of: str = ""
    leaked_by: str = ""
    changes: tuple[Callable[[np.ndarray], np.ndarray], ...] = field(default=())

    def changed(self, what: str, *changes: Callable[[np.ndarray], np.ndarray], **said: str) -> _Image:
        return replace(self, planted=(*self.planted, what), changes=(*self.changes, *changes), **said)


def plant(
    reading: Reading, drawn: Path, into: Path, plants: Sequence[str], share: float, seed: int, negative: str
) -> Path:
    """Write the set that was drawn at `drawn` and read as `reading` to `into` with its faults; the path of the truth.

    `negative` is what an image without any label is called. Raises `WrongValue` for an unknown plant and `DataError`
    for a set whose images have several labels, or more than the image itself.
    """
    for name in plants:
        if name not in PLANTS:
            raise WrongValue(unknown("plant", name, PLANTS, "there are"))
    rng = np.random.default_rng([seed, 20])
    images = _images(reading, drawn, negative)
    labels = sorted({image.label for image in images})
    free = rng.permutation(len(images)).tolist()  # places no fault has taken yet
    for what in ("subgroup", "label-noise", "off-topic", "blur"):  # labels before what shows them
        if what in plants:
            images, free = _PLANTERS[what](images, free, round(share * len(images)), labels, rng)
    if "leak" in plants:
        images = _with_leaks(images, share, rng)
    if "shortcut" in plants:
        images = [
            image.changed("shortcut", with_dot(labels.index(image.label), int(rng.integers(4)))) for image in images
        ]
    return _write(images, into)


def _images(reading: Reading, drawn: Path, negative: str) -> list[_Image]:
    images = []
    for sample in sorted(reading.samples, key=lambda sample: sample.id):
        if set(sample.files) != {"image"} or len(sample.positives) != 1:
            raise DataError("faults can be planted where an image has one label and nothing else; this set is another")
        label = negative if sample.positives == ("none",) else sample.label
        patient = sample.patient or f"of {sample.id}"
        sex = str(sample.attributes.get("sex", ""))
        images.append(
            _Image(sample.id, drawn / sample.files["image"], sample, label, label, sex, sample.split, patient)
        )
    return images


def _subgroup(
    images: list[_Image], free: list[int], n: int, labels: Sequence[str], rng: np.random.Generator
) -> tuple[list[_Image], list[int]]:
    """A share of the patients of each split are women, all others men; of women in the test split labels are wrong."""
    by_split: dict[str, list[str]] = {}
    for image in images:
        if image.patient not in by_split.setdefault(image.split, []):
            by_split[image.split].append(image.patient)
    women: set[str] = set()
    for patients in by_split.values():
        women.update(rng.permutation(patients)[: max(1, round(n / len(images) * len(patients)))].tolist())
    exchanged = dict(zip(labels, (labels[1], labels[0], *labels[2:]), strict=True))
    found = []
    for image in images:
        sexed = replace(image, sex="female" if image.patient in women else "male")
        wrong = image.patient in women and image.split == "test"
        found.append(sexed.changed("subgroup", label=exchanged[image.label]) if wrong else sexed)
    return found, [place for place in free if not found[place].planted]


def _label_noise(
    images: list[_Image], free: list[int], n: int, labels: Sequence[str], rng: np.random.Generator
) -> tuple[list[_Image], list[int]]:
    def wrong(image: _Image) -> _Image:
        others = [label for label in labels if label != image.label]
        return image.changed("label-noise", label=str(rng.choice(others)))

    return _each(images, free, n, wrong)


def _off_topic(
    images: list[_Image], free: list[int], n: int, labels: Sequence[str], rng: np.random.Generator
) -> tuple[list[_Image], list[int]]:
    seeds = iter([5 * k + DISTINCT[k % len(DISTINCT)] for k in range(n)])

    def other(image: _Image) -> _Image:
        k = next(seeds)
        return image.changed("off-topic", lambda pixels: off_topic(k, *pixels.shape[:2]), true_label="")

    return _each(images, free, n, other)


def _blur(
    images: list[_Image], free: list[int], n: int, labels: Sequence[str], rng: np.random.Generator
) -> tuple[list[_Image], list[int]]:
    return _each(images, free, n, lambda image: image.changed("blur", blurred))


_PLANTERS = {"subgroup": _subgroup, "label-noise": _label_noise, "off-topic": _off_topic, "blur": _blur}


def _each(
    images: list[_Image], free: list[int], n: int, change: Callable[[_Image], _Image]
) -> tuple[list[_Image], list[int]]:
    """The images with the next `n` free ones changed, and the places that are still free."""
    chosen = set(free[:n])
    return [change(image) if k in chosen else image for k, image in enumerate(images)], free[n:]


def _with_leaks(images: list[_Image], share: float, rng: np.random.Generator) -> list[_Image]:
    """The images, and copies of a share of those of the test split for training, each changed in the next way."""
    test = [image for image in images if image.split == "test" and not image.planted]
    copies, ways = [], [*LEAKS.items()]
    for k, place in enumerate(rng.permutation(len(test))[: max(1, round(share * len(test)))].tolist()):
        (way, change), source = ways[k % len(ways)], test[place]
        copies.append(
            replace(
                source.changed("leak", change),
                name=f"copy_{k:05d}",
                split="train",
                patient=f"new {k}",
                copy_of=source.name,
                leaked_by=way,
            )
        )
    return [*images, *copies]


def _write(images: Sequence[_Image], into: Path) -> Path:
    (into / "images").mkdir(parents=True)
    listed: list[Mapping[str, object]] = []
    truth: list[Mapping[str, object]] = []
    for image in images:
        name = f"{image.name}.jpg"
        with replacing_file(into / "images" / name) as temporary:
            temporary.write_bytes(_bytes(image))
        facts = image.sample.attributes
        row = {"filename": name, "split": image.split, "label": image.label}
        listed.append(
            row
            | {"patient_id": image.patient, "sex": image.sex}
            | {name: facts.get(name, "") for name in ("age", "site")}
        )
        truth.append(
            row
            | {"true_label": image.true_label, "planted": " ".join(image.planted)}
            | {"copy_of": image.copy_of and f"{image.copy_of}.jpg", "leaked_by": image.leaked_by}
        )
    mark_synthetic(into)
    path = into.with_name(f"{into.name}.planted.csv")  # not inside: it is no list of the set
    for target, columns, rows in ((into / "labels.csv", _LIST, listed), (path, _TRUTH, truth)):
        with replacing_file(target) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
            write_rows(file, columns, rows)
    return path


def _bytes(image: _Image) -> bytes:
    stored = image.path.read_bytes()
    if not image.changes:
        return stored
    pixels = decode(stored, INGEST_FORMATS)
    for change in image.changes:
        pixels = change(pixels)
    return cv2.imencode(".jpg", pixels[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 92])[1].tobytes()
