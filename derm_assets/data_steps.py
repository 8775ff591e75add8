"""The steps of the line up to a dataset: take a batch, withdraw one, prepare, audit. `steps.py` goes on from there."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import dagster as dg

from derm_assets.display import described, facts, numbers, picture, problem_table, say, table, text
from derm_assets.lineage import Upstream, found_again
from derm_assets.reports import link
from derm_assets.resources.data_store import DataStore
from derm_assets.resources.model_registry import ModelRegistry
from derm_assets.resources.places import Places
from derm_assets.resources.promotions import Promotions
from derm_ml.escape import visible
from derm_ml.promotion import SPLIT
from derm_ml.task import Task

if TYPE_CHECKING:
    from derm_ml.data.dataset import Dataset

SAMPLES = 24  # pictures on the contact sheet of a dataset: three rows of eight


def take_batch(
    context: dg.AssetExecutionContext,
    task: Task,
    places: Places,
    store: DataStore,
    registry: ModelRegistry,
    reviewed_by: str,
) -> dg.MaterializeResult:
    """Validate this partition's batch and add it to the raw folder; a rejected one is set aside with its report."""
    from derm_ml.cache import Cache
    from derm_ml.data.incoming import RejectedBatch, nobody_looks, receive, write_problems

    batch = places.incoming(task) / context.partition_key
    report = places.here.intake(task.name, context.partition_key) / "left_out.csv"
    try:
        look = nobody_looks if reviewed_by else Promotions(registry).reviewer(task)
        raw, settings, kept = places.raw(task), store.settings(task), store.current(task)
        with Cache(places.here.preparation_cache(task.name)) as cache:
            intake = receive(task, batch, raw, settings, kept, look, reviewed_by, cache)
    except RejectedBatch as error:
        write_problems(report, error.problems)
        shown = {"left_out": problem_table(error.problems), "left_out_file": dg.MetadataValue.path(report)}
        raise dg.Failure(visible(str(error)), metadata=shown, allow_retries=False) from None
    write_problems(report, [*intake.left_out, *intake.held_back])
    corrected = [
        {"image": c.of[0], "what": e.what, "old": e.old, "new": e.new} for c in intake.corrections for e in c.changes
    ]
    say(
        context,
        f"{intake.delivered} delivered, {intake.taken} taken ({len(intake.held_back)} of them held back), "
        f"{len(intake.left_out)} left out, {len(intake.corrections)} known images corrected: {report}",
    )
    return dg.MaterializeResult(
        data_version=dg.DataVersion(intake.content),
        metadata={
            "path": dg.MetadataValue.path(intake.folder or places.raw(task)),
            "delivered": intake.delivered,
            "taken": intake.taken,
            "duplicates": intake.duplicates,
            "quarantined": len(intake.left_out) - intake.duplicates,
            "held_back": len(intake.held_back),
            "corrected": len(intake.corrections),
            **({"reviewed_by": text(reviewed_by)} if reviewed_by else {}),
            "left_out": problem_table([*intake.left_out, *intake.held_back]),
            **({"corrections": table(corrected)} if corrected else {}),
            "left_out_file": dg.MetadataValue.path(report),
        },
    )


def withdraw_batch(context: dg.OpExecutionContext, task: Task, batch: str, places: Places) -> None:
    """Take an accepted delivery out of the raw folder and log what that touches."""
    from derm_ml.data.withdrawal import models_trained_on, withdraw

    gone = withdraw(places.raw(task), batch, places.withdrawn(task))
    learned = models_trained_on(gone.delivery, places.models(task), places.here.versions(task.name))
    context.log.info(f"{gone}; materialise {task.name}/dataset to be without it")
    for folder in learned:
        context.log.warning(f"{folder} was trained on it")
    context.add_output_metadata(
        {
            "withdrawn": dg.MetadataValue.path(gone.folder),
            "images": gone.delivery.taken,
            "models_trained_on_it": [str(folder) for folder in learned],
        }
    )


