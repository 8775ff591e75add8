"""The straight line from delivered images to a released service, the same for every task. Read it top to bottom.

    incoming_batch → raw_images → dataset → model → evaluation → registered_model → promoted_model → bento
                                └ data_audit └ heatmaps, …  └ comparison  └ trial                    └ drift

The group `<task>` is what "Materialize all" makes from the raw images. Outside it are what only a delivery starts
(`<task>_deliveries`: one partition for each batch), what watches a service that runs (`<task>_service`) and what
trains for hours without being needed for a champion (`<task>_autoencoder`). `raw_images` is a folder that people fill,
so nobody is asked to materialize a delivery first.

What a step does stands in data_steps.py, steps.py and releasing.py, the checks between them in checks.py, jobs and
sensors in automation.py.
Annotations are evaluated here (no `from __future__ import annotations`): Dagster reads the config class from them.
"""

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import dagster as dg

from derm_assets import data_steps, releasing, steps
from derm_assets.automation import automation
from derm_assets.automation_settings import Automation
from derm_assets.checks import data_rules, gates
from derm_assets.conditions import following, promoting, retraining, watching
from derm_assets.config import ComparedRuns, Reviewed, chosen_recipe, model_form, recipe_form
from derm_assets.drift import watch
from derm_assets.failures import told
from derm_assets.lineage import latest
from derm_assets.recipe_of_run import recipe_of_run
from derm_assets.resources.data_store import DataStore
from derm_assets.resources.model_registry import ModelRegistry
from derm_assets.resources.places import Places
from derm_assets.resources.trainer import Trainer
from derm_assets.trial import Unseen, begin_or_end
from derm_ml.places import installation
from derm_ml.task import Artifact, Task
from derm_ml.training.autoencoder_recipes import AUTOENCODERS
from derm_ml.training.code_version import training_code

PARITY = "endpoint_reproduces_evaluation"
FEW_LOOKS = "few_images_deserve_a_look"
NO_DRIFT = "answers_do_not_drift"


