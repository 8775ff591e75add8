"""Shared fixtures: one synthetic dataset and one trained bundle for all tests, in however many processes they run."""

from __future__ import annotations

import os

# private by default, and set before anything is imported: some packages ask a server at import
os.environ.update(
    DAGSTER_DISABLE_TELEMETRY="1",
    MLFLOW_DISABLE_TELEMETRY="true",
    BENTOML_DO_NOT_TRACK="True",
    DVC_NO_ANALYTICS="1",
    NO_ALBUMENTATIONS_UPDATE="1",
    DERM_SECRET="the secret of the tests, which keeps nothing secret",  # else one is made below the project
)

import io
import shutil
import socket
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.resources import files
from pathlib import Path

import numpy as np
import pytest
from filelock import FileLock
from hypothesis import settings

from derm_ml.places import PROJECT, read_env_file

# every run asks the same cases, so that it says the same; `pytest --hypothesis-profile=default` looks for new ones
settings.register_profile("alike", derandomize=True, deadline=None)  # a busy machine is no failure
settings.load_profile("alike")

# an installation of the tests' own: nothing is written into the checkout, whoever's data lie in it
_OWN = Path(tempfile.mkdtemp(prefix="derm-tests-"))
os.environ.update(DERM_DATA=str(_OWN / "data"), DERM_OUT=str(_OWN / "out"), DERM_HOME=str(_OWN / "home"))

# nor do the settings in the checkout's .env count: what is set, also to nothing, wins
for _name in read_env_file(PROJECT / ".env"):
    os.environ.setdefault(_name, "")

SHARED_DATA = Path(os.environ.get("DERM_SHARED_DATA", Path(__file__).parents[2] / "shared" / "data"))


