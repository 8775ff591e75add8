"""Several networks as one model: each must be what it would be alone, and a killed run must keep the finished ones."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
from safetensors.torch import load_file

from derm_ml.bundles.segmenter import Segmenter
from derm_ml.data.prepare import prepare
from derm_ml.nets.backbones import backbone
from derm_ml.nets.improved_unet import ImprovedUNet
from derm_ml.nets.segmenter import SegmenterNetwork
from derm_ml.nets.unet import UNet
from derm_ml.progress import silent
from derm_ml.registry import get_task

pytestmark = pytest.mark.slow

SMALL = {"side": 32, "epochs": 2, "workers": 0, "precision": "32-true", "members": 2, "seed": 5}
OWN = {"lesion_classification": {}, "lesion_segmentation": {"networks": ("unet", "improved_unet")}}


@pytest.fixture(scope="module", params=list(OWN))
def ensemble(request, tmp_path_factory):
    """Task, dataset, recipe and folder of a model with two members, and what was reported while it trained."""
    folder, task = tmp_path_factory.mktemp(request.param), get_task(request.param)
    task.draw(folder / "raw", 60, seed=1)
    dataset = prepare(task, folder / "raw", task.settings(), folder / "data")
    reports = []
    recipe = task.recipe("drawn", **SMALL, **OWN[task.name])
    task.fit(dataset, recipe, folder / "both", reports.append)
    return task, dataset, recipe, folder, reports


def test_two_members_answer_with_the_mean_of_what_each_says_alone(ensemble):
    task, dataset, recipe, folder, _ = ensemble
    for k in (0, 1):
        task.fit(dataset, recipe.member(k), folder / f"alone-{5 + k}", silent)
    images = [dataset.image(row) for _, row in dataset.split("test").head(4).iterrows()]
    both, first, second = (
        _logits(task.load(folder / name / "bundle"), images) for name in ("both", "alone-5", "alone-6")
    )
    assert np.abs(first - second).max() > 1e-3, "the members are the same network"
    np.testing.assert_allclose(both, (first + second) / 2, atol=1e-4)


def _logits(predictor, images):
    return predictor.seen(images)[0] if isinstance(predictor, Segmenter) else predictor(images).logits


@pytest.mark.parametrize("ensemble", ["lesion_segmentation"], indirect=True)
def test_the_members_are_the_networks_that_were_asked_for(ensemble):
    *_, folder, _ = ensemble
    weights = load_file(folder / "both/bundle/weights.safetensors")
    for k, network in enumerate((UNet("tf_efficientnet_lite0", "none"), ImprovedUNet(6))):
        found = {n.removeprefix(f"members.{k}."): w.shape for n, w in weights.items() if n.startswith(f"members.{k}.")}
        assert found == {n: w.shape for n, w in SegmenterNetwork(network).state_dict().items()}


def test_their_epochs_are_counted_on_and_all_reported(ensemble):
    *_, folder, reports = ensemble
    assert [(r.epoch, r.epochs) for r in reports] == [(1, 4), (2, 4), (3, 4), (4, 4)]
    history = json.loads((folder / "both/history.json").read_text(encoding="utf-8"))
    assert [r["epoch"] for r in history] == [1, 2, 3, 4]


def test_a_run_killed_during_the_last_member_keeps_the_finished_ones(ensemble, tmp_path):
    task, dataset, recipe, folder, _ = ensemble
    (tmp_path / "member-1").mkdir()
    shutil.copy(folder / "both/member-1/checkpoint.safetensors", tmp_path / "member-1")
    reports = []
    task.fit(dataset, recipe, tmp_path, reports.append)
    assert [r.epoch for r in reports] == [3, 4], "a finished member was trained again"
    made = "bundle/weights.safetensors"
    assert (tmp_path / made).read_bytes() == (folder / "both" / made).read_bytes()


@pytest.mark.parametrize("ensemble", ["lesion_classification"], indirect=True)
def test_another_training_may_start_from_the_first_member(ensemble):
    task, _, _, folder, _ = ensemble
    name = task.recipe("drawn").network.backbone
    features = backbone(name, str(folder / "both/bundle/weights.safetensors")).features
    fresh = backbone(name, "none").features
    assert features.state_dict().keys() == fresh.state_dict().keys()
