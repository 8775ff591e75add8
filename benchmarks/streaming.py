"""What streaming costs: images a second read from local shards, and from a remote with an empty and a full cache.

    python benchmarks/streaming.py                                synthetic images of 512 pixels
    python benchmarks/streaming.py --latency 0.02 --mbit 1000     each answer waits, and is paced as by such a network
    python benchmarks/streaming.py --cache-gb 0.04                a cache that holds half of the set

The remote is an HTTP server on this machine that answers range requests for files laid out as DVC pushes them. Local,
cold and warm are measured by turns, decoded by as many worker processes, in the order of a streamed training. A local
file is in the memory of the system, so the ratio to it is the worst case.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import statistics
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import cv2
import numpy as np

from derm_ml.data import shards as writing_shards
from derm_ml.data.dataset import Dataset, Reader
from derm_ml.data.prepare import prepare
from derm_ml.data.streaming import bring_without_shards
from derm_ml.places import DVC_REMOTE, STREAM, VARIABLES, installation
from derm_ml.registry import get_task
from derm_ml.synthetic.lesions import CLASSES
from derm_ml.training.feeding import EpochSampler, training_loader
from derm_ml.tree import md5s_below

TASK, SIDE, BATCH, SEED = get_task("lesion_classification"), 512, 16, 1


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=600)
    parser.add_argument("--shard-mb", type=float, default=4, help="smaller than real ones, so that there are many")
    parser.add_argument("--cache-gb", type=float, default=10)
    parser.add_argument("--latency", type=float, default=0.0, help="seconds before each answer of the remote")
    parser.add_argument("--mbit", type=float, default=0.0, help="Mbit/s of each answer; 0: as fast as it goes")
    parser.add_argument("--workers", type=int, nargs="+", default=[2])
    parser.add_argument("--rounds", type=int, default=3)
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        local = drawn(root, chosen.images, chosen.shard_mb)
        sizes = local.info["shards"]
        print(f"{len(local.manifest)} images, {sum(sizes.values()) / 1e6:.0f} MB in {len(sizes)} shards")
        with served(laid_out(local, root / "remote"), chosen.latency, chosen.mbit / 8 * 1e6) as (address, sent):
            os.environ |= {DVC_REMOTE: address, STREAM: f"{chosen.cache_gb}", VARIABLES["data"]: f"{root}/data"}
            bring_without_shards(local.md5, root / "streamed")
            streamed = Dataset.open(root / "streamed")
            for workers in chosen.workers:
                compare(local, streamed, workers, chosen.rounds, sent)


def compare(local: Dataset, streamed: Dataset, workers: int, rounds: int, sent: list[int]) -> None:
    """Print images a second of each way against local, the median of the rounds, and how much an epoch fetched."""
    speed: dict[str, list[float]] = {"local": [], "cold": [], "warm": []}
    fetched: dict[str, list[float]] = {way: [] for way in speed}  # share of the set
    for number in range(rounds):
        for way in speed:
            if way == "cold":
                shutil.rmtree(installation().streamed, ignore_errors=True)
            sent.clear()
            speed[way].append(images_per_second(local if way == "local" else streamed, streamed, workers, number))
            fetched[way].append(sum(sent) / sum(local.info["shards"].values()))
    print(f"{workers} workers: local {statistics.median(speed['local']):.0f} images/s")
    for way in ("cold", "warm"):
        ratios = np.divide(speed[way], speed["local"])
        each = ", ".join(f"{ratio:.3f}" for ratio in ratios)
        print(
            f"  {way} / local {np.median(ratios):.3f} ({each}), "
            f"fetched {statistics.median(fetched[way]):.2f} of the set"
        )


@dataclass(frozen=True, eq=False)
class Decoded:
    """(index, seed) → the image, as stored: no augmentation, so that reading counts."""

    image: Reader

    def __call__(self, index: int, seed: int) -> tuple[np.ndarray, ...]:
        return (self.image(index),)


def images_per_second(dataset: Dataset, streamed: Dataset, workers: int, epoch: int) -> float:
    """Of one epoch over the training split, from the first request to the last batch."""
    rows = dataset.split("train")
    sampler = EpochSampler(len(rows), BATCH, SEED, turns=streamed.turns(rows))
    sampler.epoch = epoch
    loader = training_loader(Decoded(dataset.reader(rows)), sampler, SEED, workers)
    started = time.perf_counter()
    read = sum(len(images) for (images,) in loader)
    return read / (time.perf_counter() - started)


def drawn(root: Path, images: int, shard_mb: float) -> Dataset:
    """A prepared set of synthetic textures whose JPEGs have some 150 kB, as photographs of that size do."""
    rng = np.random.default_rng(SEED)
    for number in range(images):
        split = ("train", "train", "train", "train", "valid", "test")[number % 6]
        folder = root / "raw" / split / CLASSES[number // 6 % len(CLASSES)]
        folder.mkdir(parents=True, exist_ok=True)
        rough = rng.integers(60, 190, (SIDE // 4, SIDE // 4, 3), np.uint8)
        image = cv2.resize(rough, (SIDE, SIDE), interpolation=cv2.INTER_CUBIC)
        cv2.imwrite(str(folder / f"{number:06}.jpg"), image, [cv2.IMWRITE_JPEG_QUALITY, 95])
    writing_shards.SHARD_BYTES = int(shard_mb * 1e6)
    return prepare(TASK, root / "raw", TASK.settings(), root / "prepared")


def laid_out(dataset: Dataset, remote: Path) -> Path:
    """The files of a dataset as DVC pushes them."""
    files = md5s_below(dataset.path)
    order = sorted(files, key=lambda name: name.split("/"))
    listed = json.dumps([{"md5": files[name], "relpath": name} for name in order], sort_keys=True)
    for name, md5 in files.items():
        place(remote, md5).symlink_to(dataset.path / name)
    place(remote, dataset.md5).write_text(listed, encoding="utf-8")
    return remote


def place(remote: Path, md5: str) -> Path:
    path = remote / "files" / "md5" / md5[:2] / md5[2:]
    path.parent.mkdir(parents=True, exist_ok=True)
    return path


@contextmanager
def served(folder: Path, latency: float, bytes_per_second: float) -> Iterator[tuple[str, list[int]]]:
    """Serve a folder on this machine: its address, and the bytes of each answer as they are sent."""
    sent: list[int] = []

    class Ranges(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            path = folder / self.path.lstrip("/")
            if not path.is_file():
                self.send_error(404)
                return
            data = path.read_bytes()
            asked = re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers.get("Range", ""))
            part = data[int(asked[1]) : int(asked[2]) + 1] if asked else data
            time.sleep(latency + (len(part) / bytes_per_second if bytes_per_second else 0))
            self.send_response(206 if asked else 200)
            self.send_header("Content-Length", str(len(part)))
            if asked:
                self.send_header("Content-Range", f"bytes {asked[1]}-{int(asked[1]) + len(part) - 1}/{len(data)}")
            self.end_headers()
            self.wfile.write(part)
            sent.append(len(part))

        def log_message(self, format: str, *args: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Ranges) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}", sent
        finally:
            server.shutdown()


if __name__ == "__main__":
    main()
