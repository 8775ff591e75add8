"""A silent trial: a challenger answered what the service was asked, unseen; labels that came later judge both.

    trial = trial_of(task, records, labels)      records of a service (`answered.table`), labels by `read_labels`
    trial.write(folder)                          trial.json and the cases; promotion counts them again (`Trial.read`)

Each image counts once. Both models must have answered: an image for which the challenger was skipped under load, or of
which one of the two abstained, is in the counts and not in the comparison. Intervals resample patients where the labels
name them, else images. What is kept names no patient and no image: patients stand under the installation's keyed ids.
"""

from __future__ import annotations

import hashlib
import io
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd
from pyarrow import ArrowException

from derm_ml import DermError, formats
from derm_ml.answered.journal import CHALLENGER
from derm_ml.answered.table import served
from derm_ml.data.sources.csv_table import TableRow, read_csv
from derm_ml.files import replacing_folder, sha256, write_json
from derm_ml.metrics.classification import auc, mean_auc
from derm_ml.metrics.glossary import metric_named
from derm_ml.metrics.intervals import Difference, estimate, paired_difference
from derm_ml.metrics.words import in_a_sentence, signed_interval
from derm_ml.neutral_ids import installation_ids
from derm_ml.places import RECORDS
from derm_ml.records import normal_id
from derm_ml.sentences import unknown

if TYPE_CHECKING:
    from derm_ml.task import Task

SUMMARY, CASES = "trial.json", "cases.parquet"
SAME = 1e-6  # what is counted again may differ by this: another order of summation
_SHA256 = re.compile(r"[0-9a-f]{64}")


class TrialError(DermError, ValueError):
    """A trial cannot be judged, or what is kept of one is damaged; the message says what to do."""


@dataclass(frozen=True, slots=True)
class TrueLabel:
    """What turned out to be true of one answer (`prediction_id`) or image (`image`, its sha256)."""

    labels: frozenset[str]
    prediction_id: str = ""
    image: str = ""
    patient: str = ""


def read_labels(path: Path, task: Task) -> list[TrueLabel]:
    """A list with the columns `label` and `prediction_id` or `image`, and `patient` if it is known.

    `image` is the sha256 of the bytes that were sent, or a file beside the list. `label` is one of the task's, several
    joined by `+`, or the word for none of them. Raises `DataError` naming file and line.
    """
    none = {"none", task.negative}
    found = []
    for row in read_csv(path, required=("label",), any_separator=True):
        given = [part.strip() for part in row["label"].split("+")]
        for name in given:
            if name not in task.labels and name not in none:
                raise row.error(unknown("label", name, [*task.labels, task.negative], "there are"), "correct it")
        prediction, image = row.get("prediction_id"), row.get("image")
        if bool(prediction) == bool(image):
            raise row.error("it names no answer", "fill in one of the columns prediction_id and image")
        labels = frozenset(name for name in given if name in task.labels)
        found.append(TrueLabel(labels, prediction, image and _sha256_of(row, image), normal_id(row.get("patient"))))
    return found


def _sha256_of(row: TableRow, image: str) -> str:
    if _SHA256.fullmatch(image.lower()):
        return image.lower()
    file = row.path.parent / image
    if not file.is_file():
        raise row.error(f"there is no file {file}", "write the sha256 of the image that was sent, or the right path")
    return sha256(file)


@dataclass(frozen=True)
class Trial:
    """What came of a trial: challenger − champion of `metric` over the labels that both kinds of cases have.

    `counts`: answers that both gave, without label, with one of the two abstaining, the same image again, compared.
    `difference` None: `remark` says why.
    """

    task: str
    champion: str
    challenger: str
    metric: str
    labels: tuple[str, ...]
    first: str
    last: str
    counts: Mapping[str, int]
    cases: pd.DataFrame
    of_champion: float | None = None
    of_challenger: float | None = None
    difference: Difference | None = None
    remark: str = ""

    @property
    def patients(self) -> int:
        """How many patients, or images where no patient is known, were compared."""
        return len(set(self.cases["group"].astype(str)))

    def __str__(self) -> str:
        if self.difference is None or self.of_champion is None or self.of_challenger is None:
            return f"not evaluable: {self.remark}"
        d, metric = self.difference, in_a_sentence(metric_named(self.metric).title)
        return (
            f"{metric} {self.of_challenger:.3f} against the champion's {self.of_champion:.3f} on the same "
            f"{len(self.cases)} images of {self.patients} patients, paired 95 % interval "
            f"{signed_interval(d.low, d.high)}"
        )

    def write(self, folder: Path) -> Path:
        """Write trial.json and the cases at `folder`, whole or not at all, and return `folder`."""
        with replacing_folder(folder) as temporary:
            self.cases.to_parquet(temporary / CASES, index=False)
            named = {"cases_sha256": sha256(temporary / CASES)}
            write_json(temporary / SUMMARY, formats.TRIAL.stamped(self._plain() | named))
        return folder

    def _plain(self) -> dict[str, Any]:
        return {
            **{name: getattr(self, name) for name in _FACTS},
            "labels": list(self.labels),
            "counts": dict(self.counts),
            "patients": self.patients,
            "difference": None if self.difference is None else asdict(self.difference),
        }

    @classmethod
    def read(cls, folder: Path) -> Trial:
        """What `write` wrote, counted again from its cases. Raises `TrialError` where that gives something else."""
        path = folder / SUMMARY
        try:
            stored = formats.TRIAL.read(json.loads(path.read_text(encoding="utf-8")), path, TrialError)
            data = (folder / CASES).read_bytes()
            if hashlib.sha256(data).hexdigest() != stored["cases_sha256"]:
                raise TrialError(f"{folder / CASES}: its sha256 is not the one in {SUMMARY}: run `derm trial` again")
            facts = {name: stored[name] for name in ("task", "champion", "challenger", "metric", "first", "last")}
            cases = pd.read_parquet(io.BytesIO(data))
            found = judge_cases(cases, tuple(stored["labels"]), counts=stored["counts"], **facts)
            told, again = stored["difference"], None if found.difference is None else asdict(found.difference)
        except FileNotFoundError as error:
            raise TrialError(f"{error.filename} is missing: run `derm trial`") from None
        except TrialError:
            raise
        except (OSError, ArrowException, KeyError, TypeError, ValueError) as error:
            raise TrialError(f"{folder} holds no whole trial ({error}): run `derm trial` again") from error
        if (told is None) != (again is None) or (told and again and any(abs(told[n] - again[n]) > SAME for n in again)):
            raise TrialError(f"{path} says another difference than its cases: run `derm trial` again")
        return found


