"""The model card: what a model is for, what it was made of, what was measured, what stands against it.

The headings are those of CHAI's applied model card; what that asks and nobody here can know is left out, and
coverage.py says so.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from derm_ml import RESEARCH_USE
from derm_ml.asking.options import ANSWER
from derm_ml.cards.card import Card, CardField, Section
from derm_ml.cards.statement import Statement
from derm_ml.evaluation.provenance_lines import changed_in_words, measured_line
from derm_ml.metrics.glossary import metric_named
from derm_ml.metrics.words import signed_interval
from derm_ml.provenance import rows
from derm_ml.recipe import changed_settings, leaves

if TYPE_CHECKING:
    from derm_ml.bundles.bundle import Bundle, BundleCard, FromTeacher
    from derm_ml.data.dataset import Dataset
    from derm_ml.evaluation.record import Evaluation
    from derm_ml.metrics.metric import Metric
    from derm_ml.task import Gate, Task

_TRAIN = "train and evaluate the model again"
_RELIABLE, _FAIR, _USEFUL = "Safety and reliability", "Fairness and equity", "Usefulness and efficacy"


def model_card(task: Task, model: Bundle, measured: Evaluation, dataset: Dataset) -> Card:
    """The card of a model and of what was measured of it on a frozen split of `dataset`."""
    said, card = Statement.of(task), model.card
    return Card(
        "model card",
        f"{task.title}: model {model.version}",
        (
            _identity(task, model, measured),
            _uses(task, said, card),
            _warnings(task, said, card, measured),
            _development(task, card, dataset, said),
            Section(_USEFUL, (CardField("metrics", _metrics(measured.metrics), _TRAIN), _points(card))),
            Section(_FAIR, (CardField("subgroups", measured.tables.get("subgroups", [])),)),
            Section(_RELIABLE, (CardField("checks", list(_checks(task.gates, measured))),)),
            Section("Reproduction", tuple(_reproduction(task, model, measured))),
        ),
        card.for_synthetic_images,
    )


def _identity(task: Task, model: Bundle, measured: Evaluation) -> Section:
    primary = measured.metrics.get(task.primary_metric)
    headline = (
        "" if primary is None or primary.value is None else f"{metric_named(task.primary_metric).title} {primary}"
    )
    return Section(
        "Identity",
        (
            CardField("task", f"{task.name}: {task.title}"),
            CardField("model version", model.version),
            CardField("measured", measured_line(measured)),
            CardField("release stage", RESEARCH_USE),
            CardField("for synthetic images only", "yes" if model.card.for_synthetic_images else "no"),
            CardField(
                "primary metric",
                headline,
                f"{metric_named(task.primary_metric).title} is undefined; evaluate the model again",
            ),
        ),
    )


def _uses(task: Task, said: Statement, card: BundleCard) -> Section:
    options = [name for name, o in task.asking.options_for(ANSWER).items() if o.is_used_by(card)]
    asked = f"{task.asking.about}; beside it {', '.join(options) or 'nothing'}"
    return Section(
        "Uses and directions",
        (
            *_said(task, said, ("intended_use", "intended_users", "population", "out_of_scope")),
            CardField("asked with", asked),
            CardField("answers", ", ".join(card.labels)),
        ),
    )


def _warnings(task: Task, said: Statement, card: BundleCard, measured: Evaluation) -> Section:
    unproven = [f"{p.label}, {p.name}: {p.reason}" for p in card.unclaimed_points]
    return Section(
        "Warnings",
        (
            *_said(task, said, ("limitations", "risks")),
            CardField("of this evaluation", list(measured.notes)),
            CardField("sensitivity that could not be claimed", unproven),
        ),
    )


def _development(task: Task, card: BundleCard, dataset: Dataset, said: Statement) -> Section:
    images = ", ".join(f"{split} {n}" for split, n in dataset.info["sizes"].items())
    learned, distilled = card.pseudo_labels, card.distilled
    steps = [{"step": name, "value": str(value)} for name, value in card.preprocessing.model_dump().items()]
    return Section(
        "Development",
        (
            CardField("dataset", f"{dataset.md5} (see the data card)", _TRAIN),
            CardField("images", images, _TRAIN),
            CardField("licences", _counted(dataset.licences), "say `licence` in params.yaml, prepare again"),
            *_said(task, said, ("reference_standard",)),
            CardField("recipe", f"{card.recipe_name}, {card.epochs} epochs", _TRAIN),
            CardField("settings", [{"setting": name, "value": str(v)} for name, v in leaves(card.recipe).items()]),
            CardField("network", f"{card.backbone}, weights before training: {card.pretrained}"),
            CardField("pseudo-labels", f"{learned.images} images, teacher {learned.teacher}" if learned else "none"),
            CardField("teacher", _teacher(distilled) if distilled else "none"),
            CardField("preprocessing", steps),
        ),
    )


def _teacher(made: FromTeacher) -> str:
    """Whose answers were learned, and what was lost."""
    lost = f"{made.difference:+.3f} ({signed_interval(made.low, made.high)}, n = {made.n})"
    return (
        f"{made.teacher}, version {made.version}, {made.passes} passes an image; its answers about {made.images} "
        f"images, {made.unlabelled} of them without a label; difference in AUC to it on validation {lost}"
    )


def _points(card: BundleCard) -> CardField:
    """The operating points with their bounds. `positives` on which the bound rests, of so many patients or lesions."""
    rows = [
        {
            "point": p.name,
            "label": p.label,
            "threshold": p.threshold,
            "sensitivity": p.sensitivity,
            "at least (95 %)": p.recall_at_least,
            "specificity": p.specificity,
            "positives": p.positives,
            "groups": p.groups,
        }
        for p in card.operating_points
    ]
    local = card.local_cases
    on = f"{local.images} local images (dataset {local.dataset_md5[:12]})" if local else "validation"
    return CardField(f"operating points, fitted on {on}", rows)


def _metrics(metrics: Mapping[str, Metric]) -> list[dict[str, Any]]:
    return [
        {"metric": name, "value": m.value, "low": m.low, "high": m.high, "n": m.n, "note": m.note}
        for name, m in metrics.items()
    ]


def _checks(gates: Iterable[Gate], measured: Evaluation) -> Iterable[dict[str, Any]]:
    """Each check of the model with its verdict, what it rests on, and the hazard it controls where it names one."""
    for gate in gates:
        found = gate.check(measured)
        verdict = "passed" if found.passed else "failed" if found.evaluable else "not enough data"
        hazard = gate.hazard
        yield {
            "check": gate.name,
            "verdict": verdict if gate.blocking or found.passed else f"{verdict} (warns)",
            "evidence": found.message,
            **({"hazard": hazard} if hazard else {}),
        }


def _reproduction(task: Task, model: Bundle, measured: Evaluation) -> Iterable[CardField]:
    card = model.card
    changed = changed_settings(task.recipes.get(card.recipe_name), card.recipe)
    yield CardField("recipe", f"{card.recipe_name}; changed in it: {changed_in_words(changed)}")
    yield CardField("provenance", [{"what": name, "value": told} for name, told in rows(measured.provenance).items()])
    yield CardField("code", f"git commit {card.git_commit}")
    yield CardField("measured on", f"{measured.split} split {measured.split_hash}, {measured.n} cases", _TRAIN)
    yield CardField("groups (patients, lesions, near-duplicates)", str(measured.n_patients), _TRAIN)
    yield CardField("splits", [{"split": name, "sha256": value} for name, value in card.split_hashes.items()], _TRAIN)
    yield CardField("files", [{"file": name, "sha256": value} for name, value in card.files.items()], _TRAIN)


def _said(task: Task, said: Statement, names: tuple[str, ...]) -> list[CardField]:
    return [CardField(name.replace("_", " "), getattr(said, name), Statement.advice(task, name)) for name in names]


def _counted(counts: Mapping[str, int]) -> list[str]:
    return [f"{name}: {n} images" for name, n in counts.items()]
