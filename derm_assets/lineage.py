"""What an upstream step made last, found in Dagster's own records by name and hash, on whichever machine it was made.

`path` in its metadata is where it lay on the machine that made it; `place` names it below DERM_OUT or DERM_DATA, which
each machine has its own of; `contents` are its files in the shared place, if one is set (derm_ml/shared.py). A dataset
is its version, which DVC's remote brings.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import dagster as dg

from derm_assets.resources.data_store import DataStore
from derm_assets.resources.places import Places
from derm_ml import DermError
from derm_ml.places import VARIABLES, Installation, installation
from derm_ml.registry import all_tasks
from derm_ml.shared import shared_place

_PLACE, _CONTENTS = "place", "contents"


class UpstreamError(DermError, RuntimeError):
    """An upstream asset was never materialised, or what it made is gone or does not belong to the others."""


@dataclass(frozen=True, slots=True)
class Upstream:
    """The latest materialisation of an asset: where its result lies, its data version, its other metadata."""

    path: Path
    version: str
    metadata: Mapping[str, Any]


def found_again(here: Installation, path: Path, parts: Sequence[str] = ()) -> dict[str, Any]:
    """Metadata by which `latest` finds what a step made, also from another machine.

    `parts` of the folder that `path` lies in are kept in the shared place, where there is one.
    """
    said: dict[str, Any] = {"path": dg.MetadataValue.path(path)}
    for name, folder in (("data", here.data), ("out", here.out)):
        if path.is_relative_to(folder):
            said[_PLACE] = f"{name}/{path.relative_to(folder).as_posix()}"
    if parts and (shared := shared_place()) is not None:
        said[_CONTENTS] = shared.send(path.parent, parts)
    return said


def latest(instance: dg.DagsterInstance, key: dg.AssetKey) -> Upstream:
    """Raises `UpstreamError` if there is none or if it is not to be had any more, and `SharedPlaceError` or
    `DataStoreError` if what the shared place or DVC's remote has of it is damaged."""
    name = key.to_user_string()
    event = instance.get_latest_materialization_event(key)
    if event is None or event.asset_materialization is None:
        raise UpstreamError(f"{name} was never materialised in this Dagster instance: materialise it first")
    found = event.asset_materialization
    metadata = {field: value.value for field, value in found.metadata.items()}
    version = (found.tags or {}).get("dagster/data_version", "")
    made = Path(str(metadata["path"]))
    path = made if made.exists() else _here(metadata, made)
    shared = shared_place()
    if shared is not None and _CONTENTS in metadata:
        shared.fetch(str(metadata[_CONTENTS]), path.parent)
    elif not path.exists() and key.path[-1] == "dataset" and key.path[0] in all_tasks():
        path = DataStore.from_environment(Places.from_environment()).version(all_tasks()[key.path[0]], version)
    if not path.exists():
        raise UpstreamError(f"{made}, which {name} made, is gone: materialise {name} again")
    return Upstream(path, version, metadata)


def _here(metadata: Mapping[str, Any], made: Path) -> Path:
    """Where this installation has what another one calls by the same name."""
    kind, _, rest = str(metadata.get(_PLACE, "")).partition("/")
    if kind not in VARIABLES or not rest or ".." in PurePosixPath(rest).parts:
        return made
    return getattr(installation(), kind) / rest
