"""Looks at the test split: whoever tries a hundred models on it finds one that is better there, by luck alone."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from scipy.stats import chi2, norm
from typer.testing import CliRunner

from derm_ml import cli
from derm_ml.evaluation.record import Evaluation
from derm_ml.metrics.classification import auc
from derm_ml.metrics.intervals import bootstrap, estimate
from derm_ml.metrics.metric import Metric
from derm_ml.promotion import CHAMPION, ModelVersion, transaction
from derm_ml.promotion.evidence import Evidence
from derm_ml.promotion.ledger import Ledger
from derm_ml.promotion.looks import AUTOMATION, Looked, Looks
from derm_ml.promotion.policy import Policy
from derm_ml.promotion.transaction import promote
from derm_ml.registry import get_task

TASK = get_task("malignancy_screening")
METRIC = TASK.primary_metric
CASES, SPLIT_HASH = 200, "split1"
NO_DATA = SimpleNamespace(trial=lambda *_: Path("no trial"))  # nothing else of the data is asked for here


@pytest.mark.parametrize(
    ("people", "automation", "reach"),
    [
        (1, 0, 1.96),
        (0, 1, 1.96),
        (0, 20, norm.isf(0.025 / 20)),
        (10, 0, np.sqrt(chi2.ppf(0.95, 10))),
        (10, 4, np.sqrt(chi2.ppf(1 - 0.05 / 5, 10))),
    ],
)
def test_the_interval_widens_with_every_model_and_more_where_a_person_looked(people, automation, reach):
    assert Looked(people, automation).reach == pytest.approx(reach, abs=1e-3)
    once = Looked(people, automation).reach
    assert min(Looked(people + 1, automation).reach, Looked(people, automation + 1).reach) > once or people == 0


def test_the_interval_holds_for_whatever_is_mixed_of_the_models_that_were_looked_at():
    """The best mixture of k models without merit lies beyond 1.96 standard deviations nearly always, beyond the widened
    interval in 1 of 20."""
    rng = np.random.default_rng(0)
    for k in (1, 5, 20):
        best = np.sqrt((rng.normal(size=(4000, k)) ** 2).sum(axis=1))
        assert (best > Looked(k).reach).mean() == pytest.approx(0.05, abs=0.011)


@pytest.fixture
def looks(tmp_path) -> Looks:
    return Looks(Ledger(tmp_path / "task.jsonl"))


def test_a_model_is_counted_once_a_split_whatever_its_calibration(looks, tmp_path):
    for network, version, how in (("n1", "m1", "evaluate"), ("n1", "m1b", "dry run"), ("", "m2", "promote")):
        looks.add("a", network, version, how)
    looks.add("b", "n1", "m1", "evaluate")
    looks.add("a", "n3", "m3", AUTOMATION)
    again = Looks(Ledger(tmp_path / "task.jsonl"))
    assert again.at("a") == Looked(2, 1)
    assert again.at("a", besides="n1") == Looked(1, 1)  # the champion is what the others are compared with
    assert again.at("b") == Looked(1, 0)
    assert again.at("never looked at") == Looked(1, 0)
    assert str(again.at("a")) == "3 models looked at on this test split, 1 of them by the automation"


def test_a_damaged_file_is_put_aside_and_what_can_be_read_stays_counted(looks, tmp_path):
    for name in "abc":
        looks.add("s", name, name, "evaluate")
    path = tmp_path / "task.looks.jsonl"
    lines = path.read_text().splitlines()
    path.write_text("\n".join([lines[0], lines[2]]) + "\n")
    looks.add("s", "d", "d", "evaluate")
    assert looks.at("s") == Looked(3, 0)
    assert (tmp_path / "task.looks.damaged-1.jsonl").exists()
    looks.add("s", "e", "e", "evaluate")
    assert looks.at("s") == Looked(4, 0)


def test_ledgers_older_than_the_count_and_a_file_that_was_removed_are_believed(looks, tmp_path):
    """Decisions that are in the ledger were looks, and a decision repeats how many there were before it."""
    ledger = Ledger(tmp_path / "task.jsonl")
    with ledger.locked():
        for name in "ab":
            ledger.append({"event": "refused", "evidence": {"split_hash": "s", "network": name}})
        ledger.append({"event": "refused"})
    assert looks.at("s") == Looked(2, 0)
    with ledger.locked():
        ledger.append({"event": "refused", "looked": {"people": 30, "automation": 2}, "evidence": {"split_hash": "s"}})
    assert looks.at("s") == Looked(30, 2)


# ---------------------------------------------------------- noise, tuned against the test split, through a promotion


class Drawn:
    """Versions whose predictions are drawn: `say(scores)` registers a model that says so of the test cases."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.aliases: dict[str, int] = {}
        self.evidence: dict[int, Evidence] = {}
        rng = np.random.default_rng(1)
        self.groups = np.array([f"patient {k // 2}" for k in range(CASES)])
        self.y = (rng.random(CASES) < 0.4).astype(float)

    def alias(self, task, alias) -> int | None:
        return self.aliases.get(alias)

    def point(self, task, alias, number) -> None:
        self.aliases = {k: v for k, v in (self.aliases | {alias: number}).items() if v is not None}

    def read(self, task, number) -> ModelVersion:
        return ModelVersion(number, self.folder / str(number), self.folder / str(number))

    def value(self, scores: np.ndarray) -> float:
        return estimate(auc, scores, self.y) or 0.0

    def say(self, scores: np.ndarray) -> int:
        number = len(self.evidence) + 1
        table = pd.DataFrame({"id": [str(k) for k in range(CASES)], "group": self.groups, "split": "test",
                              "p.malignant": scores, "target.malignant": self.y})  # fmt: skip
        value = self.value(scores)
        low, high = bootstrap(auc, self.groups, scores, self.y, n=100)
        facts = dict.fromkeys(("title", "model_version", "recipe_name", "git_commit", "dataset_md5"), "x")
        evaluation = Evaluation(**facts, task=TASK.name, recipe={}, split="test", split_hash=SPLIT_HASH, n=CASES,
                                n_patients=CASES // 2, labels=("malignant",), predictions=table,
                                metrics={METRIC: Metric(value, low, high, CASES)})  # fmt: skip
        (self.folder / str(number)).mkdir()
        evaluation.write(self.folder / str(number))
        name = f"model {number}"
        self.evidence[number] = Evidence(name, "strong", "d", SPLIT_HASH, "e", CASES, value, low, high, network=name,
                                         folder=str(self.folder / str(number)))  # fmt: skip
        return number