_FACTS = ("task", "champion", "challenger", "metric", "first", "last", "of_champion", "of_challenger", "remark")


def trial_of(
    task: Task, records: pd.DataFrame, labels: Sequence[TrueLabel], champion: str = "", challenger: str = ""
) -> Trial:
    """Judge `challenger` (a model version; default: the one that was asked last) against the model that answered.

    Raises `TrialError` for a task whose answers are no probabilities of labels, and where nothing can be compared.
    """
    if not task.primary_metric.startswith("auc"):
        raise TrialError(
            f"a trial is judged by labels, and the answers of {task.name} are no probabilities of labels; the metrics "
            "of its service say how far a challenger is from the model that answers"
        )
    hidden = records.loc[records["role"] == CHALLENGER]
    if hidden.empty:
        raise TrialError(
            f"no answer of a challenger of {task.name} is recorded: name one (docs/operating.md) while {RECORDS} is "
            "set for the service"
        )
    challenger = challenger or str(hidden["model_version"].iloc[-1])
    hidden = hidden.loc[hidden["model_version"] == challenger].drop_duplicates("prediction_id")
    both = served(records).merge(hidden, on="prediction_id", suffixes=("", "_hidden"))
    champion = champion or (str(both["model_version"].iloc[-1]) if len(both) else "")
    both = both.loc[both["model_version"] == champion]
    if both.empty:
        raise TrialError(f"no answer that both {champion or 'a champion'} and {challenger} gave is recorded")
    counts, rows, seen = {"both": len(both), "unlabelled": 0, "abstained": 0, "again": 0}, [], set()
    by_id = {label.prediction_id: label for label in labels if label.prediction_id}
    by_image = {label.image: label for label in labels if label.image}
    for row in both.sort_values("at").to_dict("records"):
        image = " ".join(row["images"])
        truth = by_id.get(str(row["prediction_id"])) or by_image.get(image)
        scores = {who: [row.get(f"score.{n}{end}") for n in task.labels] for who, end in _SIDES.items()}
        if truth is None:
            counts["unlabelled"] += 1
        elif any(value is None or value != value for values in scores.values() for value in values):
            counts["abstained"] += 1
        elif image in seen:
            counts["again"] += 1
        else:
            seen.add(image)
            rows.append(_case(task, truth, image, scores))
    if not rows:
        raise TrialError(
            f"none of the {len(both)} images that both models answered has a label in the list "
            f"({counts['unlabelled']} without label, {counts['abstained']} with an abstaining model)"
        )
    facts = {"task": task.name, "champion": champion, "challenger": challenger, "metric": task.primary_metric}
    days = {"first": str(both["at"].min())[:10], "last": str(both["at"].max())[:10]}
    return judge_cases(
        pd.DataFrame(rows), tuple(task.labels), counts={**counts, "compared": len(rows)}, **facts, **days
    )


_SIDES = {"champion": "", "challenger": "_hidden"}


def _case(task: Task, truth: TrueLabel, image: str, scores: Mapping[str, Sequence[float]]) -> dict[str, str | float]:
    ids = installation_ids()
    group = ids.of("patient", f"\0{truth.patient}") if truth.patient else ids.of("image", image)
    row: dict[str, str | float] = {"group": group}
    for k, name in enumerate(task.labels):
        row[f"target.{name}"] = float(name in truth.labels)
        row |= {f"{who}.{name}": float(values[k]) for who, values in scores.items()}
    return row


def judge_cases(cases: pd.DataFrame, labels: tuple[str, ...], counts: Mapping[str, int], **facts: str) -> Trial:
    """The difference over the labels of which there are cases with and without."""
    targets = cases[[f"target.{name}" for name in labels]].to_numpy(float)
    both = [k for k in range(len(labels)) if 0 < targets[:, k].sum() < len(targets)]
    trial = Trial(**facts, labels=labels, counts=counts, cases=cases)  # pyright: ignore[reportArgumentType]
    if not both:
        return replace(trial, remark="no label has images with it and without it")
    names = [labels[k] for k in both]
    a, b = (cases[[f"{who}.{name}" for name in names]].to_numpy(float) for who in ("challenger", "champion"))
    y, statistic = targets[:, both], mean_auc
    if len(both) == 1:
        a, b, y, statistic = a[:, 0], b[:, 0], y[:, 0], auc
    try:
        found = paired_difference(statistic, cases["group"].to_numpy(str), a, b, y)
    except ValueError as error:
        return replace(trial, remark=str(error))
    values = {"of_challenger": estimate(statistic, a, y), "of_champion": estimate(statistic, b, y)}
    left_out = [name for name in labels if name not in names]
    remark = f"without {', '.join(left_out)}, of which there are no images with and without" if left_out else ""
    return replace(trial, **values, difference=found, remark=remark)
