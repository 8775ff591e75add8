"""`derm trace` as a process: from a prediction back to a delivery, and from a patient to the models that learned."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from derm_assets.packaging import built_of, release
from derm_assets.resources.datasets import evaluation_of
from derm_ml.answered.journal import Answered, Journal
from derm_ml.bundles.bundle import LEARNED, Bundle, seal
from derm_ml.registry import get_task

pytestmark = pytest.mark.slow

TASK = get_task("lesion_classification")
PREDICTION = "c962a05e2e054d8991d3f701bd6bfcaf"


@pytest.fixture
def derm(places):
    """`derm("trace", …)`: (exit code, stdout, stderr) of the command."""

    def run(*arguments: str) -> tuple[int, str, str]:
        own = {"DERM_DATA": places.data, "DERM_OUT": places.out, "DERM_HOME": places.home, "COLUMNS": "400",
               "MLFLOW_TRACKING_URI": "", "DERM_RECORDS": ""}  # fmt: skip
        command = [sys.executable, "-m", "derm_ml.cli", *arguments]
        done = subprocess.run(command, env={**os.environ, **own}, capture_output=True, text=True, check=False)
        return done.returncode, done.stdout, done.stderr

    return run


@pytest.fixture
def answered(registry, promotions, places, model) -> dict[str, str]:
    """A released champion that has answered about one image; the ids of the chain."""
    bundle = model("good")
    promotions.register(TASK, bundle, evaluation_of(bundle), {"dagster_run_id": "0da95c0f-run"})
    assert promotions.promote(TASK, bundle).promote
    card, version = Bundle.open(bundle).card, Bundle.open(bundle).version
    release(TASK.name, f"{TASK.name}:abc", built_of(version, "e" * 64))
    promotions.show(TASK)
    image = Path(places.out) / "photo.jpg"
    image.write_bytes(b"what a client sent")
    record = Answered(
        PREDICTION, TASK.name, version, card.dataset_md5, f"{TASK.name}:abc",
        (hashlib.sha256(image.read_bytes()).hexdigest(),), {"melanoma": 0.1}, predicted="nevus",
    )  # fmt: skip
    Journal(Path(places.home) / "answered" / TASK.name).append(record)
    run = str(registry.client.get_model_version(TASK.name, "1").run_id)
    return {"prediction": PREDICTION, "image": record.images[0], "bento": record.bento, "model": version, "number": "1",
            "dataset": card.dataset_md5, "run": run, "dagster": "0da95c0f-run", "commit": card.git_commit}  # fmt: skip


@pytest.mark.parametrize("end", ["prediction", "image", "dagster"])
def test_the_chain_is_walked_from_a_terminal(derm, answered, end):
    """A complaint names a prediction, an audit a run: each leads to all the others (by any id: tests/test_trace.py)."""
    code, said, why = derm("trace", TASK.name, answered[end])
    assert code == 0, why
    for name in ("bento", "model", "run", "dagster", "dataset", "commit"):
        assert answered[name] in said, name
    assert "champion, released" in said
    assert (PREDICTION in said) == (end != "dagster")


def test_deliveries_are_part_of_it(derm, answered, places):
    """A delivery turns out to be wrong: which models hold it, and how much did they answer?"""
    frozen = places.version(TASK, answered["dataset"]) / "dataset.json"
    info = json.loads(frozen.read_text()) | {"sources": {"batches/april-0a1b2c3d": 5, "first": 3}}
    frozen.unlink()  # a hard link into the prepared folder
    frozen.write_text(json.dumps(info))
    code, said, why = derm("trace", TASK.name, "april-0a1b2c3d")
    assert code == 0, why
    assert answered["model"] in said
    assert derm("trace", TASK.name, "may-0a1b2c3d")[0] == 2


def test_an_id_nobody_knows_is_one_sentence(derm, answered):
    code, said, why = derm("trace", TASK.name, "ffffffffffff")
    assert (code, said) == (2, "")
    assert "nothing here is called ffffffffffff" in why
    assert "Traceback" not in why
    assert derm("trace", TASK.name)[0] == 2
    assert derm("trace", TASK.name, "1", "--patient", "7")[0] == 2


def test_who_withdrew_consent_learns_which_models_know_them(derm, promotions, answered, model, tinted_dataset, places):
    """By an image file: it is stored re-encoded, and a model keeps only keyed ids."""
    learned = tinted_dataset.split("train").iloc[0]
    held_out = tinted_dataset.split("test").iloc[0]
    raw = Path(places.out) / "theirs.png"
    raw.write_bytes(tinted_dataset.read(learned))
    code, said, why = derm("trace", TASK.name, str(raw))
    assert code == 0, why
    assert "version 1, champion: learned from it" in said
    assert "no recorded prediction is about this file" in said
    raw.write_bytes(tinted_dataset.read(held_out))
    assert "version 1, champion: did not" in derm("trace", TASK.name, str(raw))[1]


def test_a_patient_is_found_however_the_id_was_typed(derm, answered, model, tinted_dataset, places):
    """A model that is not registered is asked too; one under another secret says that it cannot tell."""
    from derm_ml.data.learned_ids import learned_from

    rows = tinted_dataset.manifest.copy()
    rows.loc[tinted_dataset.split("train").index[0], "patient"] = "case 12"
    changed = type(tinted_dataset)(tinted_dataset.path, tinted_dataset.info, rows)
    bundle = model("fair")
    learned_from(changed).write(bundle)
    seal(bundle, Bundle(bundle, Bundle.open(model("good")).card).card.model_copy(update={"epochs": 2}))
    assert (bundle / LEARNED).is_file()
    said = derm("trace", TASK.name, "--patient", " Case  12")[1]
    assert f"{bundle.parent}, not registered: learned from it" in said
    assert "version 1, champion: did not" in said
    assert "not registered: did not" in derm("trace", TASK.name, "--patient", "case 13")[1]


def test_records_become_tables(derm, answered, places):
    code, said, why = derm("records", TASK.name)
    assert code == 0, why
    assert answered["model"] in said
    assert [path.suffix for path in (Path(places.home) / "answered" / TASK.name).iterdir()] in (
        [".parquet"],
        [".jsonl"],
    )
    assert "is recorded below" in derm("records", "retinal_findings")[1]
