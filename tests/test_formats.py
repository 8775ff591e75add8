"""What was written before must open, and what a newer version wrote must be refused with a sentence: a file that is
read with another meaning than it was written with gives wrong numbers that nobody notices."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from derm_ml import RESEARCH_USE, DermError, formats
from derm_ml.answered.table import records_below
from derm_ml.asking.pair import Pair
from derm_ml.bundles.bundle import Bundle
from derm_ml.bundles.input_gate import InputGate
from derm_ml.cards.statement import Statement
from derm_ml.data.dataset import Dataset
from derm_ml.data.deliveries import deliveries
from derm_ml.data.learned_ids import LearnedIds
from derm_ml.data.prepare import prepare
from derm_ml.embeddings.autoencoder import AutoencoderPredictor
from derm_ml.embeddings.extract import read_embeddings
from derm_ml.embeddings.similar import SimilarImages
from derm_ml.evaluation.comparison import compare, read_run
from derm_ml.evaluation.record import Evaluation
from derm_ml.evaluation.report import render
from derm_ml.files import sha256
from derm_ml.formats import FORMATS, VERSION, Format
from derm_ml.images.decode import INGEST_FORMATS, decode
from derm_ml.jobs import Job
from derm_ml.predictions.kept import About, read_kept
from derm_ml.promotion.ledger import Ledger, standing
from derm_ml.promotion.policy import Policy
from derm_ml.promotion.trial import Trial
from derm_ml.provenance import Provenance
from derm_ml.records import DataError
from derm_ml.registry import get_task
from derm_ml.shared import SharedPlace
from derm_ml.training.checkpoint import load_checkpoint, save_checkpoint
from derm_ml.training.pseudo_labels import read_pseudo_labels
from serving import golden, sessions
from serving.released import read_challenger, read_release, remembered_of, write_release

pytestmark = pytest.mark.slow  # imports torch

OLD = Path(__file__).parent / "fixtures" / "format_1"
MODEL = "out/lesion_classification/drawn-0"
TASK = "lesion_classification"
SECRET = "the secret of the files of format 1"  # what the ids in them are keyed with
EXPECTED = json.loads((OLD / "expected.json").read_text())
SHARED = next((OLD / "shared" / "contents").iterdir()).stem  # the hash by which its files are found
PREDICTED = f"{MODEL}/predictions/{EXPECTED['dataset_md5'][TASK][:12]}/test.parquet"


def stated(path: Path, version: object) -> None:
    """Let a JSON file say a version."""
    path.write_text(json.dumps({**json.loads(path.read_text()), VERSION: version}))


def stated_in_parquet(path: Path, version: object) -> None:
    table = pq.read_table(path)
    pq.write_table(table.replace_schema_metadata({**table.schema.metadata, VERSION.encode(): str(version)}), path)


def stated_in_checkpoint(path: Path, version: object) -> None:
    """Saved by a program of that version, so that its sha256 is right."""
    state = load_checkpoint(path, "af78163")
    with pytest.MonkeyPatch.context() as newer:
        newer.setattr(formats, "CHECKPOINT", replace(formats.CHECKPOINT, version=version))
        save_checkpoint(path, state)


def stated_in_last_line(path: Path, version: object) -> None:
    """A newer program has gone on with the ledger, in entries this one need not understand."""
    path.write_text(path.read_text() + json.dumps({VERSION: version, "what": "promoted"}) + "\n")


def stated_in_yaml(path: Path, version: object) -> None:
    path.write_text(f"{VERSION}: {version}\n" + path.read_text())


def stated_in_learned(path: Path, version: object) -> None:
    """And the card names the file as it is, so that the bundle is whole."""
    stated(path, version)
    card = path.with_name("bundle.json")
    told = json.loads(card.read_text())
    told["learned"]["sha256"] = sha256(path)
    card.write_text(json.dumps(told))


def stated_in_gate(path: Path, version: object) -> None:
    gate = InputGate.read(path)
    with pytest.MonkeyPatch.context() as newer:
        newer.setattr(formats, "INPUT_GATE", replace(formats.INPUT_GATE, version=version))
        gate.write(path.parent)


def predicted(root: Path) -> pa.Table:
    """The predictions kept of the test split."""
    dataset = Dataset.open(root / "dataset" / TASK)
    about = About.of("classifier", Bundle.open(root / MODEL / "bundle"), dataset, "test")
    return read_kept(root / PREDICTED, about, dataset.split("test")["id"].tolist())


@dataclass(frozen=True)
class File:
    """A file of the fixtures, what opens it as a user's command does, and how it says its version."""

    name: str
    open: Callable[[Path], Any]
    state: Callable[[Path, object], None] = stated


