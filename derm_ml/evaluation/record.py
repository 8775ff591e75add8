"""What was measured of one model on one frozen split: numbers with intervals, tables, figures, every prediction.

An evaluation is saved as a folder that people and machines read:

    evaluation.json      the id chain, metrics and tables; an undefined metric is null and says why
    predictions.parquet  one row a case: id, group, split, target.<label>, p.<label>, logit.<label>, attribute.*
                         (or answer.<name>, where a task answers other numbers than probabilities)
    predictions.csv      the same, rounded, for a spreadsheet
    figures/<name>.png
    sheets/<name>/       images of a sheet as JPEG, <tile>-<image>.jpg; their captions are in evaluation.json
    provenance.json      when, by whom and where it was measured and its model trained
    report.html          all of it on one page that needs no network

`derm evaluate <task>` writes one.
"""

from __future__ import annotations

import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from derm_ml import DermError, formats
from derm_ml.figures.sheets import Sheet, Tile
from derm_ml.figures.stamp import stamped
from derm_ml.files import sha256, write_json
from derm_ml.metrics.metric import Metric
from derm_ml.model_folder import ModelFolder
from derm_ml.provenance import Provenance, ProvenanceError
from derm_ml.synthetic_mark import IN_A_PICTURE, is_synthetic
from derm_ml.tables import write_table

if TYPE_CHECKING:
    import pandas as pd

    from derm_ml.bundles.bundle import Bundle
    from derm_ml.data.dataset import Dataset

SUMMARY = "evaluation.json"
_COUNTS = {  # of matched pairs, as version 1 called them
    "right": "n_matched",
    "said": "n_predicted",
    "there": "n_true",
    "states_right": "n_states_correct",
    "states": "n_states",
}
_METHODS = ("", "original.", "unregistered.")  # in front of the counts: the task's own method, and those beside it
Row = dict[str, Any]


class EvaluationError(DermError, ValueError):
    """A saved evaluation is missing or damaged, or does not say what it must. Nothing may be promoted on it."""