def prepare(context: dg.AssetExecutionContext, task: Task, store: DataStore) -> dg.MaterializeResult:
    """Bring the prepared dataset up to date; its DVC md5 is the data version."""
    from derm_ml.data.dataset import Dataset
    from derm_ml.figures.charts import class_balance_figure

    prepared = store.prepare(task, partial(say, context))
    data = Dataset.open(prepared.path)
    return dg.MaterializeResult(
        data_version=dg.DataVersion(prepared.md5),
        metadata={
            **found_again(store.places.here, prepared.path),
            **_account(data),
            "class_balance": picture(class_balance_figure(data.info["counts"], data.info["sizes"])),
            "samples": picture(_contact_sheet(task, data)),
            "images": len(data.manifest),
            "quarantined": len(data.quarantine),
            "held_back": len(data.held_back),
            "duplicate_pairs": len(data.duplicates),
            "test_split_hash": data.split_hashes[SPLIT],
            "licences": facts(data.licences),
        },
    )


def audit(
    context: dg.AssetExecutionContext, task: Task, check: str, data: Upstream, places: Places
) -> dg.MaterializeResult:
    """Look through the dataset and report what deserves a look; the check warns where that is much."""
    from derm_ml.audit import report
    from derm_ml.audit.findings import audit as look_through
    from derm_ml.data.dataset import Dataset

    dataset = Dataset.open(data.path)
    found = look_through(dataset, task.negative)
    folder = report.save(found, dataset, places.here.data_audit(task.name))
    sheets = {path.stem: picture(path.read_bytes()) for path in sorted(folder.glob("*.png"))}
    listed = [
        {"finding": kind, **{name: row[name] for name in ("id", "label", "split", "why")}}
        for kind, rows in found.findings.items()
        for row in rows.to_dict("records")
    ]
    say(context, found.verdict)
    result = dg.AssetCheckResult(
        check_name=check,
        passed=found.clean,
        severity=dg.AssetCheckSeverity.WARN,
        description=described(found.verdict),
    )
    return dg.MaterializeResult(
        data_version=dg.DataVersion(data.version),
        metadata={
            "path": dg.MetadataValue.path(folder),
            "report": link(places, folder / report.REPORT),
            "verdict": text(found.verdict),
            "limits": facts(report.limits(found)),
            **numbers(found.numbers),
            **({"findings": table(listed)} if listed else {}),
            "shortcut_aucs": table(report.shortcut_rows(found.shortcuts)),
            **sheets,
        },
        check_results=[result],
    )


def _account(data: Dataset) -> dict[str, Any]:
    """What became of every label, file and column of the raw folder, and duplicates with two labels as a sheet."""
    from derm_ml.data.account import column_lines, file_rows, label_rows
    from derm_ml.figures.contradictions import contradictions_sheet

    sheet = contradictions_sheet(data)
    tables = {"images_by_label": label_rows(data.account), "files_by_fate": file_rows(data.account)}
    return {
        **{name: table(rows) for name, rows in tables.items() if rows},
        "columns": facts(column_lines(data.account)),
        "notes": facts(data.account.get("notes", [])),
        "settings": facts(data.info["settings"]),
        **({"images_with_two_labels": picture(sheet.png)} if sheet else {}),
    }


def _contact_sheet(task: Task, data) -> bytes:
    """Training pictures of every class in turn, spread evenly over the manifest."""
    from derm_ml.asking.replay import evenly_spaced
    from derm_ml.figures.sheets import Sheet

    rows = data.split("train")
    labels = sorted(rows["label"].unique())
    each = max(1, SAMPLES // max(1, len(labels)))
    shown = [row for label in labels for _, row in evenly_spaced(rows[rows["label"] == label], each).iterrows()]
    role = next(c.removesuffix(".shard") for c in rows.columns if c.endswith(".shard"))
    return Sheet([[data.image(row, role)] for row in shown], [f"{row['id']}\n{row['label']}" for row in shown]).png
