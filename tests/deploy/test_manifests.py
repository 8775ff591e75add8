"""Manifests of Kubernetes against the classes of its own client: a field that is misspelt is dropped in silence."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml

KUBERNETES = Path(__file__).parents[2] / "deploy" / "kubernetes"
DOCUMENTS = [
    (path, document)
    for path in sorted(KUBERNETES.rglob("*.yaml"))
    if path.name != "kustomization.yaml"
    for document in yaml.safe_load_all(path.read_text())
]


def as_the_api_reads_it(document: dict[str, Any]) -> Any:
    """Raises `ValueError` for a field that is missing or has a value that its kind does not allow."""
    client = pytest.importorskip("kubernetes.client", reason="pip install 'derm-platform[kubernetes]'")
    group, _, version = document["apiVersion"].rpartition("/")
    assert (group, version) in {(g, "v1") for g in ("", "apps", "batch", "networking.k8s.io", "policy",
                                                    "rbac.authorization.k8s.io")}  # fmt: skip
    api = client.ApiClient()
    read = api.deserialize(SimpleNamespace(data=json.dumps(document)), f"V1{document['kind']}")
    return api.sanitize_for_serialization(read)


@pytest.mark.parametrize(("path", "document"), DOCUMENTS, ids=[f"{p.name}-{d['kind']}" for p, d in DOCUMENTS])
def test_every_field_is_one_that_kubernetes_knows(path, document):
    assert as_the_api_reads_it(document) == document


def test_a_misspelt_field_is_found():
    job = yaml.safe_load((KUBERNETES / "training" / "job.yaml").read_text())
    job["spec"]["template"]["spec"]["containers"][0]["volumeMount"] = [{"name": "data", "mountPath": "/data"}]
    assert as_the_api_reads_it(job) != job


def test_what_a_training_is_given_is_a_job_that_kubernetes_knows():
    from derm_assets.resources.kubernetes_jobs import filled

    template = yaml.safe_load((KUBERNETES / "training" / "job.yaml").read_text())
    body = filled(template, "derm-task-model", ["python", "-m", "derm_assets.fit_job", "job.json"], {"DERM_SAID": "x"})
    assert as_the_api_reads_it(body) == body


def test_a_training_fits_into_the_namespace_and_its_volumes():
    """The namespace admits restricted pods only, and a mount without its volume never starts."""
    pod = yaml.safe_load((KUBERNETES / "training" / "job.yaml").read_text())["spec"]["template"]["spec"]
    [container] = pod["containers"]
    assert {mount["name"] for mount in container["volumeMounts"]} == {volume["name"] for volume in pod["volumes"]}
    assert pod["securityContext"]["runAsNonRoot"]
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True, "capabilities": {"drop": ["ALL"]},
    }  # fmt: skip
    [claim] = [volume["persistentVolumeClaim"] for volume in pod["volumes"] if "persistentVolumeClaim" in volume]
    claimed = [d["metadata"]["name"] for _, d in DOCUMENTS if d["kind"] == "PersistentVolumeClaim"]
    assert claim["claimName"] in claimed


def test_nothing_beside_the_service_is_forgotten():
    listed = yaml.safe_load((KUBERNETES / "kustomization.yaml").read_text())["resources"]
    assert {path.name for path in KUBERNETES.glob("*.yaml")} == {*listed, "kustomization.yaml"}
