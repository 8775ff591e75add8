"""What one machine made, a later step finds on another, which has folders of its own: by name and hash."""

from __future__ import annotations

import shutil
from pathlib import Path

import dagster as dg
import pytest

from derm_assets.lineage import UpstreamError, found_again, latest
from derm_ml.places import SHARED, installation
from derm_ml.shared import SharedPlaceError

KEY = dg.AssetKey(["lesion_classification", "model"])


@pytest.fixture
def instance():
    with dg.DagsterInstance.ephemeral() as instance:
        yield instance


def on(machine: Path, monkeypatch) -> Path:
    """Let this process be another machine; the folder of a model there."""
    for name in ("data", "out", "home"):
        monkeypatch.setenv(f"DERM_{name.upper()}", str(machine / name))
    return machine / "out" / "lesion_classification" / "drawn-0"


def train(folder: Path, instance, content: str = "weights") -> None:
    (folder / "bundle").mkdir(parents=True, exist_ok=True)
    (folder / "bundle" / "bundle.json").write_text(content)
    (folder / "mlflow_run").write_text("0123")
    said = found_again(installation(), folder / "bundle", ["bundle", "mlflow_run"])
    instance.report_runless_asset_event(dg.AssetMaterialization(KEY, metadata=said))


def test_a_model_is_found_on_another_machine_and_is_the_one_that_was_made_last(instance, tmp_path, monkeypatch):
    monkeypatch.setenv(SHARED, str(tmp_path / "shared"))
    first = on(tmp_path / "first", monkeypatch)
    train(first, instance)
    shutil.move(tmp_path / "first", tmp_path / "elsewhere")  # no path of the first machine leads anywhere
    second = on(tmp_path / "second", monkeypatch)
    assert latest(instance, KEY).path == second / "bundle"
    assert (second / "bundle" / "bundle.json").read_text() == "weights"
    assert (second / "mlflow_run").read_text() == "0123"
    shutil.move(tmp_path / "elsewhere", tmp_path / "first")
    train(on(tmp_path / "first", monkeypatch), instance, "trained again")
    shutil.move(tmp_path / "first", tmp_path / "elsewhere")
    on(tmp_path / "second", monkeypatch)
    assert (latest(instance, KEY).path / "bundle.json").read_text() == "trained again"


def test_a_corrupt_object_is_refused_and_named(instance, tmp_path, monkeypatch):
    monkeypatch.setenv(SHARED, str(tmp_path / "shared"))
    train(on(tmp_path / "first", monkeypatch), instance)
    shutil.rmtree(tmp_path / "first")
    second = on(tmp_path / "second", monkeypatch)
    for item in (tmp_path / "shared" / "objects").iterdir():
        item.unlink()
        item.write_bytes(b"noise")
    with pytest.raises(SharedPlaceError, match=r"the file bundle/bundle\.json, is damaged"):
        latest(instance, KEY)
    assert not (second / "bundle").exists()


def test_a_common_disk_needs_no_shared_place_whatever_it_is_called(instance, tmp_path, monkeypatch):
    """Mounted elsewhere, the recorded path leads nowhere: the name below DERM_OUT does."""
    train(on(tmp_path / "first", monkeypatch), instance)
    shutil.move(tmp_path / "first", tmp_path / "mounted")
    mounted = on(tmp_path / "mounted", monkeypatch)
    assert latest(instance, KEY).path == mounted / "bundle"


def test_what_is_nowhere_is_said(instance, tmp_path, monkeypatch):
    train(on(tmp_path / "first", monkeypatch), instance)
    shutil.rmtree(tmp_path / "first")
    on(tmp_path / "second", monkeypatch)
    with pytest.raises(UpstreamError, match="is gone: materialise lesion_classification/model again"):
        latest(instance, KEY)
