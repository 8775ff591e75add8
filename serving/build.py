"""Pack a bundle into a Bento, in a process of its own: BentoML keeps arguments, stores and loggers in globals.

    python -m serving.build < order.json        # prints the tag of the Bento as its last line

The order is `BuildOrder` as JSON. Nothing is fetched: versions are those installed here, and the package list is
written without being resolved. `derm_assets.packaging.build_bento` is what calls this.
"""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from importlib.metadata import version
from pathlib import Path

import bentoml
from bentoml.exceptions import NotFound
from pydantic import BaseModel, ConfigDict, Field

import derm_ml
from derm_ml.bundles import providers
from derm_ml.bundles.bundle import CARD, Bundle, copy_to_serve
from derm_ml.bundles.square_predictor import SquarePredictor
from derm_ml.embeddings.similar import CARD as INDEX_CARD
from derm_ml.embeddings.similar import SimilarImages, ship
from derm_ml.entrance import enter
from derm_ml.files import sha256
from derm_ml.promotion.policy import stated_prevalence
from derm_ml.registry import get_task
from serving import golden, sessions
from serving.engine import BUNDLE, INDEX
from serving.follow import CODE
from serving.sources import code, sources

# BentoML adds itself; httptools and uvloop are what its server parses and waits with where they are installed
PACKAGES = (
    "cryptography", "faiss-cpu", "httptools", "jinja2", "numpy", "opencv-python-headless", "pillow", "pydantic",
    "pyyaml", "uvloop", providers.installed_package(),
)  # fmt: skip


class BuildOrder(BaseModel):
    """What to pack: a bundle folder of a task, its index of similar images if any, labels for model and Bento.

    `thumbnails`: whether the index takes small copies of the images along; `DERM_BENTO_THUMBNAILS=yes` asks for them.
    """

    model_config = ConfigDict(extra="forbid")

    task: str
    bundle: Path
    index: Path | None = None
    labels: dict[str, str]
    thumbnails: bool = Field(default_factory=lambda: os.environ.get("DERM_BENTO_THUMBNAILS", "no") == "yes")


def build(order: BuildOrder) -> str:
    """Store the bundle as a BentoML model (once per version), build the Bento, return its tag.

    Raises `BundleError` for a damaged bundle, `SimilarImagesError` for a damaged index or one of another model,
    `PrevalenceError` where the policy, which the Bento takes along, states a prevalence that the model cannot use.
    """
    bundle = Bundle.open_trusted(order.bundle)
    if order.index:
        SimilarImages.open(order.index, bundle.version)
    stated_prevalence(get_task(order.task), bundle.card)
    model = _stored(order, bundle)
    packages = sorted({*PACKAGES, *get_task(order.task).serving_packages})
    with tempfile.TemporaryDirectory() as folder:
        for name, source in sources().items():
            copy = Path(folder) / name
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source, copy)
        bento = bentoml.build(
            service="serving.service:svc",
            name=order.task,
            labels={**order.labels, CODE: code()},
            description=f"{order.task}, model {bundle.version}. {derm_ml.RESEARCH_USE}",
            include=["*"],
            python={"packages": [f"{name}=={version(name)}" for name in packages], "lock_packages": False},
            docker={
                "python_version": f"{sys.version_info.major}.{sys.version_info.minor}",
                "env": derm_ml.TELEMETRY_OFF,  # `bentoml serve` in the image asks before it imports the service
            },
            build_ctx=folder,
            args={"task": order.task, "model": model},
        )
    return str(bento.tag)


def _stored(order: BuildOrder, bundle: Bundle) -> str:
    """The tag of the bundle in the model store; it is put there if it is not.

    Named by the sha256 of its card, which names the other two files: the same graph with other thresholds differs;
    of its golden answers, so that another version of a library that changes them makes another model;
    and of the index's card where there is one.
    """
    task = get_task(order.task)
    with tempfile.TemporaryDirectory() as folder:
        answers, index = Path(folder) / golden.GOLDEN, Path(folder) / INDEX
        predictor = task.load(bundle.path)
        golden.write(task, predictor, answers)
        version = f"{sha256(bundle.path / CARD)[:16]}-{sha256(answers)[:8]}"
        if order.index:
            ship(order.index, index, order.thumbnails)
            version += f"-{sha256(index / INDEX_CARD)[:8]}"
        tag = f"{order.task}:{version}"
        try:
            Bundle.open(Path(bentoml.models.get(tag).path_of(BUNDLE)))
        except NotFound:
            with bentoml.models.create(tag, labels=order.labels) as model:
                copy_to_serve(bundle, Path(model.path_of(BUNDLE)))
                shutil.copyfile(answers, Path(model.path_of(golden.GOLDEN)))
                if isinstance(predictor, SquarePredictor):
                    sessions.choose(predictor, Path(model.path_of(sessions.SESSIONS)))
                if order.index:
                    shutil.copytree(index, Path(model.path_of(INDEX)))
    return tag


if __name__ == "__main__":
    enter()
    print(build(BuildOrder.model_validate_json(sys.stdin.read())))
