"""Where a figure comes from must be said, must not change what it is about, and must not stop anybody if it is lost."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from derm_ml.model_folder import ModelFolder
from derm_ml.progress import EpochReport
from derm_ml.provenance import FILE, NOT_RECORDED, Made, Provenance, note_training, rows, trained_in

EPOCH = EpochReport(1, 2, 0.5, {"auc_mean": 0.8}, 1e-3, 30.5, 10.0, True)


def test_a_training_says_when_by_whom_where_and_how_long(tmp_path):
    """The time before a crash counts: the reports of all epochs are kept with the checkpoint."""
    model = ModelFolder(tmp_path)
    note_training(model, [EPOCH, replace(EPOCH, epoch=2)])
    found = trained_in(model)
    assert found.seconds == 61
    assert found.by
    assert " core" in found.machine
    assert len(json.loads(model.history.read_text())) == 2
    measured = Provenance.of(model, {"sizes": {"train": 3, "test": 2}})
    assert measured.trained == found
    told = rows(measured)
    assert told["Training time"] == "61 s"
    assert told["Images of the dataset"] == "train 3, test 2"
    assert NOT_RECORDED not in " ".join(told.values())


@pytest.mark.parametrize("stored", [None, "", "[]", "{", '{"measured": 3}', '{"measured": {"who": "x"}}'])
def test_what_is_lost_or_damaged_is_not_recorded(tmp_path, stored):
    """A model of before, or a note somebody cut: no number rests on it."""
    if stored is not None:
        (tmp_path / FILE).write_text(stored)
    assert Provenance.read(tmp_path) == Provenance()
    assert set(rows(Provenance()).values()) == {NOT_RECORDED}


def test_who_made_it_is_not_in_what_names_a_machine():
    """A report is sent on: it says what computed, not how the machine is called in the network."""
    import socket

    assert socket.gethostname() not in Made.now().machine
