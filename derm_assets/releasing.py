"""The last step of the pipeline: the champion as a Bento, released once it answers as evaluated.

package(…)    build → replay held-out images → release; what was built before is released again, not rebuilt
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import dagster as dg

from derm_assets.display import described, facts
from derm_assets.lineage import UpstreamError, latest
from derm_assets.resources.datasets import Datasets
from derm_assets.resources.model_registry import ModelRegistry
from derm_assets.resources.places import Places
from derm_assets.resources.promotions import Promotions
from derm_ml.asking.replay import Upload
from derm_ml.bundles.bundle import Bundle
from derm_ml.evaluation.record import SUMMARY
from derm_ml.files import sha256
from derm_ml.model_folder import ModelFolder
from derm_ml.promotion import ModelVersion
from derm_ml.task import Task

SIMILAR = "similar_images"  # the artifact whose index a service ships
REPLAYED = 32  # held-out images sent through a built service: enough to meet every class, a few seconds
SHOWN = 24  # differences between service and evaluation that the check lists


def package(
    context: dg.AssetExecutionContext, task: Task, check: str, places: Places, registry: ModelRegistry
) -> dg.MaterializeResult:
    """Build the champion's Bento, replay held-out images through it, release it if it answers as evaluated."""
    from derm_assets.packaging import build_bento, built_of, release, released_of, replay

    promotions = Promotions(registry)
    champion = promotions.champion_version(task)
    if champion is None:
        raise UpstreamError(f"{task.name} has no champion: materialise {task.name}/promoted_model first")
    model = Bundle.open(champion.bundle)
    of = built_of(model.version, sha256(champion.evaluation / SUMMARY))
    if tag := released_of(task.name, of):
        context.log.info(f"{tag} was built of this model, evaluation and code: it is released, no second one is built")
        said = f"{tag} reproduced this evaluation when it was first released"
        path = release(task.name, tag, of)
        promotions.show(task)
        return _result(check, tag, path, champion, True, said, {"built": False})
    index = _champions_index(context, task, model, places)
    tag = build_bento(task.name, champion.bundle, str(champion.number), index)
    replayed = replay(task.name, tag, _held_out(task, model, champion.evaluation, places))
    path = release(task.name, tag, of) if replayed.passed else champion.bundle
    promotions.show(task)
    shown = {
        "built": True,
        "images": replayed.cases,
        "worst_difference": min(replayed.worst, 1.0),
        "milliseconds_per_request": replayed.milliseconds,
        "differences": facts(list(replayed.failures[:SHOWN])),
    }
    return _result(check, tag, path, champion, replayed.passed, described(replayed.message), shown)


def _result(
    check: str, tag: str, path: Path, champion: ModelVersion, passed: bool, said: str, shown: Mapping[str, Any]
) -> dg.MaterializeResult:
    """The Bento and whether it answers as evaluated."""
    metadata = {"path": dg.MetadataValue.path(path), "bento": tag, "version": champion.number, "released": passed}
    severity = dg.AssetCheckSeverity.ERROR
    return dg.MaterializeResult(
        data_version=dg.DataVersion(tag),
        metadata={**metadata, **shown},
        check_results=[dg.AssetCheckResult(check_name=check, passed=passed, severity=severity, description=said)],
    )


def _champions_index(context: dg.AssetExecutionContext, task: Task, model: Bundle, places: Places) -> Path | None:
    """The index of similar images the champion's asset made; made here where that is of a later model. None without."""
    from derm_ml.bundles.classifier import Classifier
    from derm_ml.data.dataset import Dataset
    from derm_ml.embeddings.made import similar_of

    if not task.has_embedding:
        return None
    folder = ModelFolder(places.here.again(task.name, model.version))
    event = context.instance.get_latest_materialization_event(dg.AssetKey([task.name, SIMILAR]))
    if event is not None and event.asset_materialization is not None:
        made = latest(context.instance, dg.AssetKey([task.name, SIMILAR]))
        folder = ModelFolder.holding(made.path) if made.version == model.version else folder
    data = Datasets(places).frozen(task, model.card.dataset_md5)
    return similar_of(Classifier(model.path), lambda: Dataset.open(data), folder).folder


def _held_out(task: Task, model, evaluation: Path, places: Places) -> Iterator[Upload]:
    """Test cases as they would be uploaded, with what the evaluation said of them."""
    from derm_ml.data.dataset import Dataset
    from derm_ml.evaluation.record import Evaluation

    data = Dataset.open(Datasets(places).frozen(task, model.card.dataset_md5))
    yield from task.held_out(data, Evaluation.load(evaluation), REPLAYED)
