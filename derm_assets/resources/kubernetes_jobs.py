"""A training as a Job of Kubernetes, made from the operator's own manifest.

`DERM_KUBERNETES_JOB` names it (deploy/kubernetes/training/job.yaml is a beginning): image, volumes, resources and
secrets are the operator's; name, command and what the training has to know are filled in. DERM_DATA and DERM_OUT are
on a volume that the pod mounts under the same paths.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from copy import deepcopy
from pathlib import Path
from typing import Any

import yaml

from derm_assets.resources.trainer import LOOK_EVERY, Running, SeparateTrainer
from derm_ml.places import KUBERNETES_JOB, VARIABLES, installation
from derm_ml.sentences import WrongValue
from derm_ml.training.launcher import TrainingProcessError

PATIENCE = 300.0  # seconds for which the cluster may not answer while a training runs: an upgrade of its masters
_GONE = 404
_EXISTS = 409
_LONGEST = 63  # characters of a name that is also a label


class KubernetesTrainer(SeparateTrainer):
    """Trains in a Job of Kubernetes, one for each model folder at a time."""

    manifest: str = ""

    @contextmanager
    def running(self, module: str, job: Path, variables: Mapping[str, str], name: str) -> Iterator[Running]:
        """Raises `WrongValue` for a manifest that is none, `TrainingProcessError` where the cluster takes no job."""
        body = filled(self._template(), name, ["python", "-m", module, str(job)], variables)
        namespace = body["metadata"].get("namespace", "default")
        cluster = Cluster(namespace, name=body["metadata"]["name"])
        cluster.create(body)
        try:
            yield KubernetesJob(cluster)
        finally:
            cluster.delete()

    def _template(self) -> dict[str, Any]:
        if not self.manifest:
            raise WrongValue(f"DERM_TRAINER is kubernetes: let {KUBERNETES_JOB} name the manifest of a Job")
        path = Path(self.manifest)
        try:
            found = yaml.safe_load(path.read_text(encoding="utf-8"))
        except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
            raise WrongValue(f"{KUBERNETES_JOB}: {path} cannot be read ({str(error).splitlines()[0]})") from None
        try:
            assert found["kind"] == "Job"
            assert found["metadata"] is not None
            assert found["spec"]["template"]["spec"]["containers"][0]["image"]
        except (AssertionError, KeyError, IndexError, TypeError):
            raise WrongValue(
                f"{KUBERNETES_JOB}: {path} is no manifest of a Job with a container and an image"
            ) from None
        return found


def filled(template: Mapping[str, Any], name: str, command: list[str], variables: Mapping[str, str]) -> dict[str, Any]:
    """The manifest of one training: the first container runs `command`, once; variables of the template stay."""
    body: dict[str, Any] = deepcopy(dict(template))
    body["metadata"]["name"] = re.sub(r"[^a-z0-9-]+", "-", name.lower())[:_LONGEST].strip("-")
    body["spec"] |= {"backoffLimit": 0, "completions": 1, "parallelism": 1}  # whoever started it decides on another try
    pod = body["spec"]["template"]["spec"]
    pod["restartPolicy"] = "Never"
    here = installation()
    places = {variable: str(getattr(here, kind)) for kind, variable in VARIABLES.items()}
    ours = {**places, **variables}
    container = pod["containers"][0]
    kept = [entry for entry in container.get("env", []) if entry["name"] not in ours]
    container["command"], container["args"] = command, []
    container["env"] = [*kept, *({"name": key, "value": value} for key, value in ours.items())]
    return body


class Cluster:
    """One Job in the cluster that the pod's service account, or the kubeconfig, leads to."""

    def __init__(self, namespace: str, name: str) -> None:
        try:
            from kubernetes import client, config  # pyright: ignore[reportMissingImports]  # an extra
        except ImportError:
            raise WrongValue(
                "DERM_TRAINER is kubernetes, but its client is not installed: pip install 'derm-platform[kubernetes]'"
            ) from None
        try:
            config.load_config()  # pyright: ignore[reportAttributeAccessIssue]  # of this pod, else ~/.kube/config
        except config.ConfigException as error:
            raise TrainingProcessError(f"no Kubernetes cluster is known here: {error}") from None
        from urllib3.exceptions import HTTPError

        self.faults: tuple[type[Exception], ...] = (client.ApiException, HTTPError)
        self.name, self.namespace = name, namespace
        self._jobs, self._pods = client.BatchV1Api(), client.CoreV1Api()

    def create(self, body: Mapping[str, Any]) -> None:
        """Begin the job; one of the same name, of a run that was killed and could not end it, is ended first."""
        deadline = time.monotonic() + PATIENCE
        while True:
            try:
                self._jobs.create_namespaced_job(self.namespace, body)
                return
            except self.faults as error:
                if getattr(error, "status", 0) != _EXISTS or time.monotonic() > deadline:
                    raise TrainingProcessError(
                        f"Kubernetes took no job {self.name} in {self.namespace}: {said(error)}"
                    ) from None
            self.delete()
            time.sleep(LOOK_EVERY)

    def status(self) -> Any:
        return self._jobs.read_namespaced_job_status(self.name, self.namespace).status  # pyright: ignore

    def delete(self) -> None:
        """End and remove the job with its pod."""
        try:
            self._jobs.delete_namespaced_job(self.name, self.namespace, propagation_policy="Foreground")
        except self.faults as error:
            if getattr(error, "status", 0) != _GONE:
                raise TrainingProcessError(
                    f"the job {self.name} in {self.namespace} could not be removed and may still run: {said(error)}"
                ) from None

    def reason(self) -> str:
        """Why its pod ended: the container's state, such as OOMKilled."""
        try:
            # the client's own types allow None and worse here
            found: Any = self._pods.list_namespaced_pod(self.namespace, label_selector=f"job-name={self.name}")
        except self.faults as error:
            return said(error)
        pods: list[Any] = found.items
        states = [state.state for pod in pods for state in pod.status.container_statuses or []]
        ended = next((state.terminated for state in states if state and state.terminated), None)
        return f"{ended.reason or 'its container ended'}, status {ended.exit_code}" if ended else "its pod is gone"


class KubernetesJob(Running):
    """A job that is looked at until it has ended."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster, self._status, self._answered = cluster, None, time.monotonic()

    def ended(self) -> bool:
        time.sleep(LOOK_EVERY)
        try:
            self._status = self._cluster.status()
        except self._cluster.faults as error:
            if getattr(error, "status", 0) == _GONE or time.monotonic() - self._answered > PATIENCE:
                raise TrainingProcessError(
                    f"the job {self._cluster.name} in {self._cluster.namespace} cannot be seen any more: {said(error)}"
                ) from None
            return False
        self._answered = time.monotonic()
        return bool(self._status.succeeded or self._status.failed)

    def why(self) -> str:
        if self._status is not None and self._status.succeeded:
            return ""
        return (
            f"the job {self._cluster.name} of Kubernetes failed ({self._cluster.reason()}); run it again to go on from "
            "the last checkpoint, with more memory in its manifest where that was short"
        )


def said(error: Exception) -> str:
    """What the cluster or the network says, in one line."""
    return str(getattr(error, "reason", "") or error).strip().splitlines()[0]
