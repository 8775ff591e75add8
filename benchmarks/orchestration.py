"""What Dagster costs: the same line by plain function calls and as a Dagster run in one process.

    python benchmarks/orchestration.py --epochs 6

Both prepare, train, evaluate and make heatmaps of the same drawn pictures in folders of their own; Dagster also
asks DVC, writes to MLflow and checks rules and gates, so those are reported as part of what it costs.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from pathlib import Path

import dagster as dg

from derm_ml.bundles.classifier import Classifier
from derm_ml.data.prepare import prepare
from derm_ml.evaluation.report import save as save_report
from derm_ml.model_folder import ModelFolder
from derm_ml.places import VARIABLES, Installation
from derm_ml.recipe import Recipe
from derm_ml.registry import get_task
from derm_ml.task import Task

TASK = get_task("lesion_classification")


def plainly(task: Task, raw: Path, out: Path, recipe: Recipe) -> float:
    """Seconds of prepare → rules → fit → evaluate → gates → heatmaps by function calls, as the command line does."""
    started = time.perf_counter()
    dataset = prepare(task, raw, task.settings(), out / "prepared")
    assert all(rule.check(dataset).passed for rule in task.rules)
    predictor = Classifier(task.fit(dataset, recipe, out / "model"))
    evaluation = task.evaluate(predictor, dataset, "test", ModelFolder(out / "model"))
    save_report(evaluation, out / "model" / "evaluation_test")
    for gate in task.gates:
        gate.check(evaluation)
    for artifact in task.artifacts:
        (out / "model" / artifact.name).mkdir()
        artifact.make(predictor, dataset, out / "model" / artifact.name)
    return time.perf_counter() - started


def by_dagster(task: Task, values: dict) -> dict[str, float]:
    """Seconds of each step of the retrain job, and of the whole run."""
    from derm_assets.definitions import defs

    started = time.perf_counter()
    job = defs().resolve_job_def(f"{task.name}_retrain")
    config = {"ops": {f"{task.name}__model": {"config": {"recipe": {"drawn": values}}}}}
    with dg.DagsterInstance.ephemeral() as instance:
        result = job.execute_in_process(instance=instance, run_config=config)
        steps = instance.get_run_step_stats(result.run_id)
    seconds = {s.step_key: s.end_time - s.start_time for s in steps if s.end_time and s.start_time}
    return seconds | {"whole run": time.perf_counter() - started}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--epochs", type=int, default=6)
    parser.add_argument("--images", type=int, default=240)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        raw = Installation(folder / "data", folder / "out", folder / "home").raw(TASK.name) / "drawn"
        TASK.draw(raw, options.images)
        os.environ |= {variable: str(folder / name) for name, variable in VARIABLES.items()}
        values = {"epochs": options.epochs}
        plain = plainly(TASK, raw, folder / "plain", TASK.recipe("drawn", **values))
        steps = by_dagster(TASK, values)
    for step, seconds in steps.items():
        print(f"{step:45s} {seconds:7.1f} s")
    print(f"{'the same work by function calls':45s} {plain:7.1f} s")
    print(f"ratio {steps['whole run'] / plain:.3f}, difference {steps['whole run'] - plain:.1f} s")


if __name__ == "__main__":
    main()
