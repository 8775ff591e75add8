"""The whole platform on real images without a hand on it: four honest deliveries and three bad ones.

    python benchmarks/deliveries.py path/to/isic2017 OUT --off-topic path/to/other/photographs
        --set network.pretrained=bundled --set optimiser.epochs=6 …

An installation of its own in OUT: webserver, queue and daemon run, the automation of lesion_classification is on with
`promotion: automatic`, the service of the task follows its releases and is asked for an answer every second. The images
are cut at random into four deliveries; each is put into the inbox, and nothing is done until nothing runs any more:

    1 first        2 second       3 exchanged   a fifth of its labels exchanged
    4 third        5 again        test images under new names, turned by 15°, cropped and compressed anew
    6 fourth       7 off_topic    photographs of something else under the task's labels

At the end the champion is rolled back. OUT/report.md says what became of each, with the ledger's reasons; OUT/ keeps
everything else, and OUT/*.png are pages of the running platform.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cv2
import dagster as dg
import httpx
import numpy as np
import yaml

from derm_assets.instance import NAME, use_home, write_settings
from derm_assets.launching import Dagster, services
from derm_ml.data.dataset import Dataset
from derm_ml.places import PROJECT, installation
from derm_ml.promotion.ledger import Ledger
from derm_ml.records import Sample
from derm_ml.registry import get_task

TASK = get_task("lesion_classification")
FIRST = 0.4  # share of the images in the first delivery, which the test split is drawn from
SHARE = {"first": FIRST, "second": 0.17, "exchanged": 0.13, "third": 0.15, "fourth": 0.15}
ORDER = ("first", "second", "exchanged", "third", "again", "fourth", "off_topic")
AGAIN = 100  # test images that come again
QUIET = 45  # seconds without a run after which nothing more will come of a delivery
PATIENCE = 3600


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("images", type=Path, help="a folder lesion_classification reads, as downloaded")
    parser.add_argument("out", type=Path)
    parser.add_argument("--off-topic", type=Path, required=True, help="a folder of photographs of something else")
    parser.add_argument("--recipe", default="strong")
    parser.add_argument("--set", action="append", default=[], metavar="NAME=VALUE")
    given = parser.parse_args()
    values = {name: yaml.safe_load(text) for name, text in (value.split("=", 1) for value in given.set)}
    TASK.recipe(given.recipe, **values)  # refused before anything runs
    settle_in(given.out, {given.recipe: values})
    parts = cut(TASK.read(given.images, TASK.settings()).samples)
    with services(given.out / "dagster.log") as dagster, dg.DagsterInstance.get() as instance:
        automate()
        service = Service(given.out)
        log = [deliver(name, given, parts, instance, service) for name in ORDER]
        log.append(rolled_back(service))
        pictures(dagster, given.out)
        service.end()
    (given.out / "report.md").write_text("\n\n".join(log) + "\n", encoding="utf-8")


def settle_in(out: Path, recipe: dict[str, Any]) -> None:
    """Everything below `out`: data, models, registry, ledger, Bentos, Dagster's own state."""
    out.mkdir(parents=True)
    for name in ("data", "out", "home"):
        os.environ[f"DERM_{name.upper()}"] = str(out / name)
    write_settings(PROJECT / NAME, use_home())
    params = yaml.safe_load((PROJECT / "params.yaml").read_text(encoding="utf-8"))
    params["automation"] = {TASK.name: {"new_patients": 1, "look_every": 5, "promotion": "automatic", "recipe": recipe}}
    params["tasks"][TASK.name] |= {"test": 0.3}
    (out / "params.yaml").write_text(yaml.safe_dump(params), encoding="utf-8")


def automate() -> None:
    subprocess.run([sys.executable, "-m", "derm_assets.automate", TASK.name], check=True)


# --- deliveries -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Parts:
    """The samples of each delivery, and where their files lie."""

    samples: dict[str, list[Sample]]


def cut(samples: Sequence[Sample]) -> Parts:
    """At random, by a seed; splits of the publisher are not told on."""
    order = np.random.default_rng(0).permutation(len(samples))
    ends = np.round(np.cumsum(list(SHARE.values())) * len(samples)).astype(int)
    pieces = np.split(order, ends[:-1])
    return Parts({name: [samples[k] for k in piece] for name, piece in zip(SHARE, pieces, strict=True)})


