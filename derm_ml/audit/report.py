"""An audit as files: one page with the verdict first, the images and a table of each kind of finding.

save(found, dataset, folder)
    report.html          needs no network; all figures are in it
    data_audit.json      the verdict and every number
    images.csv           every image with its measures and scores
    <kind>.csv, .png     the findings of a kind and a sheet of the first of them
    shortcuts.csv, .png  what tells a label without showing the disease
    review.csv           what `derm relabel` reads, once somebody has filled in the labels
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd

from derm_ml.audit.findings import KINDS, Audit
from derm_ml.audit.labels import SEPARATED, is_separable
from derm_ml.audit.shortcuts import SOURCE, STRONG, Shortcut
from derm_ml.data.dataset import Dataset
from derm_ml.figures.contradictions import contradictions_sheet
from derm_ml.figures.sheets import Sheet
from derm_ml.files import replacing_folder, write_json
from derm_ml.metrics.words import headed, readable
from derm_ml.pages.page import template
from derm_ml.provenance import Made, when_and_by
from derm_ml.synthetic_mark import is_synthetic
from derm_ml.tables import write_table

REPORT, NUMBERS, REVIEW = "report.html", "data_audit.json", "review.csv"
PAIRS = "two_labels"  # the kind whose images are shown two by two
SHOWN = 24  # images of a kind, and rows of its table: on a sheet three rows of eight
SIDE = 256  # pixels of an image on the page: with 24 of each kind it stays below 5 MB
_ENDS = 8  # images of either end of a shortcut
_DIGITS = "%.4g"


def save(found: Audit, dataset: Dataset, folder: Path) -> Path:
    """Write the audit at `folder`, whole or not at all, and return `folder`."""
    sheets = sheets_of(found, dataset)
    with replacing_folder(folder) as temporary:
        for kind, table in found.findings.items():
            write_table(temporary / f"{kind}.csv", table, _DIGITS)
        write_table(temporary / "images.csv", found.images, _DIGITS)
        write_table(temporary / "shortcuts.csv", pd.DataFrame(shortcut_rows(found.shortcuts)), _DIGITS)
        write_table(temporary / REVIEW, _to_review(found))
        for name, sheet in sheets.items():
            (temporary / f"{name}.png").write_bytes(sheet.png)
        write_json(temporary / NUMBERS, _as_json(found))
        (temporary / REPORT).write_text(_render(found, dataset, sheets), encoding="utf-8")
    return folder


def sheets_of(found: Audit, dataset: Dataset) -> dict[str, Sheet]:
    """The first findings of each kind that has any, and both ends of the strongest suspicious shortcut."""
    rows = {str(row["id"]): row for row in dataset.manifest.to_dict("records")}
    roles = dict(zip(found.images["file"], found.images["role"], strict=True))
    pairs = contradictions_sheet(dataset)
    sheets = {PAIRS: pairs} if pairs else {}
    for kind, table in found.findings.items():
        if len(table) and kind not in sheets:
            shown = table.head(SHOWN).to_dict("records")
            images = [[dataset.image(rows[str(row["id"])], roles[row["file"]])] for row in shown]
            sheets[kind] = Sheet(images, [_caption(row) for row in shown], title=headed(kind))
    strongest = next((s for s in found.suspicious if s.measure != SOURCE), None)
    if strongest is not None:
        ordered = found.images.sort_values([strongest.measure, "id"]).to_dict("records")
        ends = [*ordered[:_ENDS], *ordered[-_ENDS:]]
        images = [[dataset.image(rows[str(row["id"])], row["role"])] for row in ends]
        measure = readable(strongest.measure)
        captions = [f"{row['id']}\n{readable(row['label'])}\n{measure} {row[strongest.measure]:.3g}" for row in ends]
        sheets["shortcuts"] = Sheet(images, captions, title=f"The lowest and the highest {measure}")
    return sheets


def shortcut_rows(found: tuple[Shortcut, ...]) -> list[dict[str, Any]]:
    """One row a measure and label: AUC with its interval, and whether it is suspicious."""
    return [
        {
            "measure": readable(s.measure),
            "label": s.label,
            "auc": s.auc.value,
            "low": s.auc.low,
            "high": s.auc.high,
            "n": s.auc.n,
            "images of the label are": s.words,
            "suspicious": s.suspicious,
        }
        for s in found
    ]


def limits(found: Audit) -> list[str]:
    """What the audit could not judge, or not well, in sentences."""
    said = [f"Labels not judged: {why}." for why in found.unjudged]
    for name, metric in found.separated.items():
        told = f"By {found.judged_by} the {name} of an image is predicted out of fold with AUC {metric}"
        if metric.value is None:
            said.append(f"No {name} was judged: {metric.note}.")
        elif is_separable(metric):
            said.append(f"{told}.")
        else:
            said.append(
                f"{told}, below {SEPARATED:g}: too poorly to call one wrong, so none is listed. images.csv ranks them "
                "all; the embeddings of a trained model may tell more (`derm audit --model`)."
            )
    return said


def _caption(row: dict[Any, Any]) -> str:
    told = readable(row["label"]) + (f" → {readable(row['suggested'])}?" if "suggested" in row else "")
    return f"{row['id']}\n{told}\nscore {row['score']:.2f}"


def _to_review(found: Audit) -> pd.DataFrame:
    """The doubtful labels with an empty column for what a person decides."""
    doubtful = found.findings["label_errors"]
    return pd.DataFrame(
        {
            "id": doubtful["id"],
            "given": doubtful["label"],
            "suggested": doubtful["suggested"],
            "label": "",
            "remark": "",
        }
    )


def _as_json(found: Audit) -> dict[str, Any]:
    return {
        "task": found.task,
        "dataset_md5": found.dataset_md5,
        "judged_by": found.judged_by,
        "verdict": found.verdict,
        "numbers": found.numbers,
        "limits": limits(found),
        "shortcuts": shortcut_rows(found.shortcuts),
    }


def _render(found: Audit, dataset: Dataset, sheets: dict[str, Sheet]) -> str:
    return template("derm_ml.audit", "report.html.j2", words=readable).render(
        a=found,
        kinds=KINDS,
        limits=limits(found),
        shortcuts=shortcut_rows(found.shortcuts),
        strong=STRONG,
        sheets=sheets,
        side=SIDE,
        pairs=PAIRS,
        tables={kind: table.head(SHOWN).to_dict("records") for kind, table in found.findings.items()},
        sizes=dataset.info["sizes"],
        synthetic=is_synthetic(dataset.licences),
        lines=_provenance(found, dataset),
    )


def _provenance(found: Audit, dataset: Dataset) -> dict[str, str]:
    now, labels = Made.now(), dataset.info["counts"]
    return {
        "Task": found.task,
        "Dataset md5": found.dataset_md5,
        "Images of the dataset": ", ".join(f"{split} {n}" for split, n in dataset.info["sizes"].items()),
        "Labels": "; ".join(f"{split}: {_counted(counts)}" for split, counts in labels.items()),
        "Judged by": found.judged_by,
        "Made": when_and_by(now),
        "Made on": now.machine,
    }


def _counted(counts: dict[str, int]) -> str:
    return ", ".join(f"{readable(name)} {n}" for name, n in counts.items())
