"""A real bundle small enough to build in a blink: mean colour of a 4×4 grid, a linear head, exact Grad-CAM."""

from __future__ import annotations

import io
import itertools
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import onnx
import pytest
from PIL import Image
from safetensors.numpy import save_file
from starlette.testclient import TestClient

from derm_ml.bundle import MODEL, WEIGHTS, BundleCard, OperatingPoint, Preprocessing, seal, writing_bundle
from derm_ml.dataset import Dataset
from derm_ml.embeddings.extract import embed
from derm_ml.embeddings.similar import build_similar
from derm_ml.learned_ids import learned_from
from derm_ml.predictor import Predictor
from derm_ml.registry import get_task
from serving.factory import BESIDE, make_service
from serving.guard import Limits

TASK = "lesion_classification"
LABELS = ("melanoma", "nevus", "seborrheic_keratosis")
SIDE = 32


@pytest.fixture(scope="session")
def write_bundle(colour_graph, drawn_dataset) -> Callable[..., Path]:
    """A bundle whose answer depends on the picture's colours; `scale` makes another model."""

    def write(path: Path, scale: float = 6.0, task: str = TASK) -> Path:
        head = np.eye(3, dtype=np.float32) * scale
        with writing_bundle(path) as folder:
            onnx.save(colour_graph(head, SIDE), folder / MODEL)
            save_file({"head": head}, folder / WEIGHTS)
            learned_from(drawn_dataset).write(folder)
            seal(folder, _card(task))
        return path

    return write


@pytest.fixture(scope="session")
def bundle(tmp_path_factory: pytest.TempPathFactory, write_bundle) -> Path:
    return write_bundle(tmp_path_factory.mktemp("bundle") / "bundle")


@pytest.fixture(scope="session")
def indexed(tmp_path_factory: pytest.TempPathFactory, drawn_dataset: Dataset, write_bundle) -> Path:
    """The same bundle with an index of similar images beside it."""
    bundle = write_bundle(tmp_path_factory.mktemp("indexed") / "bundle")
    table = embed(Predictor(bundle), drawn_dataset, drawn_dataset.manifest)
    build_similar(table, drawn_dataset, bundle.parent / BESIDE)
    return bundle


def _card(task: str) -> BundleCard:
    point = OperatingPoint(
        name="recall_0.95", label="melanoma", threshold=0.5, split_hash="0123456789abcdef",
        sensitivity=0.95, sensitivity_low=0.9, specificity=0.5, positives=40,
    )  # fmt: skip
    return BundleCard(
        task=task, recipe_name="drawn", recipe={}, labels=LABELS, head="softmax",
        preprocessing=Preprocessing(side=SIDE, store_side=512), temperature=1.5, operating_points=(point,),
        dataset_md5="0" * 32 + ".dir", split_hashes={"validation": "0123456789abcdef"}, backbone="colour",
        pretrained="none", git_commit="c0ffee", epochs=1,
    )  # fmt: skip


MakeClient = Callable[..., TestClient]
_names = (f"{TASK}_{n}" for n in itertools.count(1))


@pytest.fixture(scope="module")
def make_client(bundle: Path) -> Iterator[MakeClient]:
    """Builds clients of services over `svc.to_asgi()`, each with a name and so with metrics of its own."""
    opened: list[TestClient] = []

    def make(
        model: Path | None = bundle,
        server: str = "http://127.0.0.1:3000",
        raise_server_exceptions: bool = True,
        **limits: float,
    ) -> TestClient:
        service = make_service(get_task(TASK), model, name=next(_names), limits=Limits(**limits))
        client = TestClient(service.to_asgi(), base_url=server, raise_server_exceptions=raise_server_exceptions)
        opened.append(client.__enter__())
        return client

    yield make
    for client in reversed(opened):
        client.__exit__(None, None, None)


@pytest.fixture(scope="module")
def client(make_client: MakeClient) -> TestClient:
    return make_client()


@pytest.fixture(scope="session")
def picture() -> np.ndarray:
    """RGB (48, 64, 3) uint8: red left, blue right, with some texture."""
    rgb = np.random.default_rng(0).integers(0, 60, (48, 64, 3), np.uint8)
    rgb[:, :32, 0] += 180
    rgb[:, 32:, 2] += 150
    return rgb


@pytest.fixture(scope="session")
def encode(picture: np.ndarray) -> Callable[..., bytes]:
    """`encode("JPEG", mode="CMYK", quality=95)`: the picture as the bytes of a file."""

    def make(kind: str = "PNG", mode: str = "RGB", rgb: np.ndarray = picture, **options: object) -> bytes:
        buffer = io.BytesIO()
        Image.fromarray(rgb).convert(mode).save(buffer, kind, **options)
        return buffer.getvalue()

    return make
