"""Trainings that SLURM, Ray or Kubernetes run, as `DERM_TRAINER` asks.

None of them is on this machine: programs that behave as sbatch, srun, scancel and ray do, and a server that answers as
Kubernetes' API does to its own client, run what they are given.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import dagster as dg
import numpy as np
import psutil
import pytest
import yaml

from derm_assets.resources.kubernetes_jobs import KubernetesTrainer, filled
from derm_assets.resources.slurm import SlurmTrainer
from derm_assets.resources.trainer import SETTING, Trainer, trainer_from_environment
from derm_ml.bundles.bundle import Bundle
from derm_ml.jobs import Job
from derm_ml.places import KUBERNETES_JOB, RAY, SLURM
from derm_ml.registry import get_task
from derm_ml.sentences import WrongValue
from tests.training.test_devices import STEADY, TOLERANCE, first_weights, weights

TASK = get_task("lesion_classification")
EPOCHS = 20  # of a fraction of a second each: the first is told long before the last is over
MANIFEST = Path(__file__).parents[2] / "deploy" / "kubernetes" / "training" / "job.yaml"

# sbatch --parsable --wait: the job's number at once, its status at the end
SBATCH = """#!{python}
import os, subprocess, sys
from pathlib import Path
here, words = Path(__file__).parent, sys.argv[1:]
with (here / "calls").open("a") as calls:
    print("sbatch", *words, file=calls)
if "--partition=none" in words:
    sys.exit("sbatch: error: invalid partition specified: none")
output = Path(words[words.index("--output") + 1])
number = str(os.getpid())  # as good as another: of each job its own, since a port follows from it
with output.open("w") as file:
    streams = {"stdin": subprocess.DEVNULL, "stdout": file, "stderr": file}
    told = os.environ | {"SLURM_JOB_ID": number, "SLURM_CPUS_PER_TASK": "1"}
    job = subprocess.Popen(["sh", words[-1]], start_new_session=True, env=told, **streams)
(here / "job").write_text(str(job.pid))
(here / "number").write_text(number)
print(f"{number};cluster", flush=True)
sys.exit(job.wait() and 1)
"""
# srun: the command once a node, here all on this machine; where one fails the others end
SRUN = """#!{python}
import os, subprocess, sys, time
from itertools import takewhile
from pathlib import Path
options = list(takewhile(lambda word: word.startswith("--"), sys.argv[1:]))
with (Path(__file__).parent / "calls").open("a") as calls:
    print("srun", *options, file=calls)
[nodes] = [int(option.partition("=")[2]) for option in options if option.startswith("--ntasks=")]
tasks = []
for number in range(nodes):
    told = {"SLURM_NODEID": number, "SLURM_PROCID": number, "SLURM_LOCALID": 0, "SLURM_STEP_NUM_TASKS": nodes}
    own = os.environ | {name: str(value) for name, value in told.items()}
    tasks.append(subprocess.Popen(sys.argv[1 + len(options) :], env=own))
while any(task.poll() is None for task in tasks) and not any(task.poll() for task in tasks):
    time.sleep(0.1)
if "--kill-on-bad-exit=1" in options:
    for task in tasks:
        task.terminate()
sys.exit(max(bool(task.wait()) for task in tasks))
"""
SCANCEL = """#!{python}
import os, signal, sys
from pathlib import Path
here = Path(__file__).parent
with (here / "calls").open("a") as calls:
    print("scancel", *sys.argv[1:], file=calls)
number = here / "number"
if number.exists() and sys.argv[-1] == number.read_text():
    os.killpg(int((here / "job").read_text()), signal.SIGTERM)
    os.killpg(int((here / "job").read_text()), signal.SIGCONT)
"""

# ray job submit | stop | delete, as Ray 2.60 answers
RAY_PROGRAM = """#!{python}
import os, signal, subprocess, sys
from pathlib import Path
import yaml
here, verb, words = Path(__file__).parent, sys.argv[2], sys.argv[3:]
with (here / "calls").open("a") as calls:
    print(verb, *words, file=calls)
known = here / (words[words.index("--submission-id") + 1] if verb == "submit" else words[0])
if verb == "submit":
    passed = yaml.safe_load(Path(words[words.index("--runtime-env") + 1]).read_text())["env_vars"]
    command = words[words.index("--") + 1 :]
    job = subprocess.Popen(command, env=os.environ | passed, stdin=subprocess.DEVNULL, start_new_session=True)
    known.write_text(str(job.pid))
    sys.exit(job.wait() and 1)
