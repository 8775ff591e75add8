"""Reads and draws image sets for retinal_findings."""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np

from derm_ml.data.sources import RETINA_LAYOUTS, read_source
from derm_ml.data.sources.finding_names import FindingMap
from derm_ml.data.sources.unmatched import with_unmatched
from derm_ml.files import replacing_file
from derm_ml.records import Reading, Sample
from derm_ml.synthetic.fundus import FINDINGS as DRAWN
from derm_ml.synthetic.fundus import draw_fundus
from derm_ml.tasks.retinal_findings.settings import RetinalSettings

# of a drawn patient, in turn: about as often as in ODIR-5K, but for glaucoma, which a small set could not show
EYES = (
    ("diabetic_retinopathy",),
    (),
    ("glaucoma",),
    ("diabetic_retinopathy", "glaucoma"),
    (),
    ("opacity",),
    ("diabetic_retinopathy",),
    ("macular_degeneration",),
)


def read(root: Path, settings: RetinalSettings) -> Reading:
    """Read any published set of retinal photographs, a table of findings, a list or class folders of one label an
    image, or a folder of such folders.

    A finding that is not modelled, for want of positives or of a wish, is named in `left_out` with its count.
    """
    reading = read_source(
        root,
        settings.source,
        labels=(),
        meanings=FindingMap((), settings.label_map(), setting=settings.hint),
        layouts=RETINA_LAYOUTS,
        follow_links=settings.follow_links,
        not_read=settings.not_read,
    )
    reading = with_unmatched(reading, {"labels": [*settings.labels]})
    reading = replace(reading, samples=_completed(reading.samples))
    positives = Counter({name: 0 for sample in reading.samples for name in sample.target})
    positives.update(name for s in reading.samples for name, value in s.target.items() if value == 1)
    wanted = settings.findings or [n for n in positives if positives[n] >= settings.minimum_positives]
    labels = tuple(name for name in wanted if positives[name])
    samples = tuple(
        replace(s, target={name: s.target.get(name, float("nan")) for name in labels} if s.target else {})
        for s in reading.samples
    )
    if missed := tuple(n for n in settings.findings if n not in positives and "findings" in settings.model_fields_set):
        reading = replace(
            reading,
            unmatched={**reading.unmatched, "findings": missed},
            present={**reading.present, "findings": tuple(f"{n} ({positives[n]})" for n in sorted(positives))},
        )
    others = {name: positives[name] for name in sorted({*wanted, *positives} - set(labels))}
    return replace(reading, samples=samples, labels=labels, left_out={**reading.left_out, **others})


def _completed(samples: Sequence[Sample]) -> tuple[Sample, ...]:
    """Where a list or folder gives each image one name, the others it gives are absent."""
    given: dict[str, set[str]] = {}
    for sample in samples:
        if sample.named:
            given.setdefault(sample.source, set()).update(name for name, value in sample.target.items() if value == 1)
    return tuple(
        replace(s, target={**dict.fromkeys(sorted(given[s.source]), 0.0), **s.target}) if s.named and s.target else s
        for s in samples
    )


def draw(folder: Path, n: int, seed: int = 0) -> None:
    """Draw `n` labelled photographs of the eyes of n / 2 patients, and n / 5 unlabelled ones of others.

    The layout is that of ODIR-5K. Both eyes of a patient have the same findings, each with exceptions. The table also
    has a finding nobody has (macular edema). Ages and sexes say nothing about the findings.
    """
    rng = np.random.default_rng(seed)
    columns = [*DRAWN, "macular_edema", "normal"]
    ages, sexes = rng.integers(30, 80, n), rng.choice(["Female", "Male"], n)
    table = []
    for number in range(n + n // 5):
        labelled, patient = number < n, number // 2
        findings = EYES[patient % len(EYES)] if rng.random() < 0.85 or patient < len(EYES) else EYES[rng.integers(8)]
        eye = "right" if number % 2 else "left"
        name = f"{patient}_{eye}.jpg"
        drawn = draw_fundus(findings, seed * 1_000_003 + number, side=144, width=160, eye=eye)
        path = folder / ("train" if labelled else "unlabeled") / name
        with replacing_file(path) as temporary:
            encoded = cv2.imencode(".jpg", drawn.image[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 92])[1]
            temporary.write_bytes(encoded.tobytes())
        if labelled:
            marks = [int(c in findings or (c == "normal" and not findings)) for c in columns]
            table.append([name, patient, eye, ages[patient], sexes[patient], *marks])
    with replacing_file(folder / "train.csv") as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([["filename", "patient_id", "eye", "age", "sex", *columns], *table])
