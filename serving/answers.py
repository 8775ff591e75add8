"""What the service answers, as pydantic models: responses are made from them, the API description is written from them.

Every answer is in the envelope of the library (derm_ml/asking/answers.py), to which the service adds its own: the id of
the answer, the Bento that gave it, and the parameters that had no effect.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel, Field, create_model

from derm_ml.asking.answers import Envelope, Explanation, Said
from derm_ml.contract import Predictor
from derm_ml.task import Task

_IDENTITY: dict[str, Any] = {
    "prediction_id": (str, Field(description="of this answer; the server's log joins it to the model")),
    "bento": (str, Field(description="tag of the Bento that answered, or `source`")),
}
_ONCE = ("for_synthetic_images", "warnings", "research_use")  # of a batch; whose answer it is, each says
_IGNORED: dict[str, Any] = {
    "options_ignored": (
        list[str],
        Field(description="parameters that were sent and had no effect, such as an age the model was not trained with"),
    ),
}


class Refusal(Said):
    """Every error there is."""

    error: str = Field(description="one sentence: what was wrong, and what is accepted")


class SimilarImage(Said):
    """A known image and the cosine of its embedding with that of the image sent."""

    id: str
    label: str
    score: float = Field(description="cosine, -1 to 1")
    split: str
    source: str
    licence: str
    thumbnail: str | None = Field(default=None, description="a JPEG as a data URL")


_SIMILAR: dict[str, Any] = {
    "neighbours": (list[SimilarImage], Field(description="nearest first")),
    "searched": (int, ...),
    "picture_is_in_the_set": (bool, Field(description="it was recognised by its pixels; its patient is left out")),
    "left_out": (int, Field(description="known images of the same or the named patient")),
}


class ModelFacts(Said):
    """What is known of the model that answers: who trained it on what, and under which licences the images are."""

    recipe: str
    backbone: str
    pretrained: str = Field(description="what the weights were before training: none, torchvision or a file")
    for_synthetic_images: bool = Field(
        description="trained on synthetic images, or with a recipe for them: a demonstration only"
    )
    image_licences: dict[str, int] = Field(description="training images by licence")
    git_commit: str
    attributes: list[str] = Field(description="facts about the person that it was trained with")


class SharesFacts(Said):
    """Of a parameter that is a share of labels: which labels, and what holds if it is not sent."""

    trained_at: dict[str, float] = Field(description="share of each label in the validation split")
    stated: dict[str, float] = Field(description="what answers of this service are corrected to; empty: they are not")
    exclusive: bool = Field(description="the labels exclude each other: all shares are given, and together they are 1")


class OptionFacts(Said):
    """A parameter of a path."""

    name: str
    help: str
    type: str
    choices: list[str]
    low: float | None
    high: float | None
    default: str
    paths: list[str]
    for_programs: bool = Field(description="it changes how an answer is written, not what it says")
    used: bool = Field(description="whether the loaded model has a use for it")
    shares: SharesFacts | None = Field(default=None, description="of `prevalence`")


class ServiceCard(Said):
    """What the service is and whether it is ready."""

    task: str
    title: str
    bento: str
    labels: list[str] | None = None
    model_version: str | None = None
    dataset_md5: str | None = None
    provider: str | None = Field(default=None, description="where the model runs: cpu, cuda, …")
    similar_images: int | None = Field(default=None, description="known images that /similar searches")
    thumbnails: bool | None = Field(default=None, description="whether /similar can show them")
    licences: list[str] | None = Field(default=None, description="of those images")
    model: ModelFacts | None = None
    asked_with: str | None = Field(default=None, description="one image, an image and its fellow, or two photos")
    asked_at: str | None = Field(default=None, description="/predict or /match")
    options: list[OptionFacts] | None = None
    accepts: list[str] | None = Field(default=None, description="media types of the images that may be sent")
    batch: int | None = Field(default=None, description="images that one request may hold")
    ready: bool
    paths: list[str]
    research_use: str


@dataclass(frozen=True)
class AnswerModels:
    """The models of all answers of one task's service."""

    answer: type[BaseModel]  # /predict or /match
    batch: type[BaseModel]  # /predict of several images
    explanation: type[BaseModel]  # /explain as JSON
    similar: type[BaseModel]

    @classmethod
    def of(cls, task: Task) -> AnswerModels:
        own = task.asking.answer
        explained = {**_fields(Explanation), "answer": (own, ...), **_IDENTITY}
        similar = {**_SIMILAR, **_IDENTITY}
        return cls(
            answer=_model(f"{own.__name__}Answer", own.__doc__, {**_fields(own), **_IDENTITY}),
            batch=_batch(own),
            explanation=_model(f"{own.__name__}Explained", Explanation.__doc__, explained),
            similar=_model("SimilarImages", "The known images nearest to the one sent.", similar),
        )


def _batch(own: type[BaseModel]) -> type[BaseModel]:
    name, envelope = own.__name__, of_one(_fields(Envelope))
    said = {"task": envelope.pop("task"), **_fields(own), **envelope, **_IDENTITY}
    signed = create_model(f"{name}OfOne", __base__=Said, __doc__=own.__doc__, **said)
    item = create_model(
        f"{name}Item",
        __base__=Said,
        __doc__="One image of a batch: `answer` where `status` is 200, else `error`.",
        **{
            "number": (int, Field(description="place in the request, from 0")),
            "status": (int, Field(description="what the image alone would have been answered with")),
            "answer": (signed | None, None),
            "error": (str | None, None),
        },
    )
    return _model(
        f"{name}Batch",
        "For each image of the request an answer or an error, in the order they were sent.",
        {
            "results": (list[item], ...),
            "answered": (int, Field(description="images with an answer")),
            "refused": (int, Field(description="images with an error")),
        },
    )


def provenance(predictor: Predictor, bento: str) -> dict[str, str]:
    """Who answers, and the id of this answer."""
    return {
        "model_version": predictor.bundle.version,
        "dataset_md5": predictor.card.dataset_md5,
        "prediction_id": uuid.uuid4().hex,
        "bento": bento,
    }


def of_one(said: Mapping[str, Any]) -> dict[str, Any]:
    """The answer to one image of a batch: without what stands once around the batch."""
    return {name: value for name, value in said.items() if name not in _ONCE}


def enveloped(model: type[BaseModel], said: Mapping[str, Any], ignored: list[str]) -> dict[str, Any]:
    """An answer as it is sent. Raises `pydantic.ValidationError` if it is not what the API description says."""
    return model.model_validate({**said, "options_ignored": ignored}).model_dump(mode="json", exclude_unset=True)


def _fields(model: type[BaseModel]) -> dict[str, Any]:
    return {name: (info.annotation, info) for name, info in model.model_fields.items()}


def _model(name: str, doc: str | None, fields: dict[str, Any]) -> type[BaseModel]:
    """What is said, in the envelope: `task` first, the rest of it last."""
    envelope = _fields(Envelope)
    whole = {"task": envelope.pop("task"), **fields, **envelope, **_IGNORED}
    return create_model(name, __base__=Said, __doc__=doc, **whole)
