"""The champion looks at a delivery: one that would spoil the next model waits for a person, an honest one does not."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from derm_ml.data.deliveries import deliveries
from derm_ml.data.incoming import Look, RejectedBatch, take_in
from derm_ml.evaluation.review import reviewed
from derm_ml.registry import get_task
from derm_ml.synthetic.planted import plant

pytestmark = pytest.mark.slow  # a trained model answers

TASK = get_task("lesion_classification")
SETTINGS = TASK.settings()


@pytest.fixture
def raw(drawn_raw, tmp_path) -> Path:
    return shutil.copytree(drawn_raw, tmp_path / "raw" / "isic2017").parent


@pytest.fixture(scope="module")
def champion_looks(trained, drawn_dataset) -> Look:
    predictor = TASK.load(trained / "bundle")
    own = TASK.evaluate(predictor, drawn_dataset)
    return lambda trial, ids: reviewed(TASK, predictor, own, trial, ids)


@pytest.fixture
def delivered(tmp_path) -> Callable[..., Path]:
    """A delivery of 60 new synthetic lesions, with a fault or without."""

    def made(share: float = 0.0, faults: Sequence[str] = ()) -> Path:
        drawn = tmp_path / "drawn"
        TASK.draw(drawn, 60, seed=11)
        plant(TASK.read(drawn, SETTINGS), drawn, tmp_path / "planted", faults, share, 0, TASK.negative)
        batch = tmp_path / "incoming" / "monday"
        shutil.copytree(tmp_path / "planted", batch)
        (batch / "truth.csv").unlink(missing_ok=True)
        return batch

    return made


def test_an_honest_delivery_is_taken(delivered, raw, drawn_dataset, champion_looks):
    intake = take_in(TASK, delivered(), raw, SETTINGS, drawn_dataset.path, champion_looks)
    assert (intake.taken, intake.held_back) == (60, ())


@pytest.mark.parametrize(
    ("fault", "share", "said"),
    [
        ("off-topic", 1.0, r"the champion abstains from \d+ of the \d+ images"),
        ("label-noise", 0.5, r"the champion and the labels disagree: Mean AUC is 0\.\d+ \(.* on its own test split"),
    ],
)
def test_what_would_spoil_the_next_model_waits_for_a_person(
    fault, share, said, delivered, raw, drawn_dataset, champion_looks
):
    batch = delivered(share, [fault])
    with pytest.raises(RejectedBatch, match=said) as raised:
        take_in(TASK, batch, raw, SETTINGS, drawn_dataset.path, champion_looks)
    assert "--reviewed-by NAME" in str(raised.value)
    assert deliveries(raw) == []

    taken = take_in(TASK, batch, raw, SETTINGS, drawn_dataset.path, champion_looks, reviewed_by="Dr Ada Example")
    assert taken.taken == 60
    assert [d.reviewed_by for d in deliveries(raw)] == ["Dr Ada Example"]