def put(name: str, given: argparse.Namespace, parts: Parts) -> int:
    """Write a delivery beside the inbox and move it there whole; its number of images."""
    folder = given.out / "sent" / name
    rows = list(written(name, given, parts, folder))
    with (folder / "labels.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, ["filename", "label", "age", "sex"])
        writer.writeheader()
        writer.writerows(rows)
    inbox = installation().incoming(TASK.name)
    inbox.mkdir(parents=True, exist_ok=True)
    folder.rename(inbox / name)
    return len(rows)


def written(name: str, given: argparse.Namespace, parts: Parts, folder: Path) -> Iterator[dict[str, object]]:
    """The rows of a delivery's list, each after its image was written."""
    rng = np.random.default_rng(len(name))
    (folder / "images").mkdir(parents=True)
    if name == "again":
        dataset = Dataset.open(installation().prepared(TASK.name))
        for k, (_, row) in enumerate(dataset.split("test").sample(AGAIN, random_state=1).iterrows()):
            path = folder / "images" / f"clinic_{k:04}.jpg"
            turned = turned_and_cropped(cv2.cvtColor(dataset.image(row), cv2.COLOR_RGB2BGR), 15)
            cv2.imwrite(str(path), turned, [cv2.IMWRITE_JPEG_QUALITY, 85])
            yield {"filename": path.name, "label": row["label"]}
    elif name == "off_topic":
        found = [p for p in sorted(given.off_topic.rglob("*")) if p.suffix.lower() in (".jpg", ".jpeg", ".png")]
        for k in rng.choice(len(found), min(150, len(found)), replace=False):
            shutil.copyfile(found[k], folder / "images" / f"photo_{k}{found[k].suffix}")
            yield {"filename": f"photo_{k}{found[k].suffix}", "label": str(rng.choice(TASK.labels))}
    else:
        for sample in parts.samples[name]:
            path = given.images / sample.files["image"]
            shutil.copyfile(path, folder / "images" / path.name)
            label = sample.label
            if name == "exchanged" and rng.random() < 0.2:
                label = str(rng.choice([other for other in TASK.labels if other != label]))
            facts = {fact: sample.attributes.get(fact, "") for fact in ("age", "sex")}
            yield {"filename": path.name, "label": label, **facts}


def turned_and_cropped(image: np.ndarray, degrees: float) -> np.ndarray:
    """Turned about its centre, then cut to the largest square without an invented corner."""
    height, width = image.shape[:2]
    turn = cv2.getRotationMatrix2D((width / 2, height / 2), degrees, 1)
    turned = cv2.warpAffine(image, turn, (width, height), flags=cv2.INTER_CUBIC)
    angle = np.deg2rad(degrees)
    side = int(min(height, width) / (np.cos(angle) + np.sin(angle)))
    top, left = (height - side) // 2, (width - side) // 2
    return turned[top : top + side, left : left + side]


# --- what becomes of them ---------------------------------------------------------------------------------------------


def deliver(name: str, given: argparse.Namespace, parts: Parts, instance: dg.DagsterInstance, service: Service) -> str:
    """Put one delivery into the inbox, wait until nothing runs any more, and say what became of it."""
    before, began = len(history()), time.monotonic()
    count = put(name, given, parts)
    wait(instance, name)
    service.follow()
    inbox = installation().incoming(TASK.name)
    rejected = inbox / "rejected" / f"{name}.txt"
    lines = [f"## {name}: {count} images, {time.monotonic() - began:.0f} s"]
    if rejected.exists():
        lines.append(f"Rejected: {rejected.read_text(encoding='utf-8').strip()}")
    else:
        data = Dataset.open(installation().prepared(TASK.name))
        sizes = data.manifest["split"].value_counts().to_dict()
        lines.append(f"Taken. Dataset {data.md5[:12]}: {sizes}; test split {data.split_hashes['test'][:12]}.")
    lines += [f"- {json.dumps(entry, ensure_ascii=False)}" for entry in history()[before:]]
    lines.append(service.said())
    said = "\n".join(lines)
    print(said, flush=True)
    return said


def wait(instance: dg.DagsterInstance, name: str) -> None:
    """Until the delivery left the inbox and, for a while, no run is queued or running."""
    inbox, deadline, quiet = installation().incoming(TASK.name), time.monotonic() + PATIENCE, time.monotonic()
    unfinished = [s for s in dg.DagsterRunStatus if s not in FINISHED]
    while time.monotonic() < deadline:
        busy = instance.get_runs(dg.RunsFilter(statuses=unfinished), limit=1)
        if busy or waits(instance, inbox / name):
            quiet = time.monotonic()
        elif time.monotonic() - quiet > QUIET:
            return
        time.sleep(1)
    raise SystemExit(f"{name}: something still runs after {PATIENCE} s; see {installation().out}")


FINISHED = (dg.DagsterRunStatus.SUCCESS, dg.DagsterRunStatus.FAILURE, dg.DagsterRunStatus.CANCELED)


def waits(instance: dg.DagsterInstance, batch: Path) -> bool:
    """Whether no run has looked at a delivery yet."""
    runs = instance.get_runs(dg.RunsFilter(tags={"batch": batch.name}))
    return not any(run.status in FINISHED for run in runs)


def history() -> list[dict[str, Any]]:
    return Ledger.of(installation(), TASK.name).entries()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


# --- the service ------------------------------------------------------------------------------------------------------


@dataclass
class Service:
    """The task's service as people run it, and a client that asks it once a second from the first release on."""

    out: Path
    port: int = field(default_factory=free_port)
    answers: list[tuple[float, str, str]] = field(default_factory=list)  # when, model version, what was answered
    failed: list[str] = field(default_factory=list)
    _process: subprocess.Popen[bytes] | None = None
    _ended: threading.Event = field(default_factory=threading.Event)

    def follow(self) -> None:
        """Start with the first release."""
        if self._process is not None or not (installation().home / "serving" / f"{TASK.name}.json").exists():
            return
        log = (self.out / "service.log").open("wb")
        command = [sys.executable, "-m", "serving", TASK.name, "--port", str(self.port)]
        self._process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT, start_new_session=True)
        data = Dataset.open(installation().prepared(TASK.name))
        image = cv2.cvtColor(data.image(data.split("test").iloc[0]), cv2.COLOR_RGB2BGR)
        asked = cv2.imencode(".png", image)[1].tobytes()
        self._until_ready()
        threading.Thread(target=self._ask, args=(asked,), daemon=True).start()
        time.sleep(3)

    def _until_ready(self) -> None:
        for _ in range(120):
            if self._process is None or self._process.poll() is not None:
                break
            try:
                if httpx.get(f"http://127.0.0.1:{self.port}/readyz", timeout=5).status_code == 200:
                    return
            except httpx.TransportError:
                pass
            time.sleep(1)
        raise SystemExit(f"the service is not ready; see {self.out / 'service.log'}")

    def _ask(self, image: bytes) -> None:
        headers = {"Content-Type": "image/png"}
        while not self._ended.wait(1):
            try:
                reply = httpx.post(f"http://127.0.0.1:{self.port}/predict", content=image, headers=headers, timeout=60)
                told = reply.raise_for_status().json()
                told.pop("prediction_id", None)
                self.answers.append((time.monotonic(), told["model_version"], json.dumps(told, sort_keys=True)))
            except (httpx.HTTPError, ValueError, KeyError) as error:
                self.failed.append(str(error))

    def said(self) -> str:
        versions = list(dict.fromkeys(version for _, version, _ in self.answers))
        return f"Service: {len(self.answers)} answers, {len(self.failed)} failed; models {', '.join(versions) or '–'}."

    def end(self) -> None:
        self._ended.set()
        if self._process is not None:
            self._process.terminate()
            self._process.wait(60)


