"""When a training starts by itself: what is recorded in Dagster decides, not whether a tick was missed."""

from __future__ import annotations

import os
import subprocess
import sys
from datetime import UTC, datetime

import dagster as dg
import pytest
import yaml
from dagster import AssetCheckEvaluation

from derm_assets.assets import line
from derm_assets.automation_settings import Automation, AutomationError
from derm_assets.resources.data_store import DataStore
from derm_assets.resources.model_registry import ModelRegistry
from derm_assets.resources.places import Places
from derm_assets.resources.trainer import Trainer
from derm_ml.places import PROJECT
from derm_ml.promotion.ledger import Ledger
from derm_ml.registry import get_task
from derm_ml.training.code_version import training_code

pytestmark = pytest.mark.slow  # computes for long

TASK = get_task("lesion_classification")
RETRAINED = {"model", "evaluation", "registered_model", *(artifact.name for artifact in TASK.artifacts)}
DATASET, MODEL = (dg.AssetKey([TASK.name, noun]) for noun in ("dataset", "model"))


class Days:
    """An installation whose assets are as Dagster's records say; `look` is one look of the automation sensor."""

    def __init__(self, instance, root, dataset) -> None:
        self.instance, self.root, self.dataset, self.cursor = instance, root, dataset, None

    def set(self, **settings) -> None:
        text = yaml.safe_dump({"tasks": {TASK.name: {}}, "automation": {TASK.name: settings}})
        (self.root / "params.yaml").write_text(text)

    def look(self) -> set[str]:
        places = Places.from_environment()
        resources = {"places": places, "store": DataStore(places=places), "trainer": Trainer()}
        resources |= {"registry": ModelRegistry(places=places)}
        definitions = dg.Definitions.merge(line(TASK), dg.Definitions(resources=resources))
        result = dg.evaluate_automation_conditions(definitions, self.instance, cursor=self.cursor)
        self.cursor = result.cursor
        return {r.key.path[-1] for r in result.results if r.true_subset.size}

    def prepare(self, version: str) -> None:
        made = dg.AssetMaterialization(
            DATASET, metadata={"path": dg.MetadataValue.path(self.dataset.path)}, tags={"dagster/data_version": version}
        )
        self.instance.report_runless_asset_event(made)

    def check(self, **otherwise: dg.AssetCheckSeverity) -> None:
        for rule in (rule for rule in TASK.rules if rule.blocking):
            failed = otherwise.get(rule.name)
            self.instance.report_runless_asset_event(
                AssetCheckEvaluation(
                    asset_key=DATASET,
                    check_name=rule.name,
                    passed=failed is None,
                    severity=failed or dg.AssetCheckSeverity.ERROR,
                    metadata={},
                )
            )

    def train(self, dataset: str, code: str = "") -> None:
        made = dg.AssetMaterialization(
            MODEL,
            metadata={"path": dg.MetadataValue.path(self.dataset.path), "dataset_md5": dataset},
            tags={"dagster/data_version": "m", "dagster/code_version": code or training_code(TASK.name)},
        )
        self.instance.report_runless_asset_event(made)


@pytest.fixture
def days(instance, tmp_path, monkeypatch, drawn_dataset) -> Days:
    for name in ("data", "out", "home"):
        monkeypatch.setenv(f"DERM_{name.upper()}", str(tmp_path / name))
    made = Days(instance, tmp_path, drawn_dataset)
    made.set(new_patients=1)
    return made


def test_new_data_retrain_once_and_a_failed_training_is_not_repeated(days):
    """A training that fails for a reason would fail every half minute, all night."""
    assert days.look() == set()
    days.prepare("d1")
    assert days.look() == set(), "its checks did not run yet"
    days.check()
    assert days.look() == RETRAINED, "and nothing is promoted"
    assert [days.look(), days.look()] == [set(), set()]
    days.prepare("d2")
    days.check()
    assert days.look() == RETRAINED
    days.train("d2")
    assert days.look() == set()


def test_data_that_were_there_before_the_switch_count(days):
    """Whoever switches it on in the morning has last night's delivery trained."""
    days.prepare("d1")
    days.check()
    assert days.look() == RETRAINED


def test_a_red_check_holds_it_back_and_one_that_cannot_be_evaluated_does_not(days):
    name = next(rule.name for rule in TASK.rules if rule.blocking)
    days.prepare("d1")
    days.check(**{name: dg.AssetCheckSeverity.ERROR})
    assert days.look() == set()
    days.check(**{name: dg.AssetCheckSeverity.WARN})
    assert days.look() == RETRAINED


def test_few_patients_wait_for_more(days):
    days.set(new_patients=10_000)
    days.prepare("d1")
    days.check()
    assert [days.look(), days.look()] == [set(), set()]
    days.set(new_patients=1)
    assert days.look() == RETRAINED


def test_nothing_starts_beside_another_run_of_the_task(days):
    days.prepare("d1")
    days.check()
    other = days.instance.add_run(
        dg.DagsterRun("anything", status=dg.DagsterRunStatus.STARTED, tags={"task": TASK.name})
    )
    assert days.look() == set()
    days.instance.report_run_canceled(other)
    assert days.look() == RETRAINED


def test_new_code_retrains_only_where_it_is_wished(days):
    days.prepare("d1")
    days.check()
    days.train("d1", code="of last year")
    assert days.look() == set()
    days.set(on_new_code=True)
    assert days.look() == RETRAINED
    assert days.look() == set()
    days.train("d1")
    assert days.look() == set()


