"""What is started from deploy/ is closed by default: nobody finds an open Dagster or a password in a file."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from derm_ml.asking.kinds import BATCH_BYTES

DEPLOY = Path(__file__).parents[2] / "deploy"
COMPOSE = yaml.safe_load((DEPLOY / "compose.yaml").read_text())
DOCKERFILES = sorted(DEPLOY.rglob("Dockerfile"))


@pytest.mark.parametrize("name", COMPOSE["services"])
def test_a_container_cannot_change_itself_or_gain_rights(name):
    service = COMPOSE["services"][name]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert "no-new-privileges:true" in service["security_opt"]


def test_only_the_proxy_is_reachable_from_other_machines():
    """Dagster and MLflow have no users of their own: whoever reaches them may do anything."""
    open_to_all = {
        name
        for name, service in COMPOSE["services"].items()
        if any(not str(port).startswith("127.0.0.1:") for port in service.get("ports", []))
    }
    assert open_to_all == {"proxy"}


def test_the_proxy_finds_the_service_and_lets_the_largest_request_through():
    """A request of 64 images that the service would answer must not end before it, with a page of the proxy's own."""
    said = (DEPLOY / "Caddyfile").read_text()
    (upstream,) = re.findall(r"reverse_proxy (\w+):3000", said)
    assert upstream in COMPOSE["services"]
    (most,) = re.findall(r"max_size (\d+)MB", said)
    assert int(most) * 10**6 > BATCH_BYTES


def test_dagster_is_never_started_without_its_guard():
    """A port of this machine is open to every page in its browser: unguarded, any of them could promote a model."""
    started = [
        file for file in DEPLOY.rglob("*") if file.is_file() and re.search(r"webserver|\bdg\b", file.read_text())
    ]
    assert started
    for file in started:
        assert not re.search(r"dagster-webserver|dagster-daemon|\bdg dev", file.read_text()), file
    assert COMPOSE["services"]["dagster"]["environment"]["DERM_DAGSTER_TOKEN"].startswith("${DERM_DAGSTER_TOKEN:?")


def test_no_password_stands_in_a_file():
    """A default that everybody knows is worse than a start that is refused."""
    text = (DEPLOY / "compose.yaml").read_text()
    for line in text.splitlines():
        if re.search("PASSWORD|SECRET|TOKEN(?!S_FILE)", line):
            assert re.search(r"\$\{\w+:\?", line), line
    example = (DEPLOY / "compose.env.example").read_text()
    given = re.findall(r"^(\w*(?:PASSWORD|TOKEN))=(.*)$", example, re.M)
    assert given == [("DERM_DAGSTER_TOKEN", ""), ("POSTGRES_PASSWORD", ""), ("OBJECT_STORE_PASSWORD", "")]


@pytest.mark.parametrize("file", DOCKERFILES, ids=lambda file: file.parent.name)
def test_an_image_has_no_compiler_and_no_root(file):
    text = file.read_text()
    assert "USER 10001:10001" in text.rpartition("FROM ")[2]
    assert "--only-binary=:all:" in text
    assert not re.search(r"build-essential|gcc|g\+\+|make\b", text)


def test_kubernetes_renders_into_restricted_pods():
    if not shutil.which("kubectl"):
        pytest.skip("kubectl is not on this machine")
    shown = subprocess.run(["kubectl", "kustomize", DEPLOY / "kubernetes"], capture_output=True, text=True, check=True)
    found = {document["kind"]: document for document in yaml.safe_load_all(shown.stdout)}
    labels = found["Deployment"]["spec"]["template"]["metadata"]["labels"]
    assert found["Service"]["spec"]["selector"].items() <= labels.items()
    pod = found["Deployment"]["spec"]["template"]["spec"]
    [container] = pod["containers"]
    assert pod["securityContext"]["runAsNonRoot"]
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True, "capabilities": {"drop": ["ALL"]},
    }  # fmt: skip
