"""Runs and steps as Jobs of Kubernetes, as `DERM_EXECUTOR=kubernetes` asks.

The cluster is a server that answers as Kubernetes' API does and runs what it is given here (test_remote_trainers.py);
Postgres is a real one. Skipped where dagster-k8s is not installed (`pip install 'derm-platform[kubernetes]'`).
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from http.server import ThreadingHTTPServer
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
import yaml

from derm_assets.executing import EXECUTOR
from derm_assets.resources.trainer import SETTING
from derm_ml.places import DAGSTER_STORAGE, PROJECT
from derm_ml.registry import get_task
from tests.derm_assets.test_remote_trainers import Api

TASK = get_task("lesion_classification")
RECIPE = {"epochs": 1, "side": 32, "workers": 1, "precision": "32-true"}
SHIPPED = PROJECT / "deploy" / "kubernetes" / "steps" / "dagster.yaml"


def shipped() -> dict[str, Any]:
    return yaml.safe_load(yaml.safe_load(SHIPPED.read_text(encoding="utf-8"))["data"]["dagster.yaml"])


def test_only_the_launcher_differs_from_the_projects_own_file():
    own = yaml.safe_load((PROJECT / "dagster.yaml").read_text(encoding="utf-8"))
    assert {**shipped(), "run_launcher": own["run_launcher"]} == own


@pytest.fixture(scope="module")
def cluster(slow, tmp_path_factory) -> Iterator[tuple[type[Api], Path]]:
    """A cluster, and the kubeconfig that leads to it."""
    pytest.importorskip("dagster_k8s", reason="pip install 'derm-platform[kubernetes]'")
    api = type("Api", (Api,), {"jobs": {}, "bodies": [], "asked": []})
    server = ThreadingHTTPServer(("127.0.0.1", 0), api)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    known = {
        "apiVersion": "v1", "kind": "Config", "current-context": "c",
        "clusters": [{"name": "k", "cluster": {"server": f"http://127.0.0.1:{server.server_port}"}}],
        "contexts": [{"name": "c", "context": {"cluster": "k", "user": "u"}}], "users": [{"name": "u", "user": {}}],
    }  # fmt: skip
    kubeconfig = tmp_path_factory.mktemp("cluster") / "kubeconfig"
    kubeconfig.write_text(yaml.safe_dump(known))
    yield api, kubeconfig
    for job in api.jobs.values():
        job.kill()
        job.wait()
    server.shutdown()
    server.server_close()


@pytest.fixture(scope="module")
def dagster_yaml(cluster) -> dict[str, Any]:
    """What deploy/ ships, for a Dagster outside the cluster."""
    settings = shipped()
    config = settings["run_launcher"]["config"]
    config |= {"load_incluster_config": False, "kubeconfig_file": str(cluster[1])}
    config["dagster_home"] = {"env": "DAGSTER_HOME"}
    return settings


@pytest.fixture(scope="module")
def operator(cluster, postgres):
    return {EXECUTOR: "kubernetes", SETTING: "subprocess", DAGSTER_STORAGE: f"{postgres}/dagster"}, {}


def test_a_run_and_each_of_its_steps_are_jobs_of_the_cluster(cluster, installation):
    api, _ = cluster
    TASK.draw(installation.places.raw(TASK) / "downloaded", 48, seed=1)
    run = installation.launch("dataset", "model", task=TASK.name, recipe={"drawn": RECIPE})
    installation.succeed(run)
    assert Path(installation.metadata(TASK.name, "model")["path"].value).exists()
    labels = [body["metadata"]["labels"] for body in api.bodies]
    assert [one["app.kubernetes.io/component"] for one in labels] == ["run_worker"] + 3 * ["step_worker"]
    assert [one["dagster/op"] for one in labels[1:]] == [
        f"{TASK.name}__{noun}" for noun in ("dataset", "data_rules", "model")
    ]
    for body in api.bodies:
        pod = body["spec"]["template"]["spec"]
        assert pod["securityContext"]["runAsNonRoot"] is True
        assert pod["containers"][0]["securityContext"]["capabilities"] == {"drop": ["ALL"]}
        mounted = {mount["name"]: mount["mountPath"] for mount in pod["containers"][0]["volumeMounts"]}
        assert mounted.items() >= {"data": "/data", "tmp": "/tmp", "shm": "/dev/shm"}.items()
        assert {volume["name"] for volume in pod["volumes"]} == set(mounted)


def test_what_a_step_refuses_reaches_the_run(cluster, installation):
    if not (raw := installation.places.raw(TASK) / "downloaded").exists():
        TASK.draw(raw, 48, seed=1)
    wrong = {"drawn": {**RECIPE, "batch_size": 7, "devices": 2}}
    run = installation.launch("dataset", "model", task=TASK.name, recipe=wrong)
    assert installation.end(run) == dg.DagsterRunStatus.FAILURE
    assert "batch_size 7 cannot be dealt out evenly to 2 devices" in "\n".join(installation.said)