def test_drift_retrains_on_any_new_data_where_it_is_wished_and_once(days):
    """The images have changed: waiting for fifty patients means fifty answers by a model that no longer fits."""

    def looked(drifted: bool) -> None:
        metadata = {"path": str(days.root), "drifted": drifted, "verdict": "melanoma shifted"}
        days.instance.report_runless_asset_event(
            dg.AssetMaterialization(dg.AssetKey([TASK.name, "drift"]), metadata=metadata)
        )

    days.set(new_patients=10_000)
    days.train("d0")
    days.prepare("d1")
    days.check()
    looked(True)
    assert days.look() == set(), "off by default"
    days.set(new_patients=10_000, drift={"retrain": True})
    assert days.look() == RETRAINED
    days.train("d1")
    days.prepare("d2")
    days.check()
    assert days.look() == set(), "a model was trained since the look"
    looked(False)
    assert days.look() == set()
    looked(True)
    assert days.look() == RETRAINED


def test_a_day_of_records_is_looked_at_once_it_has_ended(days, monkeypatch):
    assert days.look() == set()
    monkeypatch.setenv("DERM_RECORDS", str(days.root / "answered"))
    assert days.look() == set(), "nothing was recorded"
    folder = days.root / "answered" / TASK.name
    folder.mkdir(parents=True)
    (folder / f"{datetime.now(UTC).date()}-01234567.jsonl").touch()
    assert days.look() == set(), "today goes on"
    (folder / "2026-01-05-01234567.jsonl").touch()
    assert days.look() == {"drift"}
    assert days.look() == set()
    (folder / "2026-01-06-01234567.parquet").touch()
    assert days.look() == {"drift"}


def test_automatic_promotion_goes_with_the_retraining(days):
    days.set(new_patients=1, promotion="automatic")
    days.prepare("d1")
    days.check()
    assert days.look() == {*RETRAINED, "promoted_model", "bento"}


def test_an_approval_is_acted_on_once(days):
    entry = {"event": "approved", "version": 3, "model_version": "aaa", "approved_by": "Dr Ada"}
    ledger = Ledger(days.root / "home" / "ledger" / f"{TASK.name}.jsonl")
    assert days.look() == set()
    with ledger.locked():
        ledger.append(entry)
    assert days.look() == {"promoted_model", "bento"}
    assert days.look() == set(), "a promotion whose process died is not repeated for ever"
    with ledger.locked():
        ledger.append({"event": "refused", "version": 3, "reasons": ["worse"]})
        ledger.append(entry)
    assert days.look() == {"promoted_model", "bento"}


def test_a_damaged_ledger_starts_nothing_and_stops_no_look(days):
    path = days.root / "home" / "ledger" / f"{TASK.name}.jsonl"
    with (ledger := Ledger(path)).locked():
        ledger.append({"event": "approved", "version": 3, "model_version": "aaa", "approved_by": "Dr Ada"})
        ledger.append({"event": "refused", "version": 4, "reasons": []})
    path.write_text(path.read_text().replace("Dr Ada", "Dr Bob"))
    assert days.look() == set()


@pytest.mark.parametrize(
    ("section", "said"),
    [
        ({TASK.name: {"new_patiens": 3}}, "did you mean 'new_patients'"),
        ({TASK.name: {"schedule": {"cron": "each monday"}}}, "schedule.cron: write five fields"),
        ({TASK.name: {"schedule": {"time_zone": "Europe/Atlantis"}}}, "zone of the IANA list"),
        ({TASK.name: {"recipe": "strongg"}}, "did you mean 'strong'"),
        ({TASK.name: {"recipe": {"strong": {"epochs": -1}}}}, "epochs: write 1 or more"),
        ({TASK.name: {"promotion": "always"}}, "'approval' or 'automatic'"),
        ({"lesion_clasification": {}}, "did you mean 'lesion_classification'"),
        ({TASK.name: {"drift": {"at_least": 0.9}}}, "at_least"),
        ([1], "write a line for each task"),
    ],
)
def test_a_wrong_setting_is_one_sentence(tmp_path, section, said):
    path = tmp_path / "params.yaml"
    path.write_text(yaml.safe_dump({"automation": section}))
    with pytest.raises(AutomationError, match=said) as refused:
        Automation.of(TASK, path)
    assert str(path) in str(refused.value)
    assert "\n" not in str(refused.value)


def test_the_documented_settings_are_read(tmp_path):
    """YAML reads some words as something else: a setting called `on` became `true`."""
    page = (PROJECT / "docs" / "automation.md").read_text(encoding="utf-8")
    (tmp_path / "params.yaml").write_text(page.split("```yaml\n")[1].split("```")[0], encoding="utf-8")
    found = Automation.of(TASK, tmp_path / "params.yaml")
    assert found.schedule.enabled
    assert found.model_copy(update={"schedule": Automation().schedule}) == Automation()


def test_a_wrong_setting_ends_the_server_with_a_sentence(tmp_path):
    (tmp_path / "params.yaml").write_text("automation: {lesion_classification: {days: never}}")
    command = [sys.executable, "-m", "derm_assets.webserver", "--port", "0"]
    variables = {"DERM_DATA": tmp_path / "data", "DERM_HOME": tmp_path, "DAGSTER_HOME": tmp_path, "PYTHONPATH": PROJECT}
    done = subprocess.run(
        command, env=os.environ | {k: str(v) for k, v in variables.items()}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert "days: write a number" in done.stderr
    assert "Traceback" not in done.stderr


def test_settings_of_before_there_was_automation_are_read(tmp_path):
    (tmp_path / "params.yaml").write_text("tasks: {}\n")
    assert Automation.of(TASK, tmp_path / "params.yaml") == Automation.of(TASK, PROJECT / "params.yaml")
