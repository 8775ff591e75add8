"""How often the labels occur where a model is used, estimated from what it answered (`derm prevalence`)."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from derm_ml import DermError
from derm_ml.asking.options import PREVALENCE
from derm_ml.asking.prevalence import text_of, trained_shares
from derm_ml.cli.arguments import Model, TaskName, predictor_of, task_of
from derm_ml.cli.terminal import notes, print_result, print_table
from derm_ml.places import RECORDS, installation, setting_path

if TYPE_CHECKING:
    import pandas as pd

    from derm_ml.bundles.bundle import BundleCard
    from derm_ml.metrics.metric import Metric

Answers = Annotated[
    Path | None,
    typer.Argument(
        help="records of a service (a folder), or what `derm predict --csv` wrote; default: the recorded predictions",
        show_default=False,
    ),
]


def prevalence(task_name: TaskName, answers: Answers = None, model: Model = None) -> None:
    """Estimate how often the labels occur where a model is used, from its answers, without labels.

    It assumes that only how often they occur differs from the data the model was trained on, not how they look.
    """
    task = task_of(task_name)
    if PREVALENCE.name not in task.asking.known:
        raise DermError(f"{task.name} gives no probabilities of labels whose prevalence could be estimated")
    predictor = predictor_of(task, model)
    card, version = predictor.card, predictor.bundle.version
    if not trained_shares(card):
        raise DermError(f"model {version} does not say what its probabilities are calibrated to: train it again")
    source = answers or (setting_path(RECORDS) or installation().answered) / task.name
    table, groups = _answers(source, card, version)
    found = _estimated(table, card, groups)
    shown = Table(
        "label", "answers", "estimated prevalence", "95 % interval", "trained at",
        title=f"{task.title}: prevalence among {source}",
    )  # fmt: skip
    for label, metric in found.items():
        value = "–" if metric.value is None else f"{metric.value:.4f}"
        interval = "–" if metric.low is None or metric.high is None else f"{metric.low:.4f} to {metric.high:.4f}"
        shown.add_row(label, str(metric.n), value, interval, f"{card.prevalence[label]:.4f}")
    print_table(shown)
    for note in dict.fromkeys(metric.note for metric in found.values() if metric.note):
        notes.print(f"– {note}", markup=False)
    notes.print("The interval knows how few answers there are, not how well the model is calibrated.", style="dim")
    shares = {label: metric.value for label, metric in found.items() if metric.value}
    if len(shares) == len(found) and all(share < 1 for share in shares.values()):
        print_result(f"--prevalence {text_of(shares, card)}")


def _estimated(table: pd.DataFrame, card: BundleCard, groups: list[str]) -> dict[str, Metric]:
    import numpy as np

    from derm_ml.metrics.prevalence import prevalence_metric, share_metrics

    p, trained = table[list(card.labels)].to_numpy(float), trained_shares(card)
    if card.head == "softmax":
        found = share_metrics(p, np.array([trained[label] for label in card.labels]), groups)
        return dict(zip(card.labels, found, strict=True))
    return {label: prevalence_metric(p[:, k], trained[label], groups) for k, label in enumerate(card.labels)}


def _answers(source: Path, card: BundleCard, version: str) -> tuple[pd.DataFrame, list[str]]:
    """The probabilities of each answer of this model by label, and of whom it is: the patient, else the image.

    Raises `DermError` for a source that holds none; answers of other models, and where it abstained, are counted.
    """
    if source.is_file():
        table, prefix, whose = _read_csv(source), "probabilities", ("patient", "group", "file")
    else:
        from derm_ml.answered.table import records_below

        table, prefix, whose = records_below(source), "score", ("image",)
        table["image"] = [str(next(iter(images), "")) if images is not None else "" for images in table["images"]]
    names = [f"{prefix}.{label}" for label in card.labels]
    if table.empty:
        raise DermError(f"{source} holds no answers; docs/operating.md says how a service records them")
    if missing := [name for name in (*names, "model_version") if name not in table]:
        raise DermError(f"{source} has no column '{missing[0]}': write it with `derm predict --csv` of this task")
    own = table.loc[table["model_version"].astype(str) == version]
    if others := len(table) - len(own):
        notes.print(f"{others} of {len(table)} answers are of other models than {version} and left out", markup=False)
    silent = own[names].isna().any(axis=1)
    if "abstained" in own:
        silent |= own["abstained"].astype(str).str.lower().isin(["true", "yes", "1"])
    if silent.any():
        notes.print(f"{int(silent.sum())} answers in which the model abstained are left out", markup=False)
    kept = own.loc[~silent]
    if kept.empty:
        raise DermError(f"{source} holds no answers of model {version}; --model names another one")
    group = next((name for name in whose if name in kept), "")
    people = kept[group].astype(str).tolist() if group else [str(number) for number in range(len(kept))]
    return kept[names].set_axis(list(card.labels), axis=1), people


def _read_csv(path: Path) -> pd.DataFrame:
    import pandas as pd

    try:
        return pd.read_csv(path)
    except (ValueError, UnicodeDecodeError) as error:
        raise DermError(f"{path} cannot be read as a table: {' '.join(str(error).split())[:200]}") from None