FILES: Mapping[str, File] = {
    "bundle": File(f"{MODEL}/bundle/bundle.json", lambda root: get_task(TASK).load(root / MODEL / "bundle")),
    "learned-from": File(
        f"{MODEL}/bundle/learned.json", lambda root: LearnedIds.of(Bundle.open(root / MODEL / "bundle")),
        stated_in_learned,
    ),
    "input-gate": File("input_gate.npz", lambda root: InputGate.read(root / "input_gate.npz"), stated_in_gate),
    "dataset": File("dataset/lesion_classification/dataset.json", lambda root: Dataset.open(root / "dataset" / TASK)),
    "evaluation": File(
        f"{MODEL}/evaluation_test/evaluation.json", lambda root: Evaluation.load(root / MODEL / "evaluation_test")
    ),
    "comparison": File(
        "comparison/comparison.json", lambda root: FORMATS["comparison"].read(
            json.loads((root / "comparison/comparison.json").read_text()), "comparison.json", DermError
        ),
    ),
    "predictions": File(PREDICTED, lambda root: predicted(root), stated_in_parquet),
    "embeddings": File(
        f"{MODEL}/embeddings/embeddings.parquet",
        lambda root: read_embeddings(root / MODEL / "embeddings/embeddings.parquet"), stated_in_parquet,
    ),
    "similar-images": File(
        f"{MODEL}/similar/index/index.json",
        lambda root: SimilarImages.open(root / MODEL / "similar/index", EXPECTED["classifier"]["version"]),
    ),
    "pseudo-labels": File(
        f"{MODEL}/pseudo_labels/audit.json",
        lambda root: read_pseudo_labels(
            root / MODEL / "pseudo_labels/pseudo_labels.csv", Dataset.open(root / "dataset" / TASK), 0.5, 0
        ),
    ),
    "checkpoint": File(
        f"{MODEL}/checkpoint.safetensors",
        lambda root: load_checkpoint(root / MODEL / "checkpoint.safetensors", "af78163"), stated_in_checkpoint,
    ),
    "delivery": File("raw/batches/april-0a1b2c3d/.intake", lambda root: deliveries(root / "raw")),
    "ledger": File("ledger.jsonl", lambda root: standing(Ledger(root / "ledger.jsonl").entries()), stated_in_last_line),
    "release": File(f"serving/{TASK}.json", lambda root: read_release(TASK)),
    "challenger": File(f"serving/{TASK}.challenger.json", lambda root: read_challenger(TASK)),
    "trial": File("trial/trial.json", lambda root: Trial.read(root / "trial")),
    "golden-answers": File(
        f"{MODEL}/golden.json",
        lambda root: golden.verify(
            get_task(TASK), get_task(TASK).load(root / MODEL / "bundle"), root / MODEL / "golden.json"
        ),
    ),
    "sessions": File(
        f"{MODEL}/sessions.json",
        lambda root: sessions.apply(get_task(TASK).load(root / MODEL / "bundle"), root / MODEL / "sessions.json"),
    ),
    "policy": File("policy.yaml", lambda root: Policy.of("malignancy_screening"), stated_in_yaml),
    "prediction-records": File(
        f"answered/{TASK}/2026-03-01-0a1b2c3d.jsonl", lambda root: records_below(root / "answered"),
        stated_in_last_line,
    ),
    "provenance": File("provenance.json", lambda root: Provenance.read(root)),
    "training-job": File("job.json", lambda root: Job.read(root / "job.json")),
    "shared-contents": File(
        f"shared/contents/{SHARED}.json", lambda root: SharedPlace(str(root / "shared")).fetch(SHARED, root / "fetched")
    ),
    "card-statement": File("card.yaml", lambda root: Statement.of(get_task(TASK)), stated_in_yaml),
    "card": File(
        f"{MODEL}/cards/model_card.json", lambda root: FORMATS["card"].read(
            json.loads((root / MODEL / "cards/model_card.json").read_text()), "model_card.json", DermError
        ),
    ),
}  # fmt: skip


