"""The data checks that every image task shares: sentences that are true of a usable `Dataset`.

A rule returns a `Finding` with the rows that break it. Those of a model are in `evaluation/gates.py`.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any

from derm_ml.records import FROZEN, SPLITS, UNLABELLED, normal_id
from derm_ml.task import DataRule, Finding

if TYPE_CHECKING:
    import pandas as pd

    from derm_ml.data.dataset import Dataset

SHOWN = 50  # rows shown of a broken rule; the message says how many there are
MAX_EMPTY = 0.05  # more empty masks than this come from a broken export, not from skin without lesions
WHOLE = 0.995  # share of the picture from which a mask counts as covering it
MAX_QUARANTINED = 0.05  # a batch that loses more than this share is broken, not unlucky
_ADD = (
    "add images or change the split fractions (what is added later reaches the test split only with "
    "`test_grows: true` in params.yaml)"
)


def patients_do_not_cross_splits(dataset: Dataset) -> Finding:
    """No patient and no lesion, by its ID, lies in two splits."""
    table = dataset.manifest.loc[dataset.manifest["split"].isin(FROZEN)]  # unlabelled images are in no split
    spaces = dataset.namespaces(table)
    rows, counts, named = [], [], spaces != spaces
    for kind in ("patient", "lesion"):
        ids = table[kind].map(normal_id)
        known = ids != ""
        named |= known
        spread = table[known].groupby([spaces[known], ids[known]])["split"].agg(lambda s: ", ".join(sorted(set(s))))
        counts += [_counted(len(spread), f"{kind} ID")] if len(spread) else []
        rows += [
            {"kind": kind, "id": name, "sources": space or "all", "splits": splits}
            for (space, name), splits in spread.items()
            if "," in splits
        ]
    if not named.any():
        return Finding.not_evaluable(f"none of the {len(table)} images has a patient or lesion ID")
    if rows:
        first = rows[0]
        return Finding(
            False,
            f"{len(rows)} patients or lesions lie in more than one split, e.g. {first['kind']} {first['id']} "
            f"({first['splits']}). Remove their images from one of the splits, or set a new `seed` in params.yaml; if "
            "two sources number different people alike, set `patients: per_source`",
            tuple(rows[:SHOWN]),
        )
    unnamed = f"; {(~named).sum()} of {len(table)} images have no ID and cannot be checked" if not named.all() else ""
    return Finding(True, f"{' and '.join(counts)}, each in one split{unnamed}")


def no_duplicates_across_splits(dataset: Dataset) -> Finding:
    """No image, as is or flipped, turned, cropped, recompressed or drawn over, lies in two splits."""
    pairs = dataset.duplicates
    in_splits = pairs["a_split"].isin(FROZEN) & pairs["b_split"].isin(FROZEN)
    crossing = pairs.loc[in_splits & (pairs["a_split"] != pairs["b_split"])]
    if crossing.empty:
        held = dataset.held_back
        said = f"; {_counted(len(held), 'image')} held back, see quarantine.csv" if len(held) else ""
        within = "" if pairs.empty else ", within one split" if len(pairs) == 1 else ", each within one split"
        return Finding(True, f"{_counted(len(pairs), 'duplicate pair')}{within}{said}", _rows(held))
    first = crossing.iloc[0]
    return Finding(
        False,
        f"{_counted(len(crossing), 'image')} in two splits, e.g. {first['a']} ({first['a_split']}) and {first['b']} "
        f"({first['b_split']}, {first['kind']} duplicate). Remove one of each pair, or set `duplicates: quarantine` "
        "in params.yaml, which keeps the test image, else the validation image",
        _rows(crossing),
    )


def duplicates_have_one_label(dataset: Dataset) -> Finding:
    """Images that show the same have the same label."""
    unlike = contradictions(dataset)
    if unlike.empty:
        return Finding(True, f"{_counted(len(dataset.duplicates), 'duplicate pair')}, none with two labels")
    first = unlike.iloc[0]
    return Finding(
        False,
        f"{_counted(len(unlike), 'duplicate pair')} with two labels, e.g. {first['a']} ({first['a_label']}) and "
        f"{first['b']} ({first['b_label']}): correct or remove one of each",
        _rows(unlike),
    )


def contradictions(dataset: Dataset) -> pd.DataFrame:
    """The rows of duplicates.csv whose two images have different labels."""
    pairs = dataset.duplicates
    labelled = (pairs["a_label"] != UNLABELLED) & (pairs["b_label"] != UNLABELLED)
    return pairs.loc[labelled & (pairs["a_label"] != pairs["b_label"])]


def every_class_in_every_split(dataset: Dataset) -> Finding:
    """Training, validation and test each hold every class, and cases without it."""
    rows = []
    sizes = {s: len(dataset.split(s)) for s in SPLITS}
    for label in dataset.labels:
        counts = {s: dataset.count(s, label) for s in SPLITS}
        rows.append({"label": label, **counts})
    missing = [f"{row['label']} in {s}" for row in rows for s in SPLITS if row[s] == 0]
    missing += [f"anything but {row['label']} in {s}" for row in rows for s in SPLITS if 0 < row[s] == sizes[s]]
    if missing:
        return Finding(False, f"no image of {'; '.join(missing)}: {_ADD}", tuple(rows))
    classes = max(2, len(dataset.labels))  # one label alone divides into those with it and those without
    return Finding(True, f"{classes} classes in {len(SPLITS)} splits", tuple(rows))


def images_decode(dataset: Dataset) -> Finding:
    """Every stored image is intact, and few of those delivered had to be quarantined.

    Images were decoded when the dataset was prepared; here their stored bytes are held against their sha256.
    """
    table = dataset.manifest
    roles = [c.removesuffix(".sha256") for c in table.columns if c.endswith(".sha256")]
    damaged = [
        {"id": row["id"], "role": role}
        for row in table.to_dict("records")
        for role in roles
        if isinstance(row[f"{role}.sha256"], str)
        and hashlib.sha256(dataset.read(row, role)).hexdigest() != row[f"{role}.sha256"]
    ]
    if damaged:
        return Finding(False, f"{len(damaged)} stored files are damaged: run `dvc checkout`", tuple(damaged[:SHOWN]))
    lost = dataset.quarantine.loc[dataset.quarantine["kind"] == "unusable"]
    share = len(lost) / max(1, len(lost) + len(table))
    message = f"{len(table)} images intact, {len(lost)} quarantined ({share:.1%})"
    return Finding(share <= MAX_QUARANTINED, message, _rows(lost.astype(str)), {"quarantined": float(len(lost))})


def lesions_in_every_split(dataset: Dataset) -> Finding:
    """Training, validation and test each hold an image whose mask is not empty."""
    counts = {s: sum(area > 0 for area in dataset.split(s)["mask.area"]) for s in SPLITS}
    missing = [s for s in SPLITS if not counts[s]]
    if missing:
        return Finding(False, f"no mask with a lesion in {' and '.join(missing)}: {_ADD}", (counts,))
    return Finding(True, ", ".join(f"{n} lesions in {s}" for s, n in counts.items()), (counts,))


def few_masks_are_empty(dataset: Dataset) -> Finding:
    """At most 5 % of the masks are empty; an empty mask says that its image shows no lesion."""
    empty = dataset.manifest.loc[dataset.manifest["mask.area"] == 0, ["id", "source", "split"]]
    share = len(empty) / len(dataset.manifest)
    message = f"{len(empty)} of {len(dataset.manifest)} masks are empty ({share:.1%})"
    return Finding(share <= MAX_EMPTY, message, _rows(empty), {"empty_masks": float(len(empty))})


def masks_leave_some_background(dataset: Dataset) -> Finding:
    """No mask covers its whole image: then nothing is left to tell the lesion from."""
    full = dataset.manifest.loc[dataset.manifest["mask.area"] > WHOLE, ["id", "source", "split", "mask.area"]]
    return Finding(full.empty, f"{len(full)} of {len(dataset.manifest)} masks cover the whole image", _rows(full))


def _counted(n: int, what: str) -> str:
    return f"{n} {what}" if n == 1 else f"{n} {what}s"


def _rows(table: pd.DataFrame) -> tuple[dict[str, Any], ...]:
    return tuple({str(k): v for k, v in row.items()} for row in table.head(SHOWN).to_dict(orient="records"))


IMAGE_RULES = (
    DataRule("patients_do_not_cross_splits", patients_do_not_cross_splits),
    DataRule("no_duplicates_across_splits", no_duplicates_across_splits),
    DataRule("every_class_in_every_split", every_class_in_every_split, more_data_may_help=True),
    DataRule("images_decode", images_decode),
    DataRule("duplicates_have_one_label", duplicates_have_one_label, blocking=False),
)

# instead of the classes, of which a task that draws masks has one
MASK_RULES = (
    *(r for r in IMAGE_RULES if r.check not in (every_class_in_every_split, duplicates_have_one_label)),
    DataRule("lesions_in_every_split", lesions_in_every_split, more_data_may_help=True),
    DataRule("few_masks_are_empty", few_masks_are_empty),
    DataRule("masks_leave_some_background", masks_leave_some_background, blocking=False),
)
