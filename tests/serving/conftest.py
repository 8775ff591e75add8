"""A real bundle small enough to build in a blink: mean colour of a 4×4 grid, a linear head, exact Grad-CAM."""

from __future__ import annotations

import io
import itertools
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from http.client import HTTPConnection
from pathlib import Path

import numpy as np
import onnx
import pytest
import uvicorn
from onnx import TensorProto, helper, numpy_helper
from PIL import Image
from safetensors.numpy import save_file
from starlette.testclient import TestClient

from derm_ml.bundles.bundle import MODEL, WEIGHTS, BundleCard, seal, writing_bundle
from derm_ml.bundles.classifier import Classifier
from derm_ml.data.dataset import Dataset
from derm_ml.data.learned_ids import learned_from
from derm_ml.embeddings.extract import table_of
from derm_ml.embeddings.similar import build_similar
from derm_ml.images.settings import MaskRule, Preprocessing
from derm_ml.metrics.points import OperatingPoint
from derm_ml.model_folder import ModelFolder
from derm_ml.pairs.matching import candidates, evidence, hidden
from derm_ml.registry import get_task
from serving.factory import make_service
from serving.guard import Limits

TASK = "lesion_classification"
LABELS = ("melanoma", "nevus", "seborrheic_keratosis")
SIDE = 32
MASK_SIDE = 64


@pytest.fixture(scope="session")
def write_bundle(colour_graph, drawn_dataset) -> Callable[..., Path]:
    """A bundle whose answer depends on the picture's colours; `scale` makes another model, `facts` another card."""

    def write(path: Path, scale: float = 6.0, task: str = TASK, **facts: object) -> Path:
        head = np.eye(3, dtype=np.float32) * scale
        with writing_bundle(path) as folder:
            onnx.save(colour_graph(head, SIDE), folder / MODEL)
            save_file({"head": head}, folder / WEIGHTS)
            learned_from(drawn_dataset).write(folder)
            seal(folder, _card(task).model_copy(update=facts))
        return path

    return write


@pytest.fixture(scope="session")
def write_pair_bundle() -> Callable[[Path], Path]:
    return _write_pair_bundle


def _write_pair_bundle(path: Path) -> Path:
    """A bundle that matches pairs by numbers rounded from a fit on synthetic visits: a near box of one size matches."""

    def logistic(names: tuple[str, ...], means: list, scales: list, weights: list, intercept: float) -> dict:
        return {"names": names, "means": means, "scales": scales, "weights": weights, "intercept": intercept}

    numbers = {
        "match": logistic(
            candidates.NAMES, [0.16, 0.9, 0.4, 0.36, 0.8, 0.01], [0.15, 0.9, 0.4, 0.4, 0.3, 0.03],
            [-2.6, -2.4, 2.8, -1.1, 0.8, -0.5], -0.6,
        ),
        "hidden": logistic(hidden.NAMES, [0.0] * 4, [1.0] * 4, [0.0] * 4, -6.0),
        "same": logistic(
            evidence.NAMES, [3.4, 0.77, 0.99, 0, 0], [1.8, 0.22, 0.005, 1e-6, 1e-6], [1.2, 1.9, 0.6, 0, 0], -0.4
        ),
        "same_threshold": 0.5,
    }  # fmt: skip
    task = get_task("persistent_conditions")
    card = BundleCard(
        task=task.name, recipe_name="drawn", recipe={}, labels=task.labels, head="pairs",
        preprocessing=Preprocessing(side=640, store_side=1024),
        parameters={"faces": {"detector": "dlib_hog"}, "numbers": numbers},
        dataset_md5="0" * 32 + ".dir", split_hashes={}, backbone="none", pretrained="none", epochs=0,
    )  # fmt: skip
    with writing_bundle(path) as folder:
        seal(folder, card)
    return path


@pytest.fixture(scope="session")
def write_segmenter() -> Callable[..., Path]:
    return _write_segmenter


