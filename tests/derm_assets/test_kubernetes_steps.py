"""Runs and steps as Jobs of Kubernetes, as `DERM_EXECUTOR=kubernetes` asks.

The cluster is a server that answers as Kubernetes' API does and runs what it is given here (test_remote_trainers.py);
Postgres is a real one. Skipped where dagster-k8s is not installed (`pip install 'derm-platform[kubernetes]'`).
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from derm_assets.executing import EXECUTOR
from derm_assets.resources.trainer import SETTING
from derm_ml.places import DAGSTER_STORAGE, PROJECT
from derm_ml.registry import get_task
from tests.derm_assets.test_remote_trainers import Api, answering

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
    kubeconfig = tmp_path_factory.mktemp("cluster") / "kubeconfig"
    with answering(kubeconfig) as api:
        yield api, kubeconfig


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
    installation.refuses_an_uneven_batch(TASK)
