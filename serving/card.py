"""What the service says of itself: `GET /` to machines, the page to people."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from derm_ml import RESEARCH_USE
from derm_ml.asking.kinds import BATCH
from derm_ml.asking.options import ANSWER, EXPLAIN, PREVALENCE
from derm_ml.asking.prevalence import shares_of, trained_shares
from derm_ml.bundles.bundle import BundleCard
from derm_ml.task import Task
from serving.answers import ModelFacts, OptionFacts, ServiceCard, SharesFacts
from serving.engine import Engine
from serving.guard import methods_of
from serving.openapi import IMAGES
from serving.page import FOLDER


def paths_of(task: Task) -> list[str]:
    """The paths of a task's service; the other kind's question is not among them."""
    return [path for path in methods_of(task.asking.path) if not path.startswith(FOLDER)]


def service_card(engine: Engine) -> dict[str, Any]:
    """What the service is, what it may be asked with, and whether it is ready."""
    task, asking = engine.task, engine.task.asking
    known: dict[str, Any] = {}
    if engine.predictor is not None:
        card = engine.predictor.card
        known = {
            "labels": list(engine.predictor.labels),
            "model_version": engine.predictor.bundle.version,
            "dataset_md5": card.dataset_md5,
            "provider": engine.predictor.provider,
            "similar_images": len(engine.similar) if engine.similar else 0,
            "thumbnails": bool(engine.similar and engine.similar.has_thumbnails),
            "licences": engine.similar.licences if engine.similar else [],
            "model": _model_facts(card),
            "options": _option_facts(task, card, engine.stated_of(engine.predictor)),
        }
    said = ServiceCard(
        task=task.name,
        title=task.title,
        bento=engine.bento,
        **known,
        asked_with=asking.about,
        asked_at=asking.path,
        accepts=list(IMAGES),
        batch=BATCH if asking.takes_batches else 1,
        ready=not engine.unready,
        paths=paths_of(task),
        research_use=RESEARCH_USE,
    )
    return said.model_dump(mode="json", exclude_unset=True)


def _model_facts(card: BundleCard) -> ModelFacts:
    return ModelFacts(
        recipe=card.recipe_name,
        backbone=card.backbone,
        pretrained=card.pretrained,
        for_synthetic_images=card.for_synthetic_images,
        image_licences=card.licences,
        git_commit=card.git_commit,
        attributes=list(card.attributes),
    )


def _option_facts(task: Task, card: BundleCard, stated: Mapping[str, str]) -> list[OptionFacts]:
    paths = {ANSWER: task.asking.path, EXPLAIN: "/explain"}
    return [
        OptionFacts(
            name=option.name,
            help=option.help,
            type=option.type,
            choices=list(option.choices_of(card)),
            low=option.low,
            high=option.high,
            default=option.default,
            paths=[paths[what] for what in option.used_for],
            for_programs=option.for_programs,
            used=option.is_used_by(card),
            shares=_shares(card, stated) if option is PREVALENCE else None,
        )
        for option in task.asking.options
    ]


def _shares(card: BundleCard, stated: Mapping[str, str]) -> SharesFacts | None:
    trained, text = trained_shares(card), stated.get(PREVALENCE.name)
    if not trained:
        return None
    return SharesFacts(
        trained_at=trained, stated=shares_of(text, card) if text else {}, exclusive=card.head == "softmax"
    )