def pytest_unconfigure():
    shutil.rmtree(_OWN, ignore_errors=True)


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Real public images for development; a machine without them skips what needs them."""
    if not SHARED_DATA.is_dir():
        pytest.skip("real images are not on this machine (set DERM_SHARED_DATA)")
    return SHARED_DATA


@pytest.fixture
def resealed(tmp_path):
    """`resealed(bundle, views="d4")`: a copy of the bundle whose card says so, sealed again."""
    from derm_ml.bundles.bundle import read_card, seal

    def make(bundle: Path, **said) -> Path:
        copy = Path(shutil.copytree(bundle, tmp_path / "resealed"))
        seal(copy, read_card(bundle).model_copy(update=said))
        return copy

    return make


@pytest.fixture
def listening(slow):
    """`with listening(app) as port`: a real uvicorn server on a free port of this machine, ended with the block."""
    import uvicorn

    @contextmanager
    def serve(app, **options) -> Iterator[int]:
        server = uvicorn.Server(uvicorn.Config(app, log_config=None, **options))
        with socket.socket() as bound:
            bound.bind(("127.0.0.1", 0))
            thread = threading.Thread(target=server.run, kwargs={"sockets": [bound]})
            thread.start()
            while not server.started:
                time.sleep(0.01)
            try:
                yield bound.getsockname()[1]
            finally:
                server.should_exit = True
                thread.join(30)

    return serve


@pytest.fixture(scope="session")
def chromium(slow) -> str:
    """The path of a Chromium; a machine without one skips what needs it."""
    names = (os.environ.get("DERM_CHROMIUM", ""), "chromium", "chromium-browser", "google-chrome")
    found = next((path for path in map(shutil.which, names) if path), None)
    if found is None:
        pytest.skip("no Chromium on this machine (apt-get install chromium, or set DERM_CHROMIUM)")
    return found


@pytest.fixture(scope="module")
def browser(chromium):
    """Headless Chromium, ended with the module: while Playwright lives, its thread can run no other event loop."""
    from playwright.sync_api import sync_playwright

    options = ("no-sandbox", "disable-gpu", "disable-quic", "no-first-run", "disable-background-networking",
               "disable-component-update", "disable-sync")  # fmt: skip
    with sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=chromium, args=[f"--{option}" for option in options])
        yield opened
        opened.close()


@pytest.fixture(scope="session")
def axe() -> Callable[..., list[str]]:
    """What axe finds on a page that shuts somebody out: serious or critical (WCAG 2.2 A and AA), one line each."""
    source = (files("axe_playwright_python") / "axe.min.js").read_text(encoding="utf-8")
    tags = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa"]

    def faults(page) -> list[str]:
        page.evaluate(f"() => {{ {source} }}")  # by the debugger: a page's own policy would refuse it
        found = page.evaluate("tags => axe.run(document, {runOnly: {type: 'tag', values: tags}})", tags)
        return [
            f"{v['id']}: {v['nodes'][0]['html']}" for v in found["violations"] if v["impact"] in ("serious", "critical")
        ]

    return faults


@pytest.fixture(scope="session")
def made_once(request, tmp_path_factory) -> Callable[[str, Callable[[Path], object]], Path]:
    """`made_once(name, make)`: a folder that `make(folder)` fills in the first process that asks; the others wait.

    Tests run in several processes (pytest-xdist), each with session fixtures of its own: without this a model is
    trained in each. Nobody may write into the folder afterwards.
    """
    base = tmp_path_factory.getbasetemp()
    shared = (base.parent if hasattr(request.config, "workerinput") else base) / "shared"
    shared.mkdir(exist_ok=True)

    def once(name: str, make: Callable[[Path], object]) -> Path:
        folder, done = shared / name, shared / f"{name}.done"
        with FileLock(shared / f"{name}.lock"):
            if not done.exists():
                shutil.rmtree(folder, ignore_errors=True)  # a process failed half way
                folder.mkdir()
                make(folder)
                done.touch()
        return folder

    return once


@pytest.fixture(scope="session")
def as_dicom() -> Callable[[np.ndarray], bytes]:
    """`as_dicom(rgb)`: RGB (H, W, 3) uint8 as a dermoscopic photograph, its pixels as they are."""

    def make(rgb: np.ndarray) -> bytes:
        import pydicom
        from pydicom.dataset import FileDataset, FileMetaDataset

        meta = FileMetaDataset()
        meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = "1.2.840.10008.5.1.4.1.1.77.1.7", "1.2.3"
        meta.TransferSyntaxUID = pydicom.uid.ExplicitVRLittleEndian
        found = FileDataset("", {}, file_meta=meta, preamble=bytes(128))
        found.SOPClassUID, found.SOPInstanceUID = meta.MediaStorageSOPClassUID, "1.2.3"
        found.PatientName = "Nightingale^Florence"
        found.Rows, found.Columns, found.SamplesPerPixel = *rgb.shape[:2], 3
        found.PhotometricInterpretation, found.PlanarConfiguration, found.PixelRepresentation = "RGB", 0, 0
        found.BitsAllocated, found.BitsStored, found.HighBit = 8, 8, 7
        found.PixelData = rgb.tobytes()
        out = io.BytesIO()
        found.save_as(out, enforce_file_format=True)
        return out.getvalue()

    return make


@pytest.fixture(scope="session")
def slow() -> None:
    """Needed by what trains or serves: a test that uses it, through any fixture, is not in `make test-fast`."""


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Do not even import a module that is slow as a whole where `-m "not slow"` would leave it out."""
    if config.getoption("markexpr") != "not slow" or collection_path.suffix != ".py":
        return None
    return True if "\npytestmark = pytest.mark.slow" in collection_path.read_text(encoding="utf-8") else None


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items) -> None:
    """Mark as slow what uses a fixture that trains or serves; begin with the modules that have such tests.

    Several processes end together only if what is handed out last is short.
    """
    for item in items:
        if "slow" in item.fixturenames:
            item.add_marker(pytest.mark.slow)
    long = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: item.path not in long)


@pytest.fixture(scope="session")
def drawn_raw(made_once) -> Path:
    """120 synthetic images in the official ISIC 2017 layout."""
    from derm_ml.registry import get_task

    return made_once("isic2017", lambda folder: get_task("lesion_classification").draw(folder, 120, seed=7))


@pytest.fixture(scope="session")
def drawn_dataset(drawn_raw, made_once):
    """The prepared dataset of `drawn_raw`."""
    return prepared("lesion_classification", drawn_raw, made_once)