def line(task: Task) -> dg.Definitions:
    """All definitions of one task: assets, checks, jobs, sensors and the weekly schedule."""
    settings = Automation.of(task, installation().params)
    trained = following("the model is being trained")
    batches = dg.DynamicPartitionsDefinition(name=f"{task.name}_batches")

    def asset(group: str = task.name, **options: Any) -> Callable[[Callable[..., Any]], dg.AssetsDefinition]:
        made = dg.asset(key_prefix=task.name, group_name=group, tags={"task": task.name}, **options)
        return lambda step: made(told(step))

    # in a run of both it goes first: what it appends is what the dataset is made of
    first = {"dagster/priority": "1"}

    @asset(f"{task.name}_deliveries", kinds={"python"}, partitions_def=batches, pool="dvc", op_tags=first)
    def incoming_batch(
        context: dg.AssetExecutionContext, config: Reviewed, places: Places, store: DataStore, registry: ModelRegistry
    ) -> dg.MaterializeResult:
        """A folder of labelled images delivered to `data/incoming/<task>/`: validated, deduplicated, appended."""
        return data_steps.take_batch(context, task, places, store, registry, config.reviewed_by.strip())

    raw_images = dg.AssetSpec(
        dg.AssetKey([task.name, "raw_images"]),
        deps=[incoming_batch],
        group_name=task.name,
        tags={"task": task.name},
        description=f"The images as downloaded: put a folder into `data/raw/{task.name}/`, then press Materialize all.",
    )

    @asset(kinds={"dvc", "parquet"}, deps=[raw_images], pool="dvc")
    def dataset(context: dg.AssetExecutionContext, store: DataStore) -> dg.MaterializeResult:
        """Manifest and shards with frozen splits; the data version is the md5 in dvc.lock."""
        return data_steps.prepare(context, task, store)

    few = dg.AssetCheckSpec(
        FEW_LOOKS,
        asset=[task.name, "data_audit"],
        description="Fewer than 2 % of the images have a finding, and only the image tells its label.",
    )

    @asset(kinds={"python"}, deps=[dataset], check_specs=[few])
    def data_audit(context: dg.AssetExecutionContext, places: Places) -> dg.MaterializeResult:
        """Likely label errors, off-topic, blank, dark, blurred or tiny images, and shortcuts, for a person to see."""
        return data_steps.audit(context, task, FEW_LOOKS, latest(context.instance, dataset.key), places)

    @asset(
        kinds={"pytorch", "onnx", "mlflow"},
        deps=[dataset],
        pool="gpu",
        config_schema=model_form(task),
        code_version=training_code(task.name),
        automation_condition=retraining(task, settings),
    )
    def model(
        context: dg.AssetExecutionContext,
        places: Places,
        trainer: Trainer,
        registry: ModelRegistry,
    ) -> dg.MaterializeResult:
        """A trained bundle: weights, graph, card. A run that was killed goes on from its last finished epoch."""
        data = latest(context.instance, dataset.key)
        recipe = recipe_of_run(context, task, registry)
        return steps.train(context, task, recipe, data, places, trainer, registry)

    @asset(kinds={"onnx"}, deps=[model], automation_condition=trained)
    def evaluation(context: dg.AssetExecutionContext, places: Places, registry: ModelRegistry) -> dg.MaterializeResult:
        """Metrics with intervals, figures and an HTML report on the test split the model was trained beside."""
        return steps.evaluate(context, task, latest(context.instance, model.key), places, registry)

    @asset(kinds={"mlflow"}, deps=[model, evaluation], automation_condition=trained)
    def registered_model(context: dg.AssetExecutionContext, registry: ModelRegistry) -> dg.MaterializeResult:
        """A version in the registry, alias `challenger`."""
        trained, measured = latest(context.instance, model.key), latest(context.instance, evaluation.key)
        return steps.register(context, task, trained, measured, registry)

    @asset(
        kinds={"mlflow"},
        deps=[registered_model],
        automation_condition=promoting(task, settings),
        freshness_policy=dg.FreshnessPolicy.time_window(timedelta(days=settings.stale_after)),
    )
    def promoted_model(context: dg.AssetExecutionContext, registry: ModelRegistry) -> dg.MaterializeResult:
        """The approved version, else the challenger, becomes `champion` if its evidence, read again now, beats the
        champion's."""
        return steps.promote(context, task, registry)

    parity = dg.AssetCheckSpec(
        PARITY,
        asset=[task.name, "bento"],
        blocking=True,
        description="The built service answers held-out images as the evaluation did, to 1e-5.",
    )

    released = following("a champion is being promoted")

    @asset(kinds={"bentoml"}, deps=[promoted_model], check_specs=[parity], automation_condition=released)
    def bento(context: dg.AssetExecutionContext, places: Places, registry: ModelRegistry) -> dg.MaterializeResult:
        """The champion as a service, released once it has reproduced the evaluation."""
        return releasing.package(context, task, PARITY, places, registry)

    @asset(kinds={"python"}, deps=[evaluation])
    def comparison(context: dg.AssetExecutionContext, config: ComparedRuns, places: Places) -> dg.MaterializeResult:
        """The current model beside others on the same frozen test split: paired differences with intervals."""
        return steps.compare(context, task, config.runs, latest(context.instance, evaluation.key), places)

    stays = dg.AssetCheckSpec(
        NO_DRIFT,
        asset=[task.name, "drift"],
        description="Neither a score nor the embedding of recent predictions shifted against earlier ones.",
    )

    @asset(
        f"{task.name}_service",
        kinds={"python"},
        deps=[bento],
        check_specs=[stays],
        automation_condition=watching(task),
    )
    def drift(context: dg.AssetExecutionContext) -> dg.MaterializeResult:
        """Whether what the service is asked has changed, from its prediction records; no label is needed."""
        return watch(context, task, settings.drift, NO_DRIFT)

    @asset(f"{task.name}_service", kinds={"bentoml"}, deps=[registered_model])
    def trial(context: dg.AssetExecutionContext, config: Unseen, registry: ModelRegistry) -> dg.MaterializeResult:
        """The challenger answers the service's requests too, unseen, from now on; the config may end that."""
        return begin_or_end(context, task, config, registry)

    def artifact_of_model(artifact: Artifact) -> dg.AssetsDefinition:
        before = [model, *(dg.AssetKey([task.name, name]) for name in artifact.after)]

        @asset(
            name=artifact.name,
            description=artifact.description,
            kinds={"onnx"},
            deps=before,
            automation_condition=trained,
        )
        def extra(context: dg.AssetExecutionContext, places: Places) -> dg.MaterializeResult:
            return steps.make_artifact(context, task, artifact, latest(context.instance, model.key), places)

        return extra

    @asset(
        f"{task.name}_autoencoder",
        kinds={"pytorch", "onnx", "mlflow"},
        deps=[dataset],
        pool="gpu",
        config_schema=recipe_form(AUTOENCODERS),
    )
    def autoencoder(
        context: dg.AssetExecutionContext,
        places: Places,
        trainer: Trainer,
        registry: ModelRegistry,
    ) -> dg.MaterializeResult:
        """An autoencoder of the same images, with a report: reconstructions, and whether its codes separate classes."""
        data = latest(context.instance, dataset.key)
        recipe = chosen_recipe(AUTOENCODERS, context.op_execution_context.op_config)
        return steps.autoencode(context, task, recipe, data, places, trainer, registry)

    beside = [data_audit, comparison, drift, trial, *([autoencoder] if task.has_embedding else [])]
    extras = [artifact_of_model(artifact) for artifact in task.artifacts]
    straight = [incoming_batch, raw_images, dataset, model, evaluation, registered_model, promoted_model, bento]
    checks = [data_rules(task, dataset.key), gates(task, evaluation.key)]
    return dg.Definitions.merge(
        dg.Definitions(assets=[*straight, *beside, *extras], asset_checks=checks),
        automation(task, settings, batches, [a.key for a in extras]),
    )
