"""The endpoint against the bare predictor, FastAPI with eager torch, and `mlflow models serve`, as ratios of one run.

    python -m benchmarks.endpoint_load                         # ResNet-18 at 128 px, four views, random weights
    python -m benchmarks.endpoint_load --rounds 1 --seconds 1  # a look whether it runs
    python -m benchmarks.endpoint_load --int8                  # the graph computes with 8-bit integers, torch as before
    python -m benchmarks.endpoint_load --soak 30               # then 30 minutes of requests with a release every minute
    python -m benchmarks.endpoint_load --crowd 1000            # then so many clients at once

Everything is measured by turns in each round, so that a busy machine slows all of it; the medians of the ratios count.
The service is started as a user does, `python -m serving`, with a Bento built for this run in a temporary folder.
"""

from __future__ import annotations

import argparse
import base64
import io
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from http.client import HTTPConnection, HTTPException
from pathlib import Path

import numpy as np
import psutil
from PIL import Image

from derm_assets.packaging import build_bento
from derm_assets.resources.version_page import write_flavour
from derm_ml.bundles.bundle import MODEL, Bundle, BundleCard, seal, writing_bundle
from derm_ml.bundles.classifier import Classifier
from derm_ml.images.decode import decode
from derm_ml.images.settings import Preprocessing, Views
from derm_ml.places import BENTOML_HOME, VARIABLES
from derm_ml.registry import get_task
from serving import sessions
from serving.released import bento_home, write_release

TASK = "lesion_classification"
ROOT = Path(__file__).resolve().parents[1]
PORT, PLAIN, MLFLOW = 3800, 3801, 3802
CROWDED = 8  # clients at saturation
JPEG, JSON = {"Content-Type": "image/jpeg"}, {"Content-Type": "application/json"}


def write_bundle(path: Path, backbone: str, side: int, int8: bool, seed: int = 0, views: Views = "flips") -> Path:
    """A bundle of an untrained network: its speed is that of a trained one."""
    import torch

    from derm_ml.nets.classifier import ClassifierNetwork
    from derm_ml.training.export import export_classifier
    from derm_ml.training.quantisation import write_int8

    torch.manual_seed(seed)
    labels = get_task(TASK).labels
    card = BundleCard(
        task=TASK, recipe_name="untrained", recipe={}, labels=labels, head="softmax", views=views,
        preprocessing=Preprocessing(side=side, store_side=512), dataset_md5="0" * 32 + ".dir",
        split_hashes={"validation": "0" * 16}, backbone=backbone, pretrained="none", epochs=1,
    )  # fmt: skip
    with writing_bundle(path) as folder:
        export_classifier(ClassifierNetwork(backbone, len(labels), "none"), side, 0, folder)
        if int8:
            write_int8(folder / MODEL, iter([{"image": np.stack([small(an_image(n), side) for n in range(16)])}]))
        seal(folder, card)
    return path


def write_for_mlflow(bundle: Path, folder: Path) -> Path:
    """The same bundle as the registry holds it: with the file by which MLflow runs it."""
    shutil.copytree(bundle, folder)
    write_flavour(get_task(TASK), Bundle.open(bundle), folder)
    return folder


def small(jpeg: bytes, side: int) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(jpeg)).resize((side, side)))


def an_image(seed: int = 0) -> bytes:
    """A JPEG as a dataset stores them: 512 pixels, soft with some grain."""
    rng = np.random.default_rng(seed)
    soft = Image.fromarray(rng.integers(40, 216, (12, 16, 3), np.uint8)).resize((512, 384), Image.Resampling.BICUBIC)
    grain = np.clip(np.asarray(soft).astype(int) + rng.integers(-12, 12, (384, 512, 3)), 0, 255)
    buffer = io.BytesIO()
    Image.fromarray(grain.astype(np.uint8)).save(buffer, "JPEG", quality=90)
    return buffer.getvalue()


@contextmanager
def started(command: list[str], port: int, path: str, log: Path) -> Iterator[tuple[psutil.Process, float]]:
    """A server as a process of its own; yields it and the seconds until it answered."""
    begin = time.perf_counter()
    with log.open("wb") as output:
        process = subprocess.Popen(command, cwd=ROOT, stdout=output, stderr=subprocess.STDOUT)
    try:
        while status(port, path) not in (200, 404, 405):
            if process.poll() is not None or time.perf_counter() - begin > 180:
                sys.exit(f"{' '.join(command)} does not answer; its log ends with: {log.read_text()[-2000:]}")
            time.sleep(0.1)
        yield psutil.Process(process.pid), time.perf_counter() - begin
    finally:
        process.terminate()
        process.wait(30)