if not known.exists():
    sys.exit(f"RuntimeError: Request failed with status code 404: Job {known.name} does not exist.")
if verb == "delete":
    known.unlink()
"""


@pytest.fixture
def slurm(tmp_path, monkeypatch) -> Path:
    """Programs in the place of SLURM's; the folder in which they note how they were called."""
    folder = tmp_path / "slurm"
    folder.mkdir()
    for name, text in (("sbatch", SBATCH), ("srun", SRUN), ("scancel", SCANCEL)):
        (folder / name).write_text(text.replace("{python}", sys.executable))
        (folder / name).chmod(0o755)
    monkeypatch.setenv("PATH", str(folder), prepend=os.pathsep)
    monkeypatch.setenv(SETTING, "slurm")
    monkeypatch.setenv(SLURM, "--partition=gpu --gres=gpu:1")
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    return folder


def fitted(trainer: Trainer, job: Job, on_epoch: Callable) -> dg.ExecuteInProcessResult:
    """The training as a step of Dagster has it done."""

    @dg.asset
    def model(context):  # unannotated: Dagster would look for the names of types in this module
        trainer.fit(context, job, on_epoch)
        return dg.MaterializeResult()

    with dg.DagsterInstance.ephemeral() as instance:
        return dg.materialize([model], instance=instance, raise_on_error=False)


def why(result: dg.ExecuteInProcessResult) -> str:
    [failure] = result.filter_events(lambda event: event.is_step_failure)
    error = failure.step_failure_data.error
    return f"{error.message} {error.cause.message if error.cause else ''}"


def job_of(dataset, folder: Path, **values) -> Job:
    settings = {"epochs": EPOCHS, "side": 32, "workers": 0, "precision": "32-true", **values}
    recipe = TASK.recipe("drawn", **settings)
    return Job(TASK.name, recipe, dataset.path, dataset.md5, folder)


@pytest.mark.slow
def test_slurm_trains_a_job_that_is_ended_with_its_run_goes_on_in_the_next(slurm, tinted_dataset, tmp_path):
    job, seen = job_of(tinted_dataset, tmp_path / "drawn-0"), []

    def cancel(report) -> None:
        if (job.folder / "checkpoint.safetensors").exists():
            os.killpg(int((slurm / "job").read_text()), signal.SIGSTOP)  # it must not finish before it is ended
            raise KeyboardInterrupt

    trainer = trainer_from_environment()
    assert isinstance(trainer, SlurmTrainer)
    assert not fitted(trainer, job, cancel).success
    assert not Path(f"/proc/{(slurm / 'job').read_text()}").exists(), "the job outlived its run"
    assert not (job.folder / "bundle").exists()
    assert fitted(trainer, job, lambda report: seen.append(report.epoch)).success
    assert (seen[-1], Bundle.open(job.folder / "bundle").card.recipe_name) == (EPOCHS, "drawn")
    assert seen[0] > 1, "it began anew"
    calls = (slurm / "calls").read_text().splitlines()
    assert [call.split()[0] for call in calls] == ["scancel", "sbatch", "scancel", "scancel", "sbatch"]
    named = "derm-lesion_classification-drawn-0"
    assert f"--partition=gpu --gres=gpu:1 --job-name {named} --dependency singleton" in calls[1]
    assert calls[0].endswith(f"--name {named}")  # what a run that was killed left behind
    assert not list(job.folder.glob(".job-*"))


@pytest.mark.slow
def test_two_machines_of_slurm_train_the_model_that_one_would_have_trained(slurm, tinted_dataset, tmp_path):
    """By settings alone. Each of them would have trained all of it, or waited for the other for ever."""
    epochs, made = [], {}
    for nodes in (1, 2):
        job = job_of(tinted_dataset, tmp_path / f"nodes-{nodes}", nodes=nodes, **STEADY)
        result = fitted(trainer_from_environment(), job, lambda report: epochs.append(report.epoch))
        assert result.success, why(result)
        made[nodes] = weights(job.folder)
    assert epochs == [1, 2, 1, 2]
    begun = first_weights(**STEADY)
    assert np.linalg.norm(made[2] - made[1]) < TOLERANCE * np.linalg.norm(made[1] - begun)
    asked = [call for call in (slurm / "calls").read_text().splitlines() if "scancel" not in call]
    assert [call.split()[0] for call in asked] == ["sbatch", "sbatch", "srun"]
    assert "--nodes" not in asked[0], "a job of one machine is asked for as before"
    assert "--nodes 2 --ntasks-per-node 1" in asked[1]
    assert asked[2] == "srun --nodes=2 --ntasks=2 --ntasks-per-node=1 --kill-on-bad-exit=1 --cpus-per-task=1"


