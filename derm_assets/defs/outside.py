"""What every pipeline shares: the resources, as the environment sets them (.env.example), how a run is executed, who
is told of it, and what is tidied up after one that was killed."""

from __future__ import annotations

import dagster as dg

from derm_assets.executing import executor_from_environment
from derm_assets.notices import notices_sensor
from derm_assets.resources.data_store import DataStore
from derm_assets.resources.model_registry import ModelRegistry
from derm_assets.resources.places import Places
from derm_assets.resources.trainer import trainer_from_environment


@dg.definitions
def outside() -> dg.Definitions:
    places = Places.from_environment()
    return dg.Definitions(
        resources={
            "places": places,
            "store": DataStore.from_environment(places),
            "trainer": trainer_from_environment(),
            "registry": ModelRegistry.from_environment(),
        },
        sensors=[killed_trainings, notices_sensor()],
        executor=executor_from_environment(),
    )


@dg.run_failure_sensor(
    name="killed_trainings", minimum_interval_seconds=30, default_status=dg.DefaultSensorStatus.RUNNING
)
def killed_trainings(context: dg.RunFailureSensorContext, registry: dg.ResourceParam[ModelRegistry]) -> None:
    """Closes the MLflow run of a training whose process was killed: it could not do so itself."""
    for closed in registry.close_killed(context.dagster_run.run_id):
        context.log.info(f"MLflow run {closed} was left open by run {context.dagster_run.run_id}: closed as KILLED")
