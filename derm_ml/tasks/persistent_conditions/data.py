"""Reads and draws pairs of photos for persistent_conditions."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np

from derm_ml.asking.pair import Pair
from derm_ml.data.sources import PAIR_LAYOUTS, read_source
from derm_ml.files import replacing_file
from derm_ml.records import Reading, Region
from derm_ml.synthetic.faces import draw_face
from derm_ml.synthetic.skin import paint, skin, spots
from derm_ml.synthetic.visit_change import VisitChange
from derm_ml.synthetic.visits import second_visit
from derm_ml.task import NamedLabels
from derm_ml.tasks.persistent_conditions.task import TASK
from derm_ml.training.seeding import derived

CONDITIONS = 8  # on a drawn face
# every drawn pair is two files: gentle enough that a small set teaches something
DRAWN = VisitChange(rotation=15, scale=1.15, perspective=0.03, mirrored=0.2, occluded=0.3)


def read(root: Path, settings: NamedLabels) -> Reading:
    """Read pairs or single photos with boxes, as any of the tools in docs/layouts.md writes them, or series of one
    person."""
    return read_source(
        root,
        settings.source,
        labels=TASK.labels,
        label_map=settings.label_map(),
        setting=settings.hint,
        layouts=PAIR_LAYOUTS,
        follow_links=settings.follow_links,
        not_read=settings.not_read,
    )


def draw(folder: Path, n: int, seed: int = 0) -> None:
    """Draw `n` photos: n / 2 people at two visits, with `pairs.csv` and `boxes.csv`: its ids and states are true."""
    pairs: list[list[object]] = []
    boxes: list[list[object]] = []
    (folder / "images").mkdir(parents=True, exist_ok=True)
    for number in range(max(1, n // 2)):
        pair, ids, states = _drawn(derived("drawn face", seed, number), number)
        names = []
        for visit, picture, regions, lesions, said in zip(
            (1, 2), pair.pictures, pair.regions, ids, states, strict=True
        ):
            name = f"face{number:03d}_visit{visit}.png"
            names.append(name)
            with replacing_file(folder / "images" / name) as temporary:
                temporary.write_bytes(cv2.imencode(".png", picture[..., ::-1])[1].tobytes())
            rounded = [[round(v, 1) for v in region.box] for region in regions]
            boxes += [
                [name, region.label, *box, lesion, state]
                for region, box, lesion, state in zip(regions, rounded, lesions, said, strict=True)
            ]
        pairs.append([*names, f"person{number:03d}"])
    _write_csv(folder / "pairs.csv", ["first", "second", "patient_id"], pairs)
    _write_csv(folder / "boxes.csv", ["filename", "label", "x1", "y1", "x2", "y2", "lesion_id", "state"], boxes)


def _drawn(seed: int, number: int) -> tuple[Pair, tuple[list[str], list[str]], tuple[Sequence[str | None], ...]]:
    """A drawn pair, the lesion id of each box and its state; new and healed ones have ids of their own."""
    rng = np.random.default_rng(seed)
    photo = draw_face(seed)
    where = skin(photo)
    regions: list[Region] = []
    for k in range(CONDITIONS):
        radius = float(rng.uniform(4, 7))
        for x, y in spots(where, regions, radius, 1, rng):
            label = TASK.labels[(number + k) % len(TASK.labels)]
            photo = paint(photo, x, y, radius, label, rng)
            regions.append(Region(label, x - radius, y - radius, x + radius, y + radius))
    pair, truth = second_visit(photo, regions, seed + 1, DRAWN)
    first = [f"a{k}" for k in range(len(pair.first_regions))]
    second = [f"b{k}" for k in range(len(pair.second_regions))]
    for i, j in truth.matches:
        second[j] = first[i]
    return pair, (first, second), truth.states


def _write_csv(path: Path, header: list[str], rows: list[list[object]]) -> None:
    with replacing_file(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([header, *rows])