@pytest.fixture
def drawn(tmp_path, monkeypatch) -> Drawn:
    shelf = Drawn(tmp_path)

    def opened(path):
        return SimpleNamespace(version=f"model {path.name}", card=f"model {path.name}")

    monkeypatch.setattr(transaction, "evidence_of", lambda task, candidate, data: shelf.evidence[candidate.number])
    monkeypatch.setattr(transaction, "Bundle", SimpleNamespace(open_trusted=opened))
    monkeypatch.setattr(transaction, "network_of", lambda card: card)
    monkeypatch.setattr(
        "derm_ml.promotion.decision._champion_on", lambda task, champion, md5, data: shelf.evidence[champion.number]
    )
    return shelf


def best_of_many(drawn: Drawn, rng: np.random.Generator, said: list[np.ndarray]) -> np.ndarray:
    return rng.normal(size=CASES)


def climbing(drawn: Drawn, rng: np.random.Generator, said: list[np.ndarray]) -> np.ndarray:
    best = max(said, key=drawn.value, default=np.zeros(CASES))
    return best + rng.normal(size=CASES)


def mixing(drawn: Drawn, rng: np.random.Generator, said: list[np.ndarray]) -> np.ndarray:
    """Every other model is the mean of all before, each weighed by how much better than chance it was."""
    if len(said) % 2 == 0 or len(said) < 4:
        return rng.normal(size=CASES)
    return sum((drawn.value(scores) - 0.5) * scores / scores.std() for scores in said)  # type: ignore[return-value]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("tune", "honest"), [(best_of_many, 0.0), (best_of_many, 0.1), (climbing, 0.0), (mixing, 0.0), (mixing, 0.1)]
)
def test_of_a_hundred_noise_models_tuned_against_the_test_split_none_is_promoted(
    drawn, tmp_path, monkeypatch, tune: Callable[..., np.ndarray], honest: float
):
    """Read one by one, the last of them beat the champion beyond any doubt: AUC 0.8 on labels they know nothing of.

    `honest` is how much the champion knows of the labels; 0: there is no champion.
    """
    monkeypatch.setattr(Policy, "of", classmethod(lambda cls, task: Policy(floor=0.6, worse_by=0.02)))
    ledger, rng = Ledger(tmp_path / "screening.jsonl"), np.random.default_rng(2)
    if honest:
        drawn.aliases[CHAMPION] = drawn.say(honest * drawn.y + rng.normal(size=CASES))
        drawn.evidence[1] = replace(drawn.evidence[1], network="model 1")
        with ledger.locked():
            ledger.append({"event": "promoted", "version": 1, "model_version": "model 1", "network": "model 1"})
    said: list[np.ndarray] = []
    for _ in range(100):
        said.append(tune(drawn, rng, said))
        decision = promote(TASK, drawn.say(said[-1]), drawn, ledger, NO_DATA)
        assert not decision.promote, decision.reasons
    assert ledger.entries()[-1]["looked"] == {"people": 100, "automation": 0}


def test_an_honest_model_is_promoted_after_a_few_looks(drawn, tmp_path):
    ledger, rng = Ledger(tmp_path / "screening.jsonl"), np.random.default_rng(3)
    signal = 1.6 * drawn.y + rng.normal(size=CASES)
    for scores in (signal + 1.2 * rng.normal(size=CASES), rng.normal(size=CASES), rng.normal(size=CASES), signal):
        decision = promote(TASK, drawn.say(scores), drawn, ledger, NO_DATA)
    assert decision.promote
    assert "2.80 instead of 1.96 standard deviations: 3 models looked at on this test split" in decision.reasons[0]
    assert drawn.aliases[CHAMPION] == 4


@pytest.mark.slow
def test_derm_evaluate_counts_its_look_at_the_test_split_and_at_no_other(
    colour_models, tinted_dataset, tmp_path, monkeypatch
):
    monkeypatch.setenv("DERM_HOME", str(tmp_path / "home"))
    ledger = tmp_path / "home" / "ledger" / "lesion_classification.jsonl"
    model = shutil.copytree(colour_models["fair"], tmp_path / "model")
    for split, counted in (("validation", 0), ("test", 1), ("test", 1)):
        words = ["evaluate", "lesion_classification", str(model), "--data", str(tinted_dataset.path), "--split", split]
        result = CliRunner().invoke(cli.app, words)
        assert result.exit_code == 0, result.output
        assert len(Ledger(ledger.with_name("lesion_classification.looks.jsonl")).entries()) == counted
    assert Looks(Ledger(ledger)).at(tinted_dataset.split_hash("test")) == Looked(1)
