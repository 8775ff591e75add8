"""`<task>/drift`: whether what a service is asked has changed, from the records it leaves (docs/operating.md).

The service writes to the folder `DERM_RECORDS`; Dagster must be told the same one. The asset looks at the last days
against all earlier records of the same model. Its check warns and stops nothing: no label was seen.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import dagster as dg

from derm_assets.automation_settings import DriftWatch
from derm_assets.display import described, numbers, picture, say, table, text
from derm_assets.lineage import UpstreamError
from derm_ml.answered.journal import files_of_records
from derm_ml.places import RECORDS, setting_path
from derm_ml.task import Task

DRIFTED = "drifted"  # metadata of the asset: whether the check found a shift


def folder_of(task: Task) -> Path | None:
    """Where the service of a task leaves its records; None where none are kept."""
    folder = setting_path(RECORDS)
    return folder / task.name if folder else None


def last_whole_day(task: Task) -> str:
    """The last day (UTC) before today of which there are records; empty where there is none."""
    folder, today = folder_of(task), datetime.now(UTC).date().isoformat()
    days = [path.name[:10] for path in files_of_records(folder)] if folder and folder.is_dir() else []
    return max((day for day in days if day < today), default="")


def watch(context: dg.AssetExecutionContext, task: Task, settings: DriftWatch, check: str) -> dg.MaterializeResult:
    """Scores and embedding of recent records against earlier ones, and the performance that the probabilities lead one
    to expect."""
    from derm_ml.answered.table import records_below
    from derm_ml.drift import drift_of
    from derm_ml.figures.shifts import shifts_figure
    from derm_ml.metrics.expected import BLIND_SPOT

    folder = folder_of(task)
    if folder is None:
        raise UpstreamError(f"no predictions are recorded: set {RECORDS} for the service and for Dagster, then again")
    records = records_below(folder)
    since = (datetime.now(UTC) - timedelta(days=settings.days)).isoformat(timespec="seconds")
    try:
        found = drift_of(records, task.labels, since, together=True)
    except ValueError as error:
        raise UpstreamError(f"{folder}: {error}: nobody has asked the service of {task.name} yet") from error
    beyond = found.beyond(settings.at_least)
    rows = [
        (s.name, s.value, s.low, s.high, s in beyond)
        for s in found.shifts
        if s.value is not None and s.low is not None and s.high is not None
    ]
    sentence = _sentence(found.model_version, since, settings, [s.name for s in beyond], len(rows))
    say(context, sentence)
    metadata = {
        "path": dg.MetadataValue.path(folder),
        "verdict": text(sentence),
        DRIFTED: bool(beyond),
        "model_version": text(found.model_version),
        "since": since,
        "shifts": picture(shifts_figure(rows, settings.at_least, since[:10])),
        "shift_table": table([{name: getattr(s, name) for name in _COLUMNS} for s in found.shifts]),
        "expected_performance": table(
            [{"AUC of": e.label, "earlier": str(e.earlier), "recent": str(e.recent)} for e in found.estimates]
            or [{"AUC of": "–", "earlier": "its answers are no probabilities of labels", "recent": ""}]
        ),
        "blind_spot": text(BLIND_SPOT),
        **numbers({f"shift.{name}": value for name, value, *_ in rows}),
        **numbers({f"expected_auc.{e.label}": e.recent.value for e in found.estimates if e.recent.value is not None}),
    }
    result = dg.AssetCheckResult(
        check_name=check,
        passed=bool(rows) and not beyond,
        severity=dg.AssetCheckSeverity.WARN,
        description=described(sentence),
    )
    version = f"{found.model_version}-{max(records['at'].astype(str))}"
    return dg.MaterializeResult(data_version=dg.DataVersion(version), metadata=metadata, check_results=[result])


_COLUMNS = ("name", "earlier", "recent", "value", "low", "high", "remark")


def _sentence(model: str, since: str, settings: DriftWatch, beyond: list[str], judged: int) -> str:
    of = f"model {model} since {since[:10]}"
    if beyond:
        return (
            f"{', '.join(beyond)} shifted by {settings.at_least:g} or more: {of}. Look at recent images; a shift says "
            "that what is asked has changed, not that the answers are wrong"
        )
    if not judged:
        return f"not checked: too few different images before or since, {of}"
    return f"none of {judged} scores and embeddings shifted by {settings.at_least:g} or more: {of}"
