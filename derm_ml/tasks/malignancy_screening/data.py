"""Reads and draws image sets for malignancy_screening."""

from __future__ import annotations

import csv
from collections import Counter
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np

from derm_ml.data.diagnoses import diagnoses, diagnosis_of, meant_by, same_name
from derm_ml.data.sources import read_source
from derm_ml.data.sources.unmatched import with_unmatched
from derm_ml.files import replacing_file
from derm_ml.records import DataError, Reading
from derm_ml.synthetic.lesions import draw_lesion
from derm_ml.tasks.malignancy_screening.settings import MalignancySettings
from derm_ml.tasks.malignancy_screening.task import TASK

(LABEL,) = TASK.labels
# the default of earlier versions, which params.yaml repeated: no set need have them all
_ONCE = ["mel", "bcc", "akiec"]
SPLITS = ("train", "validation", "train", "test")  # of pictures drawn one after another
_BENIGN_DRAWN, _MALIGNANT_DRAWN = ("nevus", "seborrheic_keratosis"), ("melanoma",)


def read(root: Path, settings: MalignancySettings) -> Reading:
    """Read any published set of skin lesions, folders Benign and Malignant, a CSV list, or a folder of such folders."""
    names, defaults = _meanings(settings)
    reading = read_source(
        root,
        settings.source,
        labels=(LABEL,),
        label_map=names,
        defaults=defaults,
        setting="`malignant`, `benign` or `left_out` in params.yaml",
        follow_links=settings.follow_links,
        not_read=settings.not_read,
    )
    given = {"malignant": settings.malignant, "benign": settings.benign, "left_out": settings.left_out}
    chosen = {name: values for name, values in given.items() if name in settings.model_fields_set and values != _ONCE}
    return with_unmatched(replace(reading, notes=(*reading.notes, *_rulings(reading, settings))), chosen)


def _rulings(reading: Reading, settings: MalignancySettings) -> list[str]:
    """A sentence for each diagnosis whose side a reader may not expect, where no setting has chosen it."""
    said = {one for name in (*settings.benign, *settings.left_out) for one in meant_by(name)}
    if "malignant" in settings.model_fields_set:
        return []  # then the user's list decides on every diagnosis
    counted = Counter(
        (diagnosis, sample.target[LABEL] == 1)
        for sample in reading.samples
        if sample.labelled and (diagnosis := diagnosis_of(sample.named)) and diagnosis not in said
    )
    return [
        f"{name.replace('_', ' ')}: {n} images count as {'malignant' if malignant else 'benign'}: "
        f"{diagnoses()[name].why}; `malignant`, `benign` or `left_out` in params.yaml say otherwise"
        for (name, malignant), n in sorted(counted.items())
        if diagnoses()[name].why and malignant == diagnoses()[name].malignant
    ]


def _meanings(settings: MalignancySettings) -> tuple[dict[str, str | None], dict[str, str | None]]:
    """What a name means, `malignant`, "" for benign, None for left out: as the settings say, and where they do not.

    Where `malignant` is set, it says what is: melanoma is unless `benign` or `left_out` names it, and every other known
    diagnosis is benign. Raises `DataError` for a name in two lists.
    """
    chosen = settings.malignant if "malignant" in settings.model_fields_set else []  # else our list, which gives way
    given = {"malignant": chosen, "benign": settings.benign, "left_out": settings.left_out}
    listed = [(same_name(name), where, name) for where, names in given.items() for name in names]
    for name, where, written in listed:
        other = next((w for n, w, _ in listed if n == name and w != where), None)
        if other:
            raise DataError(f"'{written}' is listed as {where} and as {other}: leave it in one of the two")
    meaning = {"malignant": LABEL, "benign": "", "left_out": None}
    said = {one: meaning[where] for name, where, _ in listed for one in meant_by(name)}
    said |= {name: meaning[where] for name, where, _ in listed}  # a mixed name that is listed itself
    known = {
        name: None if entry.malignant is None else LABEL if entry.malignant else ""
        for name, entry in diagnoses().items()
    }
    defaults = {**known, "benign": "", "indeterminate": None}
    if "malignant" not in settings.model_fields_set:  # then a publisher's own word counts before our list
        return said, defaults
    return {**{name: "" for name, meant in known.items() if meant is not None}, "melanoma": LABEL, **said}, defaults


def draw(folder: Path, n: int, seed: int = 0) -> None:
    """Draw `n` pictures, half of them malignant, as a CSV list: 50 % training, 25 % validation, 25 % test.

    A quarter for validation gives 240 pictures the 29 patients with cancer an operating point of recall 0.90 needs at
    least: a malignant lesion is pictured once, a benign one twice. Every split holds every kind of lesion. Ages, sexes
    and sites are drawn too, some unknown, and say nothing about the class.
    """
    rng = np.random.default_rng(seed)
    (folder / "images").mkdir(parents=True, exist_ok=True)
    rows = []
    for number in range(n):
        # of four pictures two are of one benign lesion, two of two malignant ones; a round of four goes to one split
        turn, place = divmod(number, 4)
        malignant = place >= 2
        patient = 3 * turn + max(0, place - 1)
        kinds = _MALIGNANT_DRAWN if malignant else _BENIGN_DRAWN
        drawn = draw_lesion(kinds[turn // len(SPLITS) % len(kinds)], seed=seed * 1_000_003 + number, side=96, width=128)
        name = f"lesion_{number:05d}.jpg"
        with replacing_file(folder / "images" / name) as temporary:
            encoded = cv2.imencode(".jpg", drawn.image[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 92])[1]
            temporary.write_bytes(encoded.tobytes())
        split = SPLITS[turn % len(SPLITS)]
        age = int(rng.integers(3, 17)) * 5 if rng.random() > 0.1 else ""
        site = rng.choice(["back", "face", "lower extremity"])
        rows.append([name, LABEL if malignant else "benign", split, f"patient {patient}", age,
                     rng.choice(["male", "female"]), site])  # fmt: skip
    with replacing_file(folder / "labels.csv") as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([["filename", "label", "split", "patient_id", "age", "sex", "site"], *rows])
