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
import serving
from derm_ml.bundle import CARD, LEARNED, Bundle
from derm_ml.embeddings.similar import CARD as INDEX_CARD
from derm_ml.embeddings.similar import SimilarImages, ship
from derm_ml.files import private_by_default, sha256
from derm_ml.registry import get_task
from serving.factory import BUNDLE, INDEX

# BentoML adds itself
PACKAGES = (
    "cryptography",
    "faiss-cpu",
    "numpy",
    "onnxruntime",
    "opencv-python-headless",
    "pillow",
    "pydantic",
    "pyyaml",
)


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

    Raises `BundleError` for a damaged bundle, `SimilarImagesError` for a damaged index or one of another model.
    """
    bundle = Bundle.open_trusted(order.bundle)
    if order.index:
        SimilarImages.open(order.index, bundle.version)
    model = _stored(order, bundle)
    packages = sorted({*PACKAGES, *get_task(order.task).serving_packages})
    with tempfile.TemporaryDirectory() as folder:
        context = Path(folder)
        for package in (derm_ml, serving):
            _copy_sources(package.__path__[0], context / package.__name__)
        bento = bentoml.build(
            service="serving.service:svc",
            name=order.task,
            labels=order.labels,
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
    and by that of the index's card where there is one.
    """
    version = sha256(bundle.path / CARD)[:16]
    with tempfile.TemporaryDirectory() as folder:
        index = Path(folder) / INDEX
        if order.index:
            ship(order.index, index, order.thumbnails)
            version += f"-{sha256(index / INDEX_CARD)[:8]}"
        tag = f"{order.task}:{version}"
        try:
            Bundle.open(Path(bentoml.models.get(tag).path_of(BUNDLE)))
        except NotFound:
            with bentoml.models.create(tag, labels=order.labels) as model:
                # the ids of what it learned from stay here
                shutil.copytree(bundle.path, Path(model.path_of(BUNDLE)), ignore=shutil.ignore_patterns(LEARNED))
                if order.index:
                    shutil.copytree(index, Path(model.path_of(INDEX)))
    return tag


def _copy_sources(package: str, target: Path) -> None:
    """Code, and the policies that say where a service decides."""
    sources = [path for pattern in ("*.py", "policy.yaml") for path in Path(package).rglob(pattern)]
    for source in sources:
        copy = target / source.relative_to(package)
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, copy)


if __name__ == "__main__":
    private_by_default()
    print(build(BuildOrder.model_validate_json(sys.stdin.read())))