def status(port: int, path: str) -> int:
    connection = HTTPConnection("127.0.0.1", port, timeout=10)
    try:
        connection.request("GET", path)
        return connection.getresponse().status
    except OSError:
        return 0
    finally:
        connection.close()


def posting(port: int, body: bytes, path: str = "/predict", headers: Mapping[str, str] = JPEG) -> Callable[[], int]:
    """One client with one connection: each call is one request; returns its status."""
    connection = HTTPConnection("127.0.0.1", port, timeout=60)

    def post() -> int:
        connection.request("POST", path, body=body, headers=dict(headers))
        response = connection.getresponse()
        response.read()
        return response.status

    return post


def alone(ask: Callable[[], object], seconds: float) -> np.ndarray:
    """Seconds of one request after another."""
    taken, end = [], time.perf_counter() + seconds
    while not taken or time.perf_counter() < end:
        begin = time.perf_counter()
        ask()
        taken.append(time.perf_counter() - begin)
    return np.array(taken)


def together(clients: list[Callable[[], object]], seconds: float) -> float:
    """Answers a second of several clients at once."""
    done, begin = [0] * len(clients), time.perf_counter()

    def loop(number: int) -> None:
        while time.perf_counter() < begin + seconds:
            clients[number]()
            done[number] += 1

    threads = [threading.Thread(target=loop, args=(n,)) for n in range(len(clients))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return sum(done) / (time.perf_counter() - begin)


def compare(predictor: Classifier, body: bytes, rounds: int, seconds: float) -> dict[str, float]:
    """Medians over the rounds, all measured by turns."""

    def bare() -> object:
        return predictor([decode(body)])

    record = {"image": base64.b64encode(body).decode()}
    invocation = json.dumps({"dataframe_records": [record]}).encode()

    def of_mlflow() -> Callable[[], int]:
        return posting(MLFLOW, invocation, "/invocations", JSON)

    for ask in (bare, posting(PORT, body), posting(PLAIN, body), of_mlflow()):
        alone(ask, 1.0)
    rows: list[dict[str, float]] = []
    for _ in range(rounds):
        asked = (bare, posting(PORT, body), posting(PLAIN, body), of_mlflow())
        at_once, served, plain, mlflow = (alone(ask, seconds) for ask in asked)
        crowd = together([posting(PORT, body) for _ in range(CROWDED)], seconds)
        plain_crowd = together([posting(PLAIN, body) for _ in range(CROWDED)], seconds)
        mlflow_crowd = together([of_mlflow() for _ in range(CROWDED)], seconds)
        rows.append(
            {
                "bare predictor, p50 ms": 1000 * float(np.median(at_once)),
                "endpoint, p50 ms": 1000 * float(np.median(served)),
                "endpoint, p99 ms": 1000 * float(np.quantile(served, 0.99)),
                "endpoint / bare predictor, p50": float(np.median(served) / np.median(at_once)),
                "endpoint / bare predictor, p99": float(np.quantile(served, 0.99) / np.quantile(at_once, 0.99)),
                "endpoint, answers a second of 8 clients": crowd,
                "endpoint of 8 clients / bare predictor loop": crowd * float(at_once.mean()),
                "endpoint / FastAPI + torch, 1 client": float(plain.mean() / served.mean()),
                "endpoint / FastAPI + torch, 8 clients": crowd / plain_crowd,
                "endpoint / mlflow models serve, 1 client": float(mlflow.mean() / served.mean()),
                "endpoint / mlflow models serve, 8 clients": crowd / mlflow_crowd,
            }
        )
    return {name: statistics.median(row[name] for row in rows) for name in rows[0]}


def crowd(body: bytes, clients: int) -> str:
    """So many clients, one request each, at once: what they got."""
    found: Counter[int | str] = Counter()
    go = threading.Event()

    def one() -> None:
        go.wait()
        try:
            found[posting(PORT, body)()] += 1
        except (OSError, HTTPException) as error:
            found[type(error).__name__] += 1

    threads = [threading.Thread(target=one) for _ in range(clients)]
    for thread in threads:
        thread.start()
    go.set()
    for thread in threads:
        thread.join()
    return ", ".join(f"{number} × {what}" for what, number in found.items())


def soak(body: bytes, minutes: float, tags: list[str], worker: psutil.Process) -> str:
    """Requests of two clients with a release every minute: what they got, from whom, and the worker's memory."""
    stop, statuses, lost = threading.Event(), Counter[int](), []
    versions: Counter[str] = Counter()

    def client() -> None:
        connection = HTTPConnection("127.0.0.1", PORT, timeout=60)
        while not stop.is_set():
            try:
                connection.request("POST", "/predict", body=body, headers=JPEG)
                response = connection.getresponse()
                answer = json.loads(response.read())
            except (OSError, HTTPException) as error:
                lost.append(repr(error))
                connection.close()
                continue
            statuses[response.status] += 1
            versions[answer.get("model_version", "")] += 1

    threads = [threading.Thread(target=client) for _ in range(2)]
    for thread in threads:
        thread.start()
    memory, releases = [], 0
    end = time.monotonic() + 60 * minutes
    while (left := end - time.monotonic()) > 0:
        time.sleep(min(60, left))
        memory.append(worker.memory_info().rss / 2**20)
        releases += 1
        write_release(TASK, tags[releases % 2], {})
        print(
            f"  minute {releases}: {sum(statuses.values())} answers, {len(lost)} lost, {memory[-1]:.0f} MB", flush=True
        )
    time.sleep(10)  # the last release is picked up, too
    stop.set()
    for thread in threads:
        thread.join()
    switched = switches()
    return (
        f"{sum(statuses.values())} answers ({dict(statuses)}) of {len(versions)} models {sorted(versions.values())}, "
        f"{len(lost)} lost, {releases} releases of which {switched} were switched to, "
        f"memory {memory[0]:.0f} → {memory[-1]:.0f} MB (least {min(memory):.0f}, most {max(memory):.0f})"
    )


def switches() -> int:
    """How many releases the service says it has switched to."""
    with urllib.request.urlopen(f"http://127.0.0.1:{PORT}/metrics", timeout=10) as page:
        lines = page.read().decode().splitlines()
    return int(sum(float(line.split()[-1]) for line in lines if "_releases_total{" in line and '"switched"' in line))


def worker_of(server: psutil.Process) -> psutil.Process:
    """The process that holds the model: the largest below the server."""
    return max([server, *server.children(recursive=True)], key=lambda process: process.memory_info().rss)


def main() -> None:
    parser = argparse.ArgumentParser(description="The endpoint against the bare predictor and against FastAPI + torch.")
    parser.add_argument("--backbone", default="resnet18")
    parser.add_argument("--side", type=int, default=128)
    parser.add_argument("--int8", action="store_true", help="the graph computes with 8-bit integers")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=5.0, help="of each measurement of a round")
    parser.add_argument("--crowd", type=int, default=0, help="clients at once, afterwards")
    parser.add_argument("--soak", type=float, default=0, help="minutes of requests with a release every minute")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="derm-benchmark-") as folder:
        home, body = Path(folder), an_image()
        os.environ |= {VARIABLES["home"]: folder, BENTOML_HOME: f"{folder}/bentoml", "DERM_LOG": "json"}
        os.environ.pop("DERM_TOKEN", None)
        os.environ["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"  # MLflow calls uvicorn
        bundles = [write_bundle(home / f"bundle-{n}", given.backbone, given.side, given.int8, n) for n in range(2)]
        tags = [build_bento(TASK, bundle) for bundle in bundles]
        write_release(TASK, tags[0], {})
        [chosen, *_] = (bento_home() / "models").rglob("sessions.json")
        print("sessions:", json.dumps(json.loads(chosen.read_text())))
        plain = [sys.executable, "benchmarks/plain_service.py", str(bundles[0] / "weights.safetensors"),
                 "--backbone", given.backbone, "--side", str(given.side), "--port", str(PLAIN)]  # fmt: skip
        ours = [sys.executable, "-m", "serving", TASK, "--port", str(PORT)]
        registered = write_for_mlflow(bundles[0], home / "registered")
        mlflow = [sys.executable, "-m", "mlflow", "models", "serve", "--model-uri", str(registered),
                  "--env-manager", "local", "--port", str(MLFLOW)]  # fmt: skip
        with (
            started(ours, PORT, "/readyz", home / "log") as (server, seconds),
            started(plain, PLAIN, "/predict", home / "plain.log") as (other, _),
            started(mlflow, MLFLOW, "/ping", home / "mlflow.log") as (third, _),
        ):
            predictor = Classifier(bundles[0])
            sessions.apply(predictor, chosen)  # the cores used in the same way: what is left is the way to the endpoint
            for name, value in compare(predictor, body, given.rounds, given.seconds).items():
                print(f"{name:45} {value:8.2f}")
            print(f"{'start to ready, s':45} {seconds:8.2f}")
            print(f"{'memory of the worker, MB':45} {worker_of(server).memory_info().rss / 2**20:8.0f}")
            print(f"{'memory of FastAPI + torch, MB':45} {worker_of(other).memory_info().rss / 2**20:8.0f}")
            print(f"{'memory of mlflow models serve, MB':45} {worker_of(third).memory_info().rss / 2**20:8.0f}")
            if given.crowd:
                print(f"{given.crowd} clients at once: {crowd(body, given.crowd)}")
            if given.soak:
                print(f"soak: {soak(body, given.soak, tags, worker_of(server))}")


if __name__ == "__main__":
    main()
