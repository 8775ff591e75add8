"""`make demo`: the whole line of lesion_classification on drawn pictures, from a delivered batch to an answer.

Everything goes through Dagster as it would from the UI, in a workspace of its own (`.demo/`): your data are not
touched. A second run finds that nothing changed, and only serves and asks again.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import dagster as dg
import httpx
from rich.console import Console

from derm_assets.definitions import defs
from derm_assets.packaging import running
from derm_assets.resources.places import Places
from derm_ml import RESEARCH_USE
from derm_ml.registry import get_task
from serving.released import NotReleased, read_release

TASK = get_task("lesion_classification")
PICTURES = 240
BATCH = "drawn"
QUIET = {"loggers": {"console": {"config": {"log_level": "WARNING"}}}}  # all of it is in the UI
console = Console()


def main() -> None:
    """Draw, run the line, serve, ask, and say where to look next."""
    started = time.monotonic()
    places = Places.from_environment()
    delivered = places.incoming(TASK) / BATCH
    if not delivered.exists():
        say(f"drawing {PICTURES} dermoscopy-like pictures of three classes")
        TASK.draw(delivered, PICTURES)
    with dg.DagsterInstance.get() as instance:
        instance.add_dynamic_partitions(f"{TASK.name}_batches", [BATCH])
        run(instance, "prepare", "delivered batch → dataset", partition_key=BATCH)
        # the small recipe made for drawn pictures; real images take the task's default
        recipe = {"ops": {f"{TASK.name}__model": {"config": {"recipe": {"drawn": {}}}}}}
        run(instance, "retrain", "dataset → model → evaluation → challenger", config=recipe)
        if needs_promotion(instance):
            run(instance, "promote", "challenger → champion → Bento")
        where = {noun: latest(instance, noun) for noun in ("evaluation", "heatmaps")}
    tag = read_release(TASK.name)
    picture = next((delivered / "ISIC-2017_Test_Data").glob("*.jpg"))
    say(f"serving {tag} and sending it {picture.name}")
    explained = Path(places.out) / "explained.png"
    with running(TASK.name, tag) as port, httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=30) as client:
        answer = client.post("/predict", content=picture.read_bytes(), headers={"content-type": "image/jpeg"})
        answer.raise_for_status()
        heatmap = client.post("/explain", content=picture.read_bytes(), headers={"content-type": "image/jpeg"})
        heatmap.raise_for_status()
        explained.write_bytes(heatmap.content)
    console.print_json(json.dumps(answer.json()))
    auc = where["evaluation"]["auc_mean"]
    console.print(
        f"\n[bold]Done in {time.monotonic() - started:.0f} s[/bold]: mean AUC {auc:.3f} on drawn test pictures. "
        f"{RESEARCH_USE}\n"
        f"  report      {where['evaluation']['path']}/report.html\n"
        f"  heatmaps    {where['heatmaps']['path']}/heatmaps.png\n"
        f"  explanation {explained}\n"
        "  Dagster UI  make dev DEMO=1      http://127.0.0.1:3001\n"
        "  MLflow UI   make mlflow DEMO=1   http://127.0.0.1:5000\n"
        "  endpoint    make serve DEMO=1    http://127.0.0.1:3000/predict\n"
        "\nYour own images: put the folder as downloaded into data/raw/lesion_classification/<its name>/, "
        "then `make dev`.",
        soft_wrap=True,
    )


def run(instance: dg.DagsterInstance, verb: str, what: str, config: dict | None = None, **options: Any) -> None:
    """Run one job of the task in this process; the steps that failed end the demo with their reason."""
    started = time.monotonic()
    job = f"{TASK.name}_{verb}"
    with console.status(f"{job}: {what}"):
        result = (
            defs()
            .resolve_job_def(job)
            .execute_in_process(instance=instance, run_config=QUIET | (config or {}), raise_on_error=False, **options)
        )
    if not result.success:
        failed = [e for e in result.all_events if e.is_step_failure]
        reasons = "\n".join(f"{e.step_key}: {e.step_failure_data.error_display_string}" for e in failed)
        raise SystemExit(f"{job} failed, see it in the Dagster UI (make dev DEMO=1):\n{reasons}")
    say(f"{job}: {what} ({time.monotonic() - started:.0f} s)")


def needs_promotion(instance: dg.DagsterInstance) -> bool:
    """Whether the registered model is not the released one yet."""
    try:
        read_release(TASK.name)
    except NotReleased:
        return True
    return latest(instance, "registered_model")["version"] != latest(instance, "bento")["version"]


def latest(instance: dg.DagsterInstance, noun: str) -> Mapping[str, Any]:
    """Metadata of an asset's latest materialisation."""
    event = instance.get_latest_materialization_event(dg.AssetKey([TASK.name, noun]))
    if event is None or event.asset_materialization is None:
        raise SystemExit(f"{TASK.name}/{noun} was not materialised")
    return {name: value.value for name, value in event.asset_materialization.metadata.items()}


def say(text: str) -> None:
    console.print(f"[green]•[/green] {text}", soft_wrap=True)


if __name__ == "__main__":
    main()
