"""Deliveries as they come: the sensor finds them, runs of their own take them in, and a bad one stops no other."""

from __future__ import annotations

import csv
import os
import shutil
import subprocess
import sys
from pathlib import Path

import dagster as dg
import pytest

from derm_assets.assets import line
from derm_assets.resources.data_store import DataStore
from derm_assets.resources.model_registry import ModelRegistry
from derm_assets.resources.places import Places
from derm_assets.resources.trainer import Trainer
from derm_ml.data.dataset import Dataset
from derm_ml.places import PROJECT
from derm_ml.registry import get_task

pytestmark = pytest.mark.slow

TASK = get_task("malignancy_screening")


class Site:
    """An installation of its own, asked through its sensor and by runs in processes of their own."""

    def __init__(self, root: Path) -> None:
        self.places = Places(data=str(root / "data"), out=str(root / "out"), home=str(root / "home"))
        self.home = root / "home" / "dagster"
        self.home.mkdir(parents=True)
        shutil.copy(PROJECT / "dagster.yaml", self.home)
        self.environment = os.environ | {
            "DERM_DATA": self.places.data,
            "DERM_OUT": self.places.out,
            "DERM_HOME": self.places.home,
            "DAGSTER_HOME": str(self.home),
            "PYTHONPATH": str(PROJECT),
        }
        self.cursor: str | None = None

    def look(self) -> list[str]:
        """One look of the sensor; the partitions it asks runs for, which are made known to the instance."""
        resources = {
            "places": self.places,
            "store": DataStore(places=self.places),
            "trainer": Trainer(),
            "registry": ModelRegistry(places=self.places),
        }
        definitions = dg.Definitions.merge(line(TASK), dg.Definitions(resources=resources))
        sensor = definitions.resolve_sensor_def(f"{TASK.name}_new_images")
        with (
            dg.DagsterInstance.from_config(str(self.home)) as instance,
            dg.build_sensor_context(instance, self.cursor, resources={"places": self.places}) as context,
        ):
            result = sensor(context)
            self.cursor = result.cursor
            for request in result.dynamic_partitions_requests or []:
                instance.add_dynamic_partitions(request.partitions_def_name, list(request.partition_keys))
            return [request.run_key.split(":")[0] for request in result.run_requests or []]

    def launch(self, *arguments: str) -> tuple[bool, str]:
        """A run as `dg launch` starts it, and what it said."""
        done = subprocess.run(
            [Path(sys.executable).with_name("dg"), "launch", *arguments],
            cwd=PROJECT, env=self.environment, capture_output=True, text=True, check=False,
        )  # fmt: skip
        return done.returncode == 0, done.stdout + done.stderr

    def metadata(self, noun: str) -> dict:
        with dg.DagsterInstance.from_config(str(self.home)) as instance:
            event = instance.get_latest_materialization_event(dg.AssetKey([TASK.name, noun]))
            assert event is not None
            return {name: value.value for name, value in event.asset_materialization.metadata.items()}


@pytest.fixture
def site(tmp_path, monkeypatch) -> Site:
    made = Site(tmp_path)
    monkeypatch.setenv("DAGSTER_HOME", str(made.home))  # where its dagster.yaml puts Dagster's own database
    return made


def rewrite(batch: Path, change) -> None:
    """The list of a batch with every row changed by `change(number, row)`."""
    with (batch / "labels.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    with (batch / "labels.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(row | change(number, row) for number, row in enumerate(rows))


def test_good_bad_and_untidy_deliveries_each_end_as_they_should(site):
    """One list with a typing error blocked every later batch; a missing image destroyed the raw folder; a test
    patient's new image was trained on."""
    TASK.draw(site.places.raw(TASK) / "clinic", 48, seed=1)
    first = Dataset.open(DataStore(places=site.places).prepare(TASK).path)
    tested = first.split("test")["patient"].iloc[0]

    inbox = site.places.incoming(TASK)
    TASK.draw(inbox / "a-typo", 8, seed=2)
    rewrite(inbox / "a-typo", lambda k, row: {"label": "malignnat"} if k == 3 else {})
    TASK.draw(inbox / "b-untidy", 12, seed=3)  # patients of their own, but one of them is a test patient
    rewrite(
        inbox / "b-untidy",
        lambda k, row: {"patient_id": f" {tested.upper()} " if k == 4 else f"new {row['patient_id']}", "split": "test"},
    )
    (inbox / "b-untidy" / "images" / "lesion_00007.jpg").unlink()
    assert [site.look(), site.look(), site.look()] == [[], ["a-typo", "b-untidy"], []]

    done, said = site.launch("--job", f"{TASK.name}_prepare", "--partition", "a-typo")
    assert not done
    assert "labels.csv:5: unknown label 'malignnat'" in said
    assert (inbox / "rejected" / "a-typo" / "labels.csv").is_file()
    assert "unknown label 'malignnat'" in (inbox / "rejected" / "a-typo.csv").read_text()
    assert site.look() == []  # what was rejected is not asked for again

    done, said = site.launch("--job", f"{TASK.name}_prepare", "--partition", "b-untidy")
    assert done, said
    taken = site.metadata("incoming_batch")
    assert (taken["delivered"], taken["taken"], taken["held_back"]) == (12, 11, 1)
    assert "image lesion_00007.jpg is not there" in str(taken["left_out"])
    assert "(test): it must not be learned from" in str(taken["left_out"])
    second = Dataset.open(site.places.prepared(TASK))
    assert second.split_hashes["test"] == first.split_hashes["test"]
    assert len(second.manifest) == len(first.manifest) + 10
    assert tested not in set(second.split("train")["patient"]) | set(second.split("validation")["patient"])

    shutil.move(inbox / "rejected" / "a-typo", inbox / "a-typo")
    rewrite(inbox / "a-typo", lambda k, row: {"label": "malignant"} if k == 3 else {})
    assert [site.look(), site.look()] == [[], ["a-typo"]]

    config = f'{{"ops": {{"{TASK.name}_withdraw_batch": {{"config": {{"batch": "b-untidy"}}}}}}}}'
    done, said = site.launch("--job", f"{TASK.name}_withdraw", "--config-json", config)
    assert done, said
    assert "11 images of b-untidy were withdrawn" in said
    assert not list(site.places.raw(TASK).glob("batches/*"))
    assert len(list(site.places.withdrawn(TASK).glob("b-untidy-*"))) == 1


def test_a_rejected_batch_that_is_moved_back_unchanged_is_asked_for_again(site):
    """Perhaps a setting changed. Dagster starts no second run for the same key, so the key must be another."""
    inbox = site.places.incoming(TASK)
    TASK.draw(inbox / "monday", 4, seed=2)
    keys = []
    for _ in range(2):
        assert [site.look(), site.look()] == [[], ["monday"]]
        keys.append(site.cursor)
        (inbox / "rejected").mkdir(exist_ok=True)
        (inbox / "monday").rename(inbox / "rejected" / "monday")
        (inbox / "rejected" / "monday.txt").touch()
        assert site.look() == []
        (inbox / "rejected" / "monday").rename(inbox / "monday")
    assert keys[0] != keys[1]