def told_to_end(process: psutil.Process) -> bool:
    """Whether SIGTERM waits for a process that is suspended."""
    status = Path(f"/proc/{process.pid}/status").read_text()
    pending = int(status.partition("ShdPnd:")[2].split()[0], 16)
    return bool(pending >> signal.SIGTERM - 1 & 1)


@pytest.mark.slow
def test_a_machine_that_is_lost_ends_the_training_of_the_others_and_one_goes_on(slurm, tinted_dataset, tmp_path):
    """The other would hold its GPUs and wait. What ran on two machines goes on with one.

    The first process computes while the second is lost: SLURM and torchrun end it before it can notice by itself.
    """
    job, lost, seen = job_of(tinted_dataset, tmp_path / "drawn-0", nodes=2), [], []

    def lose(report) -> None:
        if not lost and (job.folder / "checkpoint.safetensors").exists():
            batch = psutil.Process(int((slurm / "job").read_text()))
            ranks = [one for one in batch.children(recursive=True) if "RANK" in one.environ()]
            first, second = sorted(ranks, key=lambda rank: rank.environ()["RANK"])
            lost.append(second)
            first.suspend()
            second.kill()
            deadline = time.monotonic() + 120
            while not told_to_end(first) and time.monotonic() < deadline:
                time.sleep(0.05)
            first.resume()

    said = why(fitted(trainer_from_environment(), job, lose))
    assert lost
    assert "process 1 of 2 was told to end: another one had failed, or the job was cancelled or out of time" in said
    assert "run it again to go on from the last checkpoint" in said
    assert not Path(f"/proc/{(slurm / 'job').read_text()}").exists()
    again = job_of(tinted_dataset, job.folder)
    assert fitted(trainer_from_environment(), again, lambda report: seen.append(report.epoch)).success
    assert (seen[0] > 1, seen[-1]) == (True, EPOCHS)


@pytest.mark.slow
def test_what_slurm_and_its_job_refuse_is_one_sentence(slurm, tinted_dataset, tmp_path, monkeypatch):
    other = Job(TASK.name, TASK.recipe("drawn"), tinted_dataset.path, "0" * 32, tmp_path / "drawn-1")
    said = why(fitted(trainer_from_environment(), other, print))
    assert f"the training is of {'0' * 32}" in said, "not the job's own sentence"
    monkeypatch.setenv(SLURM, "--partition=none")
    said = why(fitted(trainer_from_environment(), other, print))
    assert "SLURM took no job: sbatch: error: invalid partition specified: none" in said
    monkeypatch.setenv(SLURM, "--comment='open")
    assert "close every quote" in why(fitted(trainer_from_environment(), other, print))
    monkeypatch.setenv("PATH", "/nowhere")
    assert "sbatch is not on this machine" in why(fitted(trainer_from_environment(), other, print))


@pytest.mark.slow
def test_what_ray_and_its_job_refuse_is_one_sentence(slurm, tinted_dataset, tmp_path, monkeypatch):
    (slurm / "ray").write_text(RAY_PROGRAM.replace("{python}", sys.executable))
    (slurm / "ray").chmod(0o755)
    monkeypatch.setenv(SETTING, "ray")
    monkeypatch.setenv(RAY, "--entrypoint-num-gpus=1")
    monkeypatch.setenv("DERM_SECRET", "nobody else reads this secret of ours")
    other = Job(TASK.name, TASK.recipe("drawn"), tinted_dataset.path, "0" * 32, tmp_path / "drawn-1")
    name = "derm-lesion_classification-drawn-1"
    for _ in range(2):  # the second time the name is taken, by a job that has ended
        assert f"the training is of {'0' * 32}" in why(fitted(trainer_from_environment(), other, print))
    calls = (slurm / "calls").read_text()
    assert [call.split()[0] for call in calls.splitlines()] == ["stop", "submit", "stop", "delete", "submit"]
    assert f"submit --entrypoint-num-gpus=1 --submission-id {name} --runtime-env" in calls
    assert "nobody" not in calls
    (slurm / "ray").write_text("#!/bin/sh\necho 'ConnectionError: Failed to connect to Ray'; exit 1\n")
    said = why(fitted(trainer_from_environment(), other, print))
    assert f"`ray job stop {name}` failed, a job may still run: ConnectionError: Failed to connect" in said
    (slurm / "ray").unlink()
    monkeypatch.setenv("PATH", "/nowhere")
    assert r"pip install 'derm-platform[ray]'" in why(fitted(trainer_from_environment(), other, print))


