"""The bytes behind a registered version: where they lie, that they are the ones its tags name, and how to mend them."""

from __future__ import annotations

import re
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlparse
from urllib.request import url2pathname

from derm_assets.resources.mlflow_client import RegistryError
from derm_assets.resources.places import Places
from derm_assets.resources.version_page import write_flavour
from derm_ml.bundles.bundle import Bundle
from derm_ml.evaluation.record import SUMMARY
from derm_ml.files import replacing_folder, sha256
from derm_ml.places import ARTIFACTS
from derm_ml.promotion import ModelVersion
from derm_ml.registry import get_task

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities.model_registry import ModelVersion as StoredVersion


@dataclass(frozen=True)
class StoredFiles:
    """The stored folders of a registry, as this machine sees them."""

    client: MlflowClient
    places: Places
    where: str  # the registry in words
    is_server: bool

    def readable(self, stored: StoredVersion) -> ModelVersion:
        """A stored version with the bytes its tags name. Tags are no paths: the folders follow from the hashes."""
        model_version = hexadecimal(stored, "model_version", 12)
        evaluation_sha256 = hexadecimal(stored, "evaluation_sha256", 64)
        run_id = hexadecimal(stored, "run_id", 32, str(stored.run_id))
        for tag, name in (("bundle", bundle_folder(stored)), ("evaluation", evaluation_folder(stored))):
            if stored.tags.get(tag, name) != name:
                raise RegistryError(
                    f"the tag `{tag}` of version {stored.version} says '{stored.tags[tag]}', its other tags {name}: "
                    "somebody changed it"
                )
        bundle, evaluation = (self.local(run_id, n) for n in (bundle_folder(stored), evaluation_folder(stored)))
        found = Bundle.open(bundle).version
        if found != model_version:
            raise RegistryError(f"{bundle} holds model {found}, version {stored.version} is model {model_version}")
        if not has_sha256(evaluation / SUMMARY, evaluation_sha256, 64):
            raise RegistryError(f"the evaluation of version {stored.version} was changed after it was registered")
        return ModelVersion(int(stored.version), bundle, evaluation)

    def local(self, run_id: str, folder: str) -> Path:
        """A stored folder on this machine: where it lies, or fetched once (its name says its content)."""
        stored = self._stored_folder(run_id, folder)
        if stored is not None:
            if not stored.is_dir():
                raise RegistryError(
                    f"{stored} is not on this machine: its bytes are gone, or were registered on another one, which "
                    f"needs an MLflow server or {ARTIFACTS}=s3://… to share them"
                )
            return stored
        fetched = self.places.here.fetched(run_id) / folder
        if not fetched.exists():
            with replacing_folder(fetched) as temporary:
                self.client.download_artifacts(run_id, folder, str(temporary))
                for item in (temporary / folder).iterdir():
                    item.rename(temporary / item.name)
                (temporary / folder).rmdir()
        return fetched

    def _stored_folder(self, run_id: str, folder: str) -> Path | None:
        """Where a folder of a run lies on this machine, below the run's own artifacts; None if a server keeps it."""
        place = urlparse(self.client.get_run(run_id).info.artifact_uri)
        if place.scheme == "mlflow-artifacts" and not self.is_server:
            raise RegistryError(
                f"the files of run {run_id} were stored through an MLflow server, and {self.where} is its database "
                "alone: let MLFLOW_TRACKING_URI name the server"
            )
        if place.scheme != "file":
            return None
        root = Path(url2pathname(str(place.path))).resolve()
        stored = root / folder
        if stored.exists() and stored.resolve() != stored:
            raise RegistryError(f"{stored} is a link to {stored.resolve()}, outside the artifacts of its run")
        return stored

    def put_back(self, run_id: str, copy: Path, folder: str) -> None:
        """Replace a stored folder by a verified copy: in place, or fetched anew from the server it is sent to again."""
        stored = self._stored_folder(run_id, folder)
        if stored is None:
            self.client.log_artifacts(run_id, str(copy), folder)
            stored = self.places.here.fetched(run_id) / folder
        with replacing_folder(stored) as temporary:
            shutil.copytree(copy, temporary, dirs_exist_ok=True)
            if folder.startswith("bundle-"):
                opened = Bundle.open(copy)
                write_flavour(get_task(opened.card.task), opened, temporary)


def hexadecimal(stored: StoredVersion, name: str, digits: int, value: str | None = None) -> str:
    """A tag (or another value) of a stored version that must be so many hexadecimal digits."""
    found = stored.tags.get(name, "") if value is None else value
    if not re.fullmatch(rf"[0-9a-f]{{{digits}}}", found):
        raise RegistryError(
            f"version {stored.version} of {stored.name} has the {name} '{found}', which is not {digits} hexadecimal "
            "digits: it was not registered by this platform, or changed later"
        )
    return found


def bundle_folder(stored: StoredVersion) -> str:
    return f"bundle-{hexadecimal(stored, 'model_version', 12)}"


def evaluation_folder(stored: StoredVersion) -> str:
    return f"evaluation-{hexadecimal(stored, 'evaluation_sha256', 64)[:12]}"


def has_sha256(path: Path, digest: str, digits: int) -> bool:
    """Whether a file has a sha256 that begins with so many digits."""
    return path.is_file() and sha256(path)[:digits] == digest