def rolled_back(service: Service) -> str:
    """Withdraw the champion with `derm rollback`; how long until the running service answers as it did before."""
    earlier = {version: answer for _, version, answer in service.answers}
    now = service.answers[-1][1]
    began = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-m", "derm_ml.cli", "rollback", TASK.name, "--why", "to measure it"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    commanded = time.monotonic() - began
    said = f"## rollback\n{(done.stdout + done.stderr).strip()}\nThe command took {commanded:.1f} s."
    while done.returncode == 0 and time.monotonic() - began < 120:
        when, version, answer = service.answers[-1]
        if version != now:
            same = "byte for byte as before" if answer == earlier.get(version) else "otherwise than before"
            said += f" {when - began - commanded:.1f} s after it the service answered as {version}, {same}."
            break
        time.sleep(0.2)
    said = f"{said}\n{service.said()}"
    print(said, flush=True)
    return said


# --- pages ------------------------------------------------------------------------------------------------------------


@contextmanager
def browser() -> Iterator[Any]:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as found:
        own = os.environ.get("DERM_CHROMIUM") or shutil.which("chromium") or shutil.which("google-chrome")
        opened = found.chromium.launch(executable_path=own, args=["--no-sandbox"])
        yield opened.new_page(viewport={"width": 1440, "height": 900})
        opened.close()


def pictures(dagster: Dagster, out: Path) -> None:
    """Pages of Dagster's UI as they look now; and the latest report."""
    pages = {
        "runs": "/runs", "lineage": f"/asset-groups?groups={TASK.name}", "automation": "/automation",
        "champion": f"/assets/{TASK.name}/promoted_model", "evaluation": f"/assets/{TASK.name}/evaluation",
        "deliveries": f"/assets/{TASK.name}/incoming_batch", "conditions": f"/assets/{TASK.name}/model?view=automation",
        "checks": f"/assets/{TASK.name}/evaluation?view=checks",
    }  # fmt: skip
    with browser() as page:
        for name, path in pages.items():
            page.goto(f"{dagster.url}{path}")
            page.wait_for_timeout(6000)
            page.screenshot(path=str(out / f"ui_{name}.png"))
        reports = sorted(
            installation().models(TASK.name).glob("*/evaluation*/report.html"), key=lambda p: p.stat().st_mtime
        )
        if reports:
            page.goto(reports[-1].as_uri())
            page.screenshot(path=str(out / "ui_report.png"))


if __name__ == "__main__":
    main()