@dataclass(frozen=True)
class Evaluation:
    """One model on one frozen split.

    `metrics` in the order they are shown, the most important first; `tables` name → rows of plain values (text,
    numbers, None); `figures` name → PNG; `captions` name of a figure or table → the sentence below its title.
    Names are identifiers such as `confusion_matrix`. `predictions` has one row a case.
    """

    task: str
    title: str
    model_version: str
    recipe_name: str
    recipe: Mapping[str, Any]
    git_commit: str
    dataset_md5: str
    split: str
    split_hash: str
    n: int
    n_patients: int
    labels: tuple[str, ...]
    metrics: dict[str, Metric]
    predictions: pd.DataFrame
    tables: dict[str, list[Row]] = field(default_factory=dict)
    figures: dict[str, bytes] = field(default_factory=dict)
    sheets: dict[str, tuple[Tile, ...]] = field(default_factory=dict)  # the figures that are images with captions
    captions: dict[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    provenance: Provenance = field(default_factory=Provenance)  # empty where nobody noted it
    predictions_sha256: str = ""  # of predictions.parquet; known once it is saved
    synthetic: bool = False  # its images, or those the model learned from, were made by this program
    format_version: int = formats.EVALUATION.version  # of the file it was read from: how its metrics were measured

    @classmethod
    def of(
        cls,
        bundle: Bundle,
        dataset: Dataset,
        split: str,
        title: str,
        metrics: dict[str, Metric],
        predictions: pd.DataFrame,
        tables: dict[str, list[Row]],
        figures: Mapping[str, bytes | Sheet],
        captions: dict[str, str],
        notes: tuple[str, ...] = (),
    ) -> Evaluation:
        """What was measured of a bundle on one split: who was asked of what is read from bundle and dataset.

        `predictions` has a row a case and the column `group`, whom an interval resamples. A figure that is a `Sheet` is
        kept as a picture and as its tiles.
        """
        card = bundle.card
        measured = cls(
            task=dataset.task,
            title=title,
            model_version=bundle.version,
            recipe_name=card.recipe_name,
            recipe=card.recipe,
            git_commit=card.git_commit,
            dataset_md5=dataset.md5,
            split=split,
            split_hash=dataset.split_hash(split),
            n=len(predictions),
            n_patients=len(predictions["group"].unique()),
            labels=card.labels,
            metrics=metrics,
            predictions=predictions,
            tables=tables,
            notes=notes,
            synthetic=card.for_synthetic_images or is_synthetic(dataset.licences),
            provenance=Provenance.of(ModelFolder.holding(bundle.path), dataset.info),
        )
        return measured.with_figures(figures, captions)

    def with_figures(self, figures: Mapping[str, bytes | Sheet], captions: Mapping[str, str]) -> Evaluation:
        """The same with more figures and captions. A figure of synthetic images says so itself: it is copied alone."""

        def picture(made: bytes | Sheet) -> bytes:
            if isinstance(made, Sheet):
                return replace(made, title=made.title or (IN_A_PICTURE if self.is_synthetic else "")).png
            return stamped(made, IN_A_PICTURE) if self.is_synthetic else made

        return replace(
            self,
            figures={**self.figures, **{name: picture(made) for name, made in figures.items()}},
            sheets={**self.sheets, **{name: made.tiles() for name, made in figures.items() if isinstance(made, Sheet)}},
            captions={**self.captions, **captions},
        )

    @property
    def is_synthetic(self) -> bool:
        """Whether it shows how the program works and says nothing about patients."""
        return self.synthetic or is_synthetic({}, self.recipe_name)

    @property
    def numbers(self) -> dict[str, float]:
        """The defined metrics as bare floats: what a tracking server and a plot over time want."""
        return {name: metric.value for name, metric in self.metrics.items() if metric.value is not None}

    def value(self, name: str) -> float | None:
        """The value of a metric, None if undefined. Raises `KeyError` listing the metrics there are."""
        if name not in self.metrics:
            raise KeyError(f"the evaluation of {self.task} has no metric '{name}'; it has {', '.join(self.metrics)}")
        return self.metrics[name].value

    def summary(self) -> dict[str, Any]:
        """Everything but pictures and predictions as plain values: the content of evaluation.json."""
        plain = {name: getattr(self, name) for name in _PLAIN}
        content = {
            **plain,
            "recipe": dict(self.recipe),
            "labels": list(self.labels),
            "notes": list(self.notes),
            "metrics": {name: asdict(metric) for name, metric in self.metrics.items()},
            "tables": self.tables,
            "figures": list(self.figures),
            "sheets": {
                name: [{"caption": t.caption, "framed": t.framed, "images": len(t.images)} for t in tiles]
                for name, tiles in self.sheets.items()
            },
            "captions": self.captions,
        }
        return formats.EVALUATION.stamped(content)

    def write(self, folder: Path) -> None:
        """Write all but the page into an empty folder. `report.save` adds the page, whole or not at all.

        Raises `ValueError` if a table holds NaN: it must say None or why there is no number.
        """
        self.predictions.to_parquet(folder / "predictions.parquet", index=False)
        named = {"predictions_sha256": sha256(folder / "predictions.parquet")}
        write_json(folder / SUMMARY, self.summary() | named)
        write_table(folder / "predictions.csv", self.predictions, float_format="%.6f")
        self.provenance.write(folder)
        (folder / "figures").mkdir()
        for name, png in self.figures.items():
            (folder / "figures" / f"{name}.png").write_bytes(png)
        for name, tiles in self.sheets.items():
            (folder / "sheets" / name).mkdir(parents=True)
            for place, tile in enumerate(tiles):
                for k, jpeg in enumerate(tile.images):
                    (folder / "sheets" / name / f"{place}-{k}.jpg").write_bytes(jpeg)

    @classmethod
    def load(cls, folder: Path) -> Evaluation:
        """Read what `report.save` wrote. Raises `EvaluationError` naming the file that is missing or not readable."""
        path = folder / SUMMARY
        try:
            stored = json.loads(path.read_text(encoding="utf-8"))
            version = stored.get(formats.VERSION, 1) if isinstance(stored, dict) else 1
            stored = formats.EVALUATION.read(stored, path, EvaluationError)
            predictions, named = folder / "predictions.parquet", stored.get("predictions_sha256", "")
            if named and sha256(predictions) != named:
                raise EvaluationError(
                    f"{predictions}: its sha256 is not the one in evaluation.json, so it was changed: evaluate again"
                )
            return cls(
                predictions_sha256=named,
                provenance=Provenance.read(folder),
                format_version=version,
                **{name: stored[name] for name in _PLAIN},
                recipe=stored["recipe"],
                labels=tuple(stored["labels"]),
                notes=tuple(stored["notes"]),
                metrics={name: Metric(**metric) for name, metric in stored["metrics"].items()},
                tables=stored["tables"],
                captions=stored["captions"],
                figures={name: (folder / "figures" / f"{name}.png").read_bytes() for name in stored["figures"]},
                sheets={name: _read_tiles(folder / "sheets" / name, rows) for name, rows in stored["sheets"].items()},
                predictions=_read_predictions(predictions),
            )
        except FileNotFoundError as error:
            raise EvaluationError(f"{error.filename} is missing: run `derm evaluate`") from None
        except json.JSONDecodeError as error:
            raise EvaluationError(f"{path}: not readable JSON: {error}") from error
        except (EvaluationError, ProvenanceError):
            raise
        except (KeyError, TypeError, ValueError) as error:  # a field is missing, unknown, or a number is not finite
            raise EvaluationError(f"{path}: not a whole evaluation: {error}") from error


def _read_tiles(folder: Path, rows: Sequence[Row]) -> tuple[Tile, ...]:
    return tuple(
        Tile(
            tuple((folder / f"{place}-{k}.jpg").read_bytes() for k in range(row["images"])),
            row["caption"],
            row["framed"],
        )
        for place, row in enumerate(rows)
    )


def _read_predictions(path: Path) -> pd.DataFrame:
    import pandas as pd
    from pyarrow import ArrowInvalid

    data = io.BytesIO(path.read_bytes())
    try:
        table = pd.read_parquet(data)
    except ArrowInvalid as error:
        raise EvaluationError(f"{path}: not a readable Parquet file: {error}") from error
    before = {f"{method}{old}": f"{method}{new}" for method in _METHODS for old, new in _COUNTS.items()}
    return table.rename(columns=before) if set(_COUNTS) <= set(table.columns) else table


_PLAIN = (
    "task",
    "title",
    "model_version",
    "recipe_name",
    "git_commit",
    "dataset_md5",
    "split",
    "split_hash",
    "n",
    "n_patients",
    "synthetic",
)