@pytest.fixture(scope="session")
def trained(slow, drawn_dataset, made_once) -> Path:
    """A model folder of the `drawn` recipe, trained for a few epochs on `drawn_dataset`."""
    from derm_ml.registry import get_task

    task = get_task("lesion_classification")
    recipe = task.recipe("drawn", epochs=6, side=64, workers=0)
    return made_once("trained", lambda folder: task.fit(drawn_dataset, recipe, folder))


@pytest.fixture(scope="session")
def retinal_raw(made_once) -> Path:
    """120 synthetic eyes of 60 patients and 24 unlabelled ones, in the layout of ODIR-5K."""
    from derm_ml.registry import get_task

    return made_once("odir5k", lambda folder: get_task("retinal_findings").draw(folder, 120, seed=3))


@pytest.fixture(scope="session")
def retinal_dataset(retinal_raw, made_once):
    """The prepared dataset of `retinal_raw`."""
    return prepared("retinal_findings", retinal_raw, made_once)


@pytest.fixture(scope="session")
def retinal_trained(slow, retinal_dataset, made_once) -> Path:
    """A model folder of the `drawn` recipe, trained for a few epochs on `retinal_dataset`."""
    from derm_ml.registry import get_task

    task = get_task("retinal_findings")
    recipe = task.recipe("drawn", epochs=5, side=96, workers=0, views="none")
    return made_once("retinal_trained", lambda folder: task.fit(retinal_dataset, recipe, folder))


def prepared(name: str, raw: Path, made_once):
    from derm_ml.data.dataset import Dataset
    from derm_ml.data.prepare import prepare
    from derm_ml.registry import get_task

    task = get_task(name)
    folder = made_once(f"prepared_{raw.name}", lambda folder: prepare(task, raw, task.settings(), folder / name))
    return Dataset.open(folder / name)


@pytest.fixture(scope="session")
def colour_graph():
    """`colour_graph(head, side)`: a network small enough to build in a blink. Mean colour of a 4×4 grid, a linear head
    (3, L), exact Grad-CAM: image uint8 (N, S, S, 3) → logits (N, L), embedding (N, 3), maps (N, L, 4, 4)."""
    from onnx import TensorProto, helper, numpy_helper

    def graph(head: np.ndarray, side: int):
        labels, cell = head.shape[1], side // 4
        nodes = [
            helper.make_node("Cast", ["image"], ["float"], to=TensorProto.FLOAT),
            helper.make_node("Div", ["float", "white"], ["unit"]),
            helper.make_node("Transpose", ["unit"], ["chw"], perm=[0, 3, 1, 2]),
            helper.make_node("AveragePool", ["chw"], ["grid"], kernel_shape=[cell, cell], strides=[cell, cell]),
            helper.make_node("Conv", ["grid", "head"], ["evidence"]),
            helper.make_node("Relu", ["evidence"], ["maps"]),
            helper.make_node("ReduceMean", ["evidence", "space"], ["logits"], keepdims=0),
            helper.make_node("ReduceMean", ["grid", "space"], ["embedding"], keepdims=0),
        ]
        values = [
            numpy_helper.from_array(np.float32(255), "white"),
            numpy_helper.from_array(np.array([2, 3]), "space"),
            numpy_helper.from_array(np.ascontiguousarray(head.T, np.float32)[:, :, None, None], "head"),
        ]
        shapes = {"logits": ["n", labels], "embedding": ["n", 3], "maps": ["n", labels, 4, 4]}
        made = helper.make_graph(
            nodes,
            "colour",
            [helper.make_tensor_value_info("image", TensorProto.UINT8, ["n", side, side, 3])],
            [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in shapes.items()],
            values,
        )
        model = helper.make_model(made, opset_imports=[helper.make_opsetid("", 18)])
        model.ir_version = 10
        return model

    return graph


@pytest.fixture(scope="session")
def tinted_raw(made_once) -> Path:
    """135 textures in class folders, the middle of each tinted with the colour of its class, more or less: the mean
    colour tells a class from the others with an AUC of about 0.9, so that two models can differ in how well they read
    it. What lies around the middle says nothing."""
    return made_once("tinted", draw_tinted)


