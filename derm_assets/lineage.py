"""What an upstream step made last, found in Dagster's own records: a path and a version, never a time of change."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import dagster as dg

from derm_ml import DermError


class UpstreamError(DermError, RuntimeError):
    """An upstream asset was never materialised, or what it made is gone or does not belong to the others."""


@dataclass(frozen=True, slots=True)
class Upstream:
    """The latest materialisation of an asset: where its result lies, its data version, its other metadata."""

    path: Path
    version: str
    metadata: Mapping[str, Any]


def latest(instance: dg.DagsterInstance, key: dg.AssetKey) -> Upstream:
    """Raises `UpstreamError` if there is none, or if its path does not exist any more."""
    name = key.to_user_string()
    event = instance.get_latest_materialization_event(key)
    if event is None or event.asset_materialization is None:
        raise UpstreamError(f"{name} was never materialised in this Dagster instance: materialise it first")
    found = event.asset_materialization
    metadata = {field: value.value for field, value in found.metadata.items()}
    path = Path(str(metadata["path"]))
    if not path.exists():
        raise UpstreamError(f"{path}, which {name} made, is gone: materialise {name} again")
    return Upstream(path, (found.tags or {}).get("dagster/data_version", ""), metadata)