def _write_segmenter(path: Path, fit: str = "squash") -> Path:
    """A bundle that takes every pixel darker than the middle for lesion: (N, S, S, 3) uint8 → (N, 1, S, S)."""
    task = get_task("lesion_segmentation")
    nodes = [
        helper.make_node("Cast", ["image"], ["float"], to=TensorProto.FLOAT),
        helper.make_node("ReduceMean", ["float", "colours"], ["grey"], keepdims=1),
        helper.make_node("Sub", ["middle", "grey"], ["darkness"]),
        helper.make_node("Transpose", ["darkness"], ["logits"], perm=[0, 3, 1, 2]),
    ]
    values = [numpy_helper.from_array(np.array([3]), "colours"), numpy_helper.from_array(np.float32(127.5), "middle")]
    graph = helper.make_graph(
        nodes,
        "dark",
        [helper.make_tensor_value_info("image", TensorProto.UINT8, ["n", MASK_SIDE, MASK_SIDE, 3])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["n", 1, MASK_SIDE, MASK_SIDE])],
        values,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)])
    model.ir_version = 10
    card = BundleCard(
        task=task.name, recipe_name="drawn", recipe={}, labels=task.labels, head="mask", views="d4", temperature=10,
        preprocessing=Preprocessing(side=MASK_SIDE, store_side=512, fit=fit, smallest_side=0),
        mask_rule=MaskRule(threshold=0.5, largest_component=True, fill_holes=True),
        dataset_md5="0" * 32 + ".dir", split_hashes={}, backbone="dark", pretrained="none", epochs=1,
    )  # fmt: skip
    with writing_bundle(path) as folder:
        onnx.save(model, folder / MODEL)
        save_file({"none": np.zeros(1, np.float32)}, folder / WEIGHTS)
        seal(folder, card)
    return path


@pytest.fixture(scope="session")
def bundle(tmp_path_factory: pytest.TempPathFactory, write_bundle) -> Path:
    return write_bundle(tmp_path_factory.mktemp("bundle") / "bundle")


@pytest.fixture(scope="session")
def indexed(tmp_path_factory: pytest.TempPathFactory, drawn_dataset: Dataset, write_bundle) -> Path:
    """The same bundle with an index of similar images beside it."""
    bundle = write_bundle(tmp_path_factory.mktemp("indexed") / "bundle")
    table = table_of(Classifier(bundle), drawn_dataset, ModelFolder.holding(bundle))
    build_similar(table, drawn_dataset, ModelFolder.holding(bundle).index)
    return bundle


def _card(task: str) -> BundleCard:
    point = OperatingPoint(
        name="recall_0.95", label="melanoma", threshold=0.5, split_hash="0123456789abcdef",
        sensitivity=0.95, sensitivity_low=0.9, specificity=0.5, positives=40,
    )  # fmt: skip
    return BundleCard(
        task=task, recipe_name="drawn", recipe={}, labels=LABELS, head="softmax",
        preprocessing=Preprocessing(side=SIDE, store_side=512), temperature=1.5, operating_points=(point,),
        prevalence=dict(zip(LABELS, (0.3, 0.5, 0.2), strict=True)), class_limits=(0.1, 0.9, 0.0),
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


@pytest.fixture(scope="session")
def served(slow) -> Callable[..., AbstractContextManager[str]]:
    return _served


@contextmanager
def _served(task: str, bundle: Path | None, name: str) -> Iterator[str]:
    """The service of a task under uvicorn; yields its address."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    application = make_service(get_task(task), bundle, name=name).to_asgi()
    server = uvicorn.Server(uvicorn.Config(application, host="127.0.0.1", port=port, log_level="warning"))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        time.sleep(0.02)
    yield f"http://127.0.0.1:{port}/"
    server.should_exit = True
    thread.join(20)


Process = subprocess.Popen[bytes]


@pytest.fixture(scope="session")
def python_m_serving(slow) -> Callable[..., AbstractContextManager[tuple[int, Process]]]:
    return _python_m_serving


@contextmanager
def _python_m_serving(log: Path, *arguments: str, **settings: str) -> Iterator[tuple[int, Process]]:
    """`python -m serving` as an operator starts it, ready: its port and process. At the end none of it is left."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    root = str(Path(__file__).parents[2])
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "serving", *arguments, "--port", str(port)],
            cwd=log.parent, env={**os.environ, "PYTHONPATH": root, **settings},
            stdout=output, stderr=subprocess.STDOUT, start_new_session=True,
        )  # fmt: skip
    try:
        deadline = time.monotonic() + 120
        while not _is_ready(port):
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.05)
        yield port, process
    finally:
        process.terminate()
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def _is_ready(port: int) -> bool:
    connection = HTTPConnection("127.0.0.1", port, timeout=60)
    try:
        connection.request("GET", "/readyz")
        return connection.getresponse().status == 200
    except OSError:
        return False
    finally:
        connection.close()