@pytest.fixture
def old(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of what the last version without the table of formats wrote, where each opener looks for it."""
    root = shutil.copytree(OLD, tmp_path / "old")
    monkeypatch.setenv("DERM_SECRET", SECRET)
    monkeypatch.setenv("DERM_HOME", str(root))
    for module in ("promotion.policy", "cards.statement"):
        monkeypatch.setattr(f"derm_ml.{module}.files", lambda _: root)  # the folder a task's policy lies in
    audit = root / FILES["pseudo-labels"].name
    told = json.loads(audit.read_text())
    audit.write_text(json.dumps({**told, "teacher": str(root / MODEL / "bundle")}))
    return root


def test_no_format_is_forgotten():
    assert set(FILES) == set(FORMATS), "add the file of the new format to FILES, and to a script below tests/fixtures"


def test_no_version_is_said_or_read_anywhere_else():
    """A reader with a version of its own would be in no table, and no test would open its old files."""
    root = Path(__file__).parents[1]
    files = [path for package in ("derm_ml", "derm_assets", "serving") for path in (root / package).rglob("*.py")]
    alone = [path.name for path in files if VERSION in path.read_text(encoding="utf-8").lower()]
    assert alone == ["formats.py"], "let derm_ml/formats.py say and read the version of this file"


def test_the_changelog_lists_every_format_with_its_version():
    """People look there for what an upgrade does to their files."""
    text = (Path(__file__).parents[1] / "CHANGELOG.md").read_text(encoding="utf-8")
    rows = [line.split("|") for line in text.partition("### Formats")[2].splitlines() if line.startswith("| ")]
    listed = {name.split()[0]: row[2].strip() for row in reversed(rows) for name in row[1].split(", ") if name.strip()}
    assert {name: listed.get(name) for name in FORMATS} == {name: str(f.version) for name, f in FORMATS.items()}


@pytest.mark.parametrize("name", FORMATS)
def test_what_the_last_version_wrote_still_opens(old, name):
    FILES[name].open(old)


@pytest.mark.parametrize("name", FORMATS)
def test_what_a_newer_version_wrote_is_refused_in_a_sentence_that_says_what_to_do(old, name):
    file = FILES[name]
    file.state(old / file.name, 99)
    with pytest.raises(DermError) as refused:
        file.open(old)
    said = str(refused.value)
    assert f"has version 99 of the {name} format" in said
    assert Path(file.name).name in said
    assert str(FORMATS[name].version) in said.partition("this program reads")[2]
    assert "install a newer version of derm, or " in said


def test_models_of_the_last_version_answer_as_they_did(old):
    """Whoever installs a new version must get the numbers that were evaluated and promoted."""
    image, out = pixels("image"), old / "out"
    outputs = get_task(TASK).load(old / MODEL / "bundle")([image])
    mask = get_task("lesion_segmentation").load(out / "lesion_segmentation/drawn/bundle").segment([image])[0]
    coded = AutoencoderPredictor(out / TASK / "autoencoder/bundle")([image])
    task = get_task("persistent_conditions")
    matcher = task.load(out / task.name / "drawn/bundle")
    matched = task.numbers(task.answer(matcher, Pair(pixels("first"), pixels("second")), {}))
    was = EXPECTED["classifier"], EXPECTED["segmenter"], EXPECTED["autoencoder"], EXPECTED["pairs"]
    near = {"rtol": 0, "atol": 1e-5}
    np.testing.assert_allclose(outputs.probabilities[0], was[0]["probabilities"], **near)
    np.testing.assert_allclose(outputs.embedding[0], was[0]["embedding"], **near)
    np.testing.assert_allclose([(mask.mask > 0).sum(), mask.confidence], [was[1]["area"], was[1]["confidence"]], **near)
    np.testing.assert_allclose(coded.embedding[0], was[2]["embedding"], **near)
    assert coded.reconstruction.mean() == pytest.approx(was[2]["mean"], abs=1e-5)
    assert {name: float(value) for name, value in matched.items()} == pytest.approx(was[3], abs=1e-5)


def test_a_model_of_the_last_version_keeps_its_version_and_describes_its_graph(old):
    """Its version names it in the ledger and the registry: reading it must not make another model of it."""
    bundle = Bundle.open(old / MODEL / "bundle")
    assert bundle.version == EXPECTED["classifier"]["version"]
    assert bundle.card.research_use == RESEARCH_USE
    assert bundle.card.network_data_format is not None
    assert list(bundle.card.network_data_format["model.onnx"].outputs) == ["logits", "embedding", "maps"]


def test_data_of_the_last_version_are_the_same_data(old):
    for name, md5 in EXPECTED["dataset_md5"].items():
        dataset = Dataset.open(old / "dataset" / name)
        assert dataset.md5 == md5
        assert [dataset.image(row).shape[2] for row in dataset.manifest.to_dict("records")] == [3] * len(
            dataset.manifest
        )
    row = dataset.manifest.iloc[0]
    assert dataset.mask(row).shape == (row["mask.height"], row["mask.width"])


def test_evaluations_of_the_last_version_are_compared_and_recounted(old):
    """Promotion weighs a candidate of today against the champion's evaluation of yesterday."""
    runs = [read_run(old / "out" / TASK / name) for name in ("drawn-0", "drawn-1")]
    task, dataset = get_task(TASK), Dataset.open(old / "dataset" / TASK)
    assert compare(runs, task).rows[0].metric == task.primary_metric
    stored = runs[0].evaluation
    again = task.recount(Bundle.open(old / MODEL / "bundle").card, stored.predictions, dataset)
    assert stored.format_version == 1  # its intervals were others: promotion measures it again
    assert set(again) - set(stored.metrics) == {"ece_by_chance", "auc_worst_subgroup", "auc_widest_gap"}  # came later
    known = set(again) & set(stored.metrics)
    assert {n: again[n].value for n in known} == pytest.approx({n: stored.metrics[n].value for n in known})


def test_preparing_again_keeps_the_splits_of_an_old_dataset_and_stops_at_a_newer_one(old, tmp_path):
    """A split that is dealt anew lets test images into training, unnoticed."""
    task, raw, out = get_task(TASK), tmp_path / "raw", old / "dataset" / TASK
    before = Dataset.open(out)
    task.draw(raw, 24, 0)
    settings = task.settings(store_side=64)
    assert prepare(task, raw, settings, out).split_hashes == before.split_hashes
    stated(out / "dataset.json", 99)
    with pytest.raises(DataError, match=r"version 99 of the dataset format.*or remove it to create new splits"):
        prepare(task, raw, settings, out)


def test_nothing_is_written_behind_a_newer_ledger(old):
    """An older program would chain its lines to entries whose meaning it does not know."""
    path = old / "ledger.jsonl"
    stated_in_last_line(path, 99)
    before, ledger = path.read_bytes(), Ledger(path)
    with ledger.locked(), pytest.raises(DermError, match="install a newer version"):
        ledger.append({"event": "promoted", "version": 3})
    assert path.read_bytes() == before


def test_an_old_ledger_goes_on(old):
    ledger = Ledger(old / "ledger.jsonl")
    with ledger.locked():
        ledger.append({"event": "promoted", "version": 3, "model_version": "c0ffee000002"})
    now = standing(ledger.entries())
    assert (now.champion, now.earlier) == (3, ((2, "c0ffee000001"),))


def test_a_newer_release_file_is_not_written_over(old):
    """It may remember Bentos in a way this program does not see; a rollback could not release them again."""
    assert remembered_of(TASK, f"{TASK}:abc") == {"model_version": "c0ffee000000"}
    path = old / FILES["release"].name
    stated(path, 99)
    with pytest.raises(DermError, match="install a newer version"):
        write_release(TASK, f"{TASK}:ghi", {})
    assert json.loads(path.read_text())["bento"] == f"{TASK}:def"


def test_a_checkpoint_of_another_version_is_no_damaged_one(old):
    """Training would go on from the checkpoint before it and silently lose an epoch."""
    path = old / FILES["checkpoint"].name  # which becomes the one before
    stated_in_checkpoint(path, 99)
    with pytest.raises(DermError, match=r"version 99 of the checkpoint format.*or remove it, and training begins anew"):
        load_checkpoint(path, "af78163")


def test_the_command_line_answers_with_an_old_bundle_and_refuses_a_newer_one(old):
    def predicted() -> subprocess.CompletedProcess[str]:
        command = ["predict", TASK, str(old / "image.png"), "--model", str(old / MODEL), "--json"]
        return subprocess.run([sys.executable, "-m", "derm_ml.cli", *command], capture_output=True, text=True)

    answer = json.loads(predicted().stdout)
    wanted = EXPECTED["classifier"]["probabilities"]
    assert list(answer["probabilities"].values()) == pytest.approx(wanted, abs=1e-5)
    stated(old / MODEL / "bundle/bundle.json", 99)
    refused = predicted()
    assert refused.returncode == 2
    assert "bundle.json has version 99 of the bundle format" in refused.stderr.replace("\n", " ")
    assert "Traceback" not in refused.stderr


json_values = st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.lists(st.integers())


@given(json_values)
def test_whatever_stands_in_place_of_a_version_is_read_or_refused_in_one_sentence(version):
    known = Format("example", 3, "make it again", {2: lambda content: {**content, "from": 2}})
    file = {VERSION: version, "a": 1}
    if type(version) is int and version in (2, 3):
        assert known.read(file, "example.json", DermError) == ({"a": 1, "from": 2} if version == 2 else {"a": 1})
    else:
        with pytest.raises(DermError, match=r"^example\.json has version .*make it again$"):
            known.read(file, "example.json", DermError)


def test_each_step_is_taken_once_and_in_order():
    known = Format("example", 3, "", {1: lambda c: {**c, "way": [1]}, 2: lambda c: {**c, "way": [*c["way"], 2]}})
    assert known.read({}, "", DermError) == {"way": [1, 2]}, "without a version it is version 1"
    assert list(known.readable) == [1, 2, 3]
    assert known.stamped({"a": 1}) == {VERSION: 3, "a": 1}


def test_a_file_without_names_is_refused_in_a_sentence():
    with pytest.raises(
        DermError, match=r"example\.json is not readable in the dataset format: run `derm prepare` again"
    ):
        FORMATS["dataset"].read([1], "example.json", DermError)


def pixels(name: str) -> np.ndarray:
    return decode((OLD / f"{name}.png").read_bytes(), INGEST_FORMATS)


def test_counts_of_pairs_are_read_under_the_names_they_have_now(old):
    """A champion of persistent_conditions whose evaluation is of version 1 must be comparable with a new one."""
    folder = old / MODEL / "evaluation_test"
    table = pd.read_parquet(folder / "predictions.parquet")
    for name in ("right", "said", "there", "states_right", "states", "original.right"):
        table[name] = 3.0
    table.to_parquet(folder / "predictions.parquet", index=False)
    stored = json.loads((folder / "evaluation.json").read_text(encoding="utf-8"))
    stored["predictions_sha256"] = sha256(folder / "predictions.parquet")
    (folder / "evaluation.json").write_text(json.dumps(stored), encoding="utf-8")
    columns = set(Evaluation.load(folder).predictions.columns)
    assert {"n_matched", "n_predicted", "n_true", "n_states_correct", "n_states", "original.n_matched"} <= columns
    assert not {"right", "said", "there"} & columns


def test_a_report_of_the_last_version_says_what_was_not_recorded(old):
    """When, by whom and where it was trained stood nowhere: a page must not make it up, nor leave it out."""
    page = render(Evaluation.load(old / MODEL / "evaluation_test"))
    assert "Training time not recorded" in page
    assert page.count("<dd>not recorded</dd>") == 6  # measured and trained: when, where, how long, on how many images
