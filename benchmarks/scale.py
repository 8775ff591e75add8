"""What a preparation costs by the number of images: CPU seconds and memory of each stage, and of a hundred more.

    python benchmarks/scale.py --sizes 1000 3000 10000             a table, and the slopes between sizes
    python benchmarks/scale.py --sizes 100000 1000000 --out DIR    goes on where it stood: sizes that are done are read

Synthetic images of 64 pixels, each with a texture of its own, go through `prepare` as `derm prepare` runs it; then a
hundred are delivered, and then nothing has changed. CPU seconds are of all threads. Memory is the highest resident set
of the stage, less that at its beginning. A process that is killed leaves the cache, from which the next goes on: what
both spent on the stage that was cut off is added up, and stages that were over before are not counted a second time.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

import cv2
import numpy as np

from derm_ml.cache import Cache
from derm_ml.data.incoming import take_in
from derm_ml.data.prepare import prepare
from derm_ml.files import write_json
from derm_ml.registry import get_task
from derm_ml.synthetic.lesions import CLASSES

SIDE, AT_ONCE, MORE = 64, 512, 100
SAVED_EVERY = 20.0  # seconds
TASK = get_task("lesion_classification")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", type=int, nargs="+", default=[1000, 3000, 10_000])
    parser.add_argument("--out", type=Path, default=Path("out/scale"), help="images, datasets and figures")
    parser.add_argument("--one", type=int, help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.one:
        one(chosen.one, chosen.out / f"{chosen.one}")
        return
    measured = {}
    for size in sorted(chosen.sizes):
        figures = chosen.out / f"{size}" / "figures.json"
        if not figures.exists():  # in a process of its own, so that its memory is its own
            subprocess.run([sys.executable, __file__, "--one", f"{size}", "--out", f"{chosen.out}"], check=True)
        measured[size] = json.loads(figures.read_text())
        print(f"{size} images{f', resumed {times}×' if (times := measured[size].pop('resumed')) else ''}")
        for stage, (seconds, memory) in measured[size].items():
            print(
                f"  {stage:24} {seconds:9.1f} CPU s {1000 * seconds / size:8.2f} ms an image {memory / 2**20:8.0f} MiB"
            )
    print_slopes(measured)


def print_slopes(measured: dict[int, dict[str, list[float]]]) -> None:
    """Of log CPU seconds, and memory beyond the start of the stage, on log size: fitted to all sizes."""
    if len(measured) < 2:
        return
    sizes = np.log(list(measured))
    print(f"fitted over {len(measured)} sizes:")
    for stage in next(iter(measured.values())):
        seconds = np.array([found[stage][0] for found in measured.values()])
        memory = np.array([found[stage][1] for found in measured.values()])
        slope = np.polyfit(sizes, np.log(np.maximum(seconds, 1e-3)), 1)[0]
        grown = np.polyfit(list(measured), memory, 1)[0]
        print(f"  {stage:24} slope {slope:5.2f}, {grown / 1000:7.2f} kB an image")


@dataclass
class Stages:
    """CPU seconds and highest memory of each stage that `progress` names, kept in a file as they run."""

    path: Path
    found: dict[str, list[float]] = field(default_factory=dict)
    resumed: int = 0
    _over: list[str] = field(default_factory=list)
    _name: str = ""

    def __post_init__(self) -> None:
        if self.path.exists():
            kept = json.loads(self.path.read_text())
            self.found, self._over, self.resumed = kept["found"], kept["over"], kept["resumed"] + 1

    def __call__(self, stage: str, done: int = 0, total: int = 0) -> None:
        if stage == self._name:
            if time.monotonic() > self._saved + SAVED_EVERY:
                self._save()
            return
        self.end()
        self._name, self._began = stage, time.process_time()
        self._before = self.found.get(stage, [0.0, 0.0])
        Path("/proc/self/clear_refs").write_text("5")  # the highest resident set begins anew
        self._resident = resident("VmRSS")
        self._save()

    def end(self) -> None:
        """The stage that runs is over."""
        if self._name:
            self._save()
            self._over.append(self._name)
            self._save()
        self._name = ""

    def _save(self) -> None:
        if self._name not in self._over:
            seconds, memory = self._before
            now = time.process_time() - self._began, resident("VmHWM") - self._resident
            self.found[self._name] = [seconds + now[0], max(memory, now[1])]
        self._saved = time.monotonic()
        write_json(self.path, {"found": self.found, "over": self._over, "resumed": self.resumed})


def one(size: int, folder: Path) -> None:
    """Everything of one size, in this process."""
    raw, out, known = folder / "raw", folder / "prepared", folder / "cache.sqlite"
    folder.mkdir(parents=True, exist_ok=True)
    settings, stages = TASK.settings(), Stages(folder / "stages.json")
    stages("draw (not counted)")
    if not (folder / "drawn").exists():
        draw(raw, 0, size)
        (folder / "drawn").touch()
    with Cache(known) as cache:
        prepare(TASK, raw, settings, out, stages, cache=cache)
        stages.end()
        cache.forget_unused()
    draw(folder / "more", size, MORE)
    stages("take in 100 more")
    with Cache(known) as cache:
        take_in(TASK, folder / "more", raw, settings, out, cache=cache)
    stages("prepare with 100 more")
    with Cache(known) as cache:
        prepare(TASK, raw, settings, out, cache=cache)
        cache.forget_unused()
    stages("prepare again")
    with Cache(known) as cache:
        prepare(TASK, raw, settings, out, cache=cache)
    stages.end()
    disk = sum(path.stat().st_size for path in out.rglob("*") if path.is_file())
    kept = known.stat().st_size
    print(f"{size}: dataset {disk / size / 1000:.1f} kB, cache {kept / size / 1000:.1f} kB an image on disk")
    write_json(folder / "figures.json", {"resumed": stages.resumed} | stages.found)


def draw(raw: Path, first: int, count: int) -> None:
    """Class folders of `count` images: noise with the spectrum of skin, and a darker spot of random outline."""
    for label in CLASSES:
        (raw / label).mkdir(parents=True, exist_ok=True)
    frequency = np.hypot(np.fft.fftfreq(SIDE)[:, None], np.fft.rfftfreq(SIDE))
    spectrum = 1 / np.maximum(frequency, 1 / SIDE) ** 1.2
    y, x = np.mgrid[:SIDE, :SIDE] / SIDE - 0.5
    for start in range(first, first + count, AT_ONCE):
        n = min(AT_ONCE, first + count - start)
        rng = np.random.default_rng([start, 7])
        texture = np.fft.irfft2(np.fft.rfft2(rng.standard_normal((n, SIDE, SIDE))) * spectrum, (SIDE, SIDE))
        texture /= texture.std(axis=(1, 2), keepdims=True)
        centre, size = rng.uniform(-0.15, 0.15, (2, n, 1, 1)), rng.uniform(0.15, 0.35, (n, 1, 1))
        spot = 1 / (1 + np.exp(25 * (np.hypot(x - centre[0], y - centre[1]) - size - 0.06 * texture)))
        grey = 185 + 12 * texture - rng.uniform(40, 110, (n, 1, 1)) * spot
        colour = np.array([0.75, 0.85, 1.1])[None, None, None]  # blue, green, red, as OpenCV writes them
        images = np.clip(grey[..., None] * colour, 0, 255).astype(np.uint8)
        for k, image in enumerate(images, start=start):
            data = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, 92])[1]
            (raw / CLASSES[k % 3] / f"image{k:08}.jpg").write_bytes(data.tobytes())


def resident(what: str) -> float:
    """VmRSS or VmHWM of this process, in bytes."""
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(what))
    return float(line.split()[1]) * 1024


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "2")
    main()