# what the image of deploy/platform has on its path
PROGRAMS = {"python": [sys.executable], "dagster": [sys.executable, "-m", "dagster"]}


class Api(BaseHTTPRequestHandler):
    """What Kubernetes' API server answers about Jobs; the first container of a Job runs here."""

    jobs: dict[str, subprocess.Popen]
    bodies: list[dict]
    asked: list[str]

    def _answer(self, status: int, content: dict) -> None:
        data = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        name = body["metadata"]["name"]
        self.bodies.append(body)
        self.asked.append(f"POST {self.path}")
        if name in self.jobs:
            return self._answer(409, {"kind": "Status", "reason": "AlreadyExists"})
        container = body["spec"]["template"]["spec"]["containers"][0]
        own = {entry["name"]: entry["value"] for entry in container["env"] if "value" in entry}
        program, *words = container.get("command", []) + container["args"]
        command = [*PROGRAMS[program], *words]
        self.jobs[name] = subprocess.Popen(command, env=os.environ | own, stdin=subprocess.DEVNULL)
        return self._answer(201, body)

    def do_GET(self) -> None:
        if "/pods" in self.path:
            code = next(iter(self.jobs.values())).poll()
            state = {"terminated": {"exitCode": 128 - code if code < 0 else code, "reason": "OOMKilled"}}
            status = {
                "name": "training",
                "ready": False,
                "restartCount": 0,
                "image": "i",
                "imageID": "",
                "state": state,
            }
            return self._answer(200, {"kind": "PodList", "items": [{"status": {"containerStatuses": [status]}}]})
        name = self.path.split("/")[-2]
        if name not in self.jobs:
            return self._answer(404, {"kind": "Status", "reason": "NotFound"})
        code = self.jobs[name].poll()
        counted = {"active": 1} if code is None else {"succeeded": 1} if code == 0 else {"failed": 1}
        return self._answer(200, {"kind": "Job", "metadata": {"name": name}, "status": counted})

    def do_DELETE(self) -> None:
        self.asked.append(f"DELETE {self.path.partition('?')[0]}")
        if process := self.jobs.pop(self.path.partition("?")[0].split("/")[-1], None):
            process.kill()
            process.wait()
        self._answer(200, {"kind": "Status"})

    def log_message(self, *_: object) -> None:
        """Nothing into the test's output."""


@contextmanager
def answering(kubeconfig: Path) -> Iterator[type[Api]]:
    """A cluster that `kubeconfig`, which is written, leads to; its jobs end with it."""
    api = type("Api", (Api,), {"jobs": {}, "bodies": [], "asked": []})
    server = ThreadingHTTPServer(("127.0.0.1", 0), api)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    known = {
        "apiVersion": "v1", "kind": "Config", "current-context": "c",
        "clusters": [{"name": "k", "cluster": {"server": f"http://127.0.0.1:{server.server_port}"}}],
        "contexts": [{"name": "c", "context": {"cluster": "k", "user": "u"}}], "users": [{"name": "u", "user": {}}],
    }  # fmt: skip
    kubeconfig.write_text(yaml.safe_dump(known))
    yield api
    for job in api.jobs.values():
        job.kill()
        job.wait()
    server.shutdown()
    server.server_close()


