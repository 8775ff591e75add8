"""The inbox: every delivered batch starts exactly one run, whatever dies in between."""

from __future__ import annotations

import json
import os
import shutil

import dagster as dg
import pytest

from derm_ml.registry import get_task

pytestmark = pytest.mark.slow

TASK = get_task("lesion_classification")


@pytest.fixture
def look(definitions, instance, places):
    """One look of the sensor into the inbox; submits what it asks for as the daemon does: once for each run key."""
    sensor = definitions.resolve_sensor_def(f"{TASK.name}_new_images")
    state = {"cursor": None, "started": {}}

    def once(killed_before: str = "") -> list[str]:
        context = dg.build_sensor_context(instance=instance, cursor=state["cursor"], resources={"places": places})
        with context:
            result = sensor(context)
        if killed_before == "submission":
            return []
        for request in result.dynamic_partitions_requests:
            instance.add_dynamic_partitions(request.partitions_def_name, request.partition_keys)
        new = [r for r in result.run_requests if r.run_key not in state["started"]]
        state["started"] |= {r.run_key: r.partition_key for r in new}
        state["skipped"] = str(result.skip_reason)
        if killed_before != "cursor":
            state["cursor"] = result.cursor
        return [r.partition_key for r in new]

    once.state = state
    return once


def deliver(places, batch: str, text: str = "picture") -> None:
    folder = places.incoming(TASK) / batch / "nevus"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "a.jpg").write_text(text)


def test_a_batch_is_taken_once(look, places, instance):
    deliver(places, "monday")
    assert [look() for _ in range(4)] == [[], ["monday"], [], []]  # the first look only remembers it
    assert instance.get_dynamic_partitions(f"{TASK.name}_batches") == ["monday"]


@pytest.mark.parametrize("name", ["mon\nday", "mon...day", os.fsdecode(b"mon\xffday")])
def test_a_folder_whose_name_is_no_partition_key_is_named_and_holds_up_nobody(look, places, name):
    """One such name ended every look into the inbox: no delivery was taken any more."""
    deliver(places, name)
    deliver(places, "tuesday")
    assert [look(), look()] == [[], ["tuesday"]]
    look()
    assert "rename it" in look.state["skipped"]


def test_a_link_in_the_inbox_is_not_followed(look, places, tmp_path):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "a.jpg").write_text("of another study")
    places.incoming(TASK).mkdir(parents=True)
    (places.incoming(TASK) / "monday").symlink_to(tmp_path / "elsewhere")
    assert [look(), look()] == [[], []]
    assert "is a link; put the folder itself there" in look.state["skipped"]


def test_a_batch_that_is_still_being_copied_waits(look, places):
    """Half a batch would be a set with missing files."""
    deliver(places, "monday", "pic")
    assert look() == []
    deliver(places, "monday", "picture")
    assert look() == []
    assert look() == ["monday"]


@pytest.mark.parametrize("moment", ["submission", "cursor"])
def test_killed_at_any_moment_no_batch_is_lost_or_doubled(look, places, moment):
    deliver(places, "monday")
    look()
    look(killed_before=moment)
    for _ in range(3):
        look()
    assert sorted(look.state["started"].values()) == ["monday"]


def test_a_lost_cursor_starts_nothing_twice(look, places):
    deliver(places, "monday")
    look()
    look()
    look.state["cursor"] = None
    assert [look() for _ in range(3)] == [[], [], []]


def test_a_batch_that_was_mended_is_taken_again(look, places):
    """A batch that failed for a wrong list is corrected in place."""
    deliver(places, "monday")
    look()
    look()
    deliver(places, "monday", "a corrected picture")
    assert [look(), look()] == [[], ["monday"]]


def test_several_batches_at_once_each_get_a_run(look, places):
    for batch in ("a", "b", "c"):
        deliver(places, batch)
    look()
    assert look() == ["a", "b", "c"]


def test_empty_folders_and_hidden_ones_are_no_batches(look, places):
    (places.incoming(TASK) / "empty").mkdir(parents=True)
    deliver(places, ".partial")
    assert [look(), look()] == [[], []]


def test_a_batch_that_is_gone_leaves_the_cursor(look, places):
    """The cursor must not grow for years."""
    deliver(places, "monday")
    look()
    shutil.rmtree(places.incoming(TASK) / "monday")
    look()
    assert json.loads(look.state["cursor"]) == {}


def test_nothing_trains_by_itself_until_it_is_switched_on(definitions):
    schedule = definitions.resolve_schedule_def(f"{TASK.name}_weekly_retrain")
    assert schedule.default_status == dg.DefaultScheduleStatus.STOPPED
    assert schedule.cron_schedule == "0 3 * * 1"