@pytest.fixture(scope="session")
def tinted_images() -> Callable[..., None]:
    """`tinted_images(folder, seed, tint, counts)`: others; less tint tells less."""
    return draw_tinted


def draw_tinted(folder: Path, seed: int = 3, tint: float = 14, counts: tuple[int, ...] = (15, 10, 20)) -> None:
    from PIL import Image

    from derm_ml.images.lesion_place import central

    rng, middle = np.random.default_rng(seed), central(64, 64)
    for split, count in zip(("train", "valid", "test"), counts, strict=True):
        for colour, label in enumerate(("melanoma", "nevus", "seborrheic_keratosis")):
            (folder / split / label).mkdir(parents=True)
            for number in range(count):
                texture = np.kron(rng.integers(60, 190, (8, 8, 3)), np.ones((8, 8, 1)))
                texture[middle, colour] += rng.normal(tint, 10) / middle.mean()  # as bright as if it were tinted whole
                name = folder / split / label / f"{split}_{label}_{number}.png"
                Image.fromarray(texture.clip(0, 255).astype(np.uint8)).save(name)


@pytest.fixture(scope="session")
def tinted_dataset(tinted_raw, made_once):
    """The prepared dataset of the tinted textures."""
    return prepared("lesion_classification", tinted_raw, made_once)


@pytest.fixture(scope="session")
def colour_model(colour_graph):
    """`colour_model(folder, dataset, mixed)`: a model folder with bundle and evaluation, no training needed.

    `mixed` in 0..1: how much the network takes one colour for another, so how bad it is. Everything in it is what `derm
    fit` and `derm evaluate` write: ids of what it learned from, card, predictions, report.
    """
    import onnx
    from safetensors.numpy import save_file

    from derm_ml.bundles.bundle import MODEL, WEIGHTS, BundleCard, seal, writing_bundle
    from derm_ml.bundles.classifier import Classifier
    from derm_ml.data.learned_ids import learned_from
    from derm_ml.images.settings import Preprocessing
    from derm_ml.predictions.classifier import predict_rows
    from derm_ml.registry import get_task
    from derm_ml.training.input_gate import GateImages, fit_gate

    def make(folder: Path, dataset, mixed: float, temperature: float = 1.0, evaluated: bool = True) -> Path:
        task = get_task(dataset.task)
        head = np.float32(30) * (
            (1 - mixed) * np.eye(3, dtype=np.float32) + mixed * np.eye(3, dtype=np.float32)[[1, 2, 0]]
        )
        card = BundleCard(
            task=task.name, recipe_name="drawn", recipe={"seed": 0}, labels=task.labels, head="softmax",
            preprocessing=Preprocessing(side=32, store_side=512), temperature=temperature, dataset_md5=dataset.md5,
            split_hashes=dataset.split_hashes, backbone="colour", pretrained="none", git_commit="c0ffee", epochs=1,
        )  # fmt: skip
        with writing_bundle(folder / "bundle") as bundle:
            onnx.save(colour_graph(head, 32), bundle / MODEL)
            save_file({"head": head}, bundle / WEIGHTS)
            learned_from(dataset).write(bundle)
            seal(bundle, card)
            said = [predict_rows(Classifier(bundle), dataset, dataset.split(s)) for s in ("train", "validation")]
            fit_gate(*(GateImages(o.statistics, o.embedding) for o in said), 32).write(bundle)
            seal(bundle, card)
        if evaluated:
            from derm_ml.evaluation.report import save as save_report

            save_report(task.evaluate(task.load(folder / "bundle"), dataset), folder / "evaluation_test")
        return folder / "bundle"

    return make


@pytest.fixture(scope="session")
def colour_models(colour_model, tinted_dataset, made_once) -> dict[str, Path]:
    """Evaluated model folders on the tinted textures: `good` (AUC 0.96), `fair` (0.93), `weak` (0.71). Copy them."""
    mixed = {"good": 0.0, "fair": 0.35, "weak": 0.5}

    def make(folder: Path) -> None:
        for name, share in mixed.items():
            colour_model(folder / name, tinted_dataset, share)

    root = made_once("colour_models", make)
    return {name: root / name for name in mixed}