@pytest.fixture
def cluster(slow, tmp_path, monkeypatch) -> Iterator[type[Api]]:
    """A cluster, which a kubeconfig leads to, and the manifest of deploy/ as the operator's."""
    pytest.importorskip("kubernetes", reason="pip install 'derm-platform[kubernetes]'")
    with answering(tmp_path / "kubeconfig") as api:
        for place in ("kubernetes.config.kube_config", "kubernetes.config"):
            monkeypatch.setattr(f"{place}.KUBE_CONFIG_DEFAULT_LOCATION", str(tmp_path / "kubeconfig"))
        monkeypatch.setenv(SETTING, "kubernetes")
        monkeypatch.setenv(KUBERNETES_JOB, str(MANIFEST))
        monkeypatch.setenv("OMP_NUM_THREADS", "1")
        monkeypatch.setenv("PYTHONPATH", str(MANIFEST.parents[3]))  # as the image of deploy/platform says
        yield api


@pytest.mark.slow
def test_kubernetes_trains_and_what_its_pod_died_of_is_said(cluster, tinted_dataset, tmp_path):
    job, seen = job_of(tinted_dataset, tmp_path / "drawn-0"), []
    where = "/apis/batch/v1/namespaces/derm/jobs"
    name = "derm-lesion-classification-drawn-0"

    def kill(report) -> None:
        os.kill(cluster.jobs[name].pid, signal.SIGKILL)

    trainer = trainer_from_environment()
    assert isinstance(trainer, KubernetesTrainer)
    assert f"the job {name} of Kubernetes failed (OOMKilled, status 137)" in why(fitted(trainer, job, kill))
    assert cluster.asked == [f"POST {where}", f"DELETE {where}/{name}"]
    cluster.jobs[name] = subprocess.Popen(["sleep", "600"])  # of a run that was killed and could not end it
    assert fitted(trainer, job, lambda report: seen.append(report.epoch)).success
    assert seen[-1] == EPOCHS
    assert Bundle.open(job.folder / "bundle").card.recipe_name == "drawn"
    assert cluster.asked[2:] == [f"POST {where}", f"DELETE {where}/{name}", f"POST {where}", f"DELETE {where}/{name}"]
    assert not cluster.jobs


def test_the_manifest_stays_the_operators_but_for_what_is_filled_in():
    template = yaml.safe_load(MANIFEST.read_text())
    body = filled(
        template, f"derm-lesion_classification-{'long-' * 20}", ["python", "-m", "x"], {"DERM_SAID": "/out/s"}
    )
    name = body["metadata"].pop("name")
    assert len(name) <= 63
    assert set(name) <= set("abcdefghijklmnopqrstuvwxyz0123456789-")
    before, after = (one["spec"]["template"]["spec"] for one in (template, body))
    container, was = after["containers"][0], before["containers"][0]
    assert was["env"][0] in container["env"], "a variable of the operator's is gone"
    assert {"name": "DERM_SAID", "value": "/out/s"} in container["env"]
    kept = {key: value for key, value in container.items() if key not in ("command", "args", "env")}
    assert kept.items() <= was.items()
    assert (body["spec"]["backoffLimit"], after["restartPolicy"]) == (0, "Never")
    assert template == yaml.safe_load(MANIFEST.read_text()), "the template itself was changed"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (None, "cannot be read"),
        ("kind: [", "cannot be read"),
        ("kind: Pod", "no manifest of a Job"),
        ("kind: Job\nmetadata: {}\nspec: {template: {spec: {containers: []}}}", "no manifest of a Job"),
        ("- Job", "no manifest of a Job"),
    ],
)
def test_a_manifest_that_is_none_is_named(tmp_path, text, said):
    path = tmp_path / "job.yaml"
    if text:
        path.write_text(text)
    trainer = KubernetesTrainer(manifest=str(path))
    with (
        pytest.raises(WrongValue, match=rf"DERM_KUBERNETES_JOB: .*job\.yaml.*{said}"),
        trainer.running("x", path, {}, "n"),
    ):
        pass
    with pytest.raises(WrongValue, match="let DERM_KUBERNETES_JOB name the manifest"):
        KubernetesTrainer().running("x", path, {}, "n").__enter__()


def test_a_trainer_whose_extra_is_missing_names_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "kubernetes", None)
    with pytest.raises(WrongValue, match=r"its client is not installed: pip install 'derm-platform\[kubernetes\]'"):
        KubernetesTrainer(manifest=str(MANIFEST)).running("x", MANIFEST, {}, "n").__enter__()
