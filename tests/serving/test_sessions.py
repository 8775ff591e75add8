"""How the cores are used is measured and stored, and changes no number."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from derm_ml.bundles import session as of
from derm_ml.bundles.bundle import BundleError
from derm_ml.bundles.classifier import Classifier
from derm_ml.bundles.session import Cores
from serving import sessions


@pytest.fixture
def images():
    rng = np.random.default_rng(5)
    return [rng.integers(0, 255, (40, 60, 3), np.uint8) for _ in range(6)]


def test_every_use_of_the_cores_says_the_same(trained, images):
    """What was evaluated on all cores is served beside other requests: it must be the same answer."""
    model = Classifier(trained / "bundle")
    expected = model(images).probabilities
    for choice in sessions.CHOICES:
        model.use(choice)
        with ThreadPoolExecutor(3) as pool:
            for found in pool.map(lambda _: model(images).probabilities, range(6)):
                np.testing.assert_allclose(found, expected, atol=1e-6)


def test_a_call_that_meets_another_one_runs_apart_and_one_alone_does_not(trained, images):
    model = Classifier(trained / "bundle")
    model.use(Cores(apart=True))
    used = []
    session = model._session
    for name in ("_all", "_single"):
        setattr(session, name, _Noted(getattr(session, name), name, used, model, images))
    model(images[:1])
    assert used == ["_all", "_single"]  # the second was asked while the first ran
    assert session._under_way == 0


class _Noted:
    """A session that asks the model once more while it runs."""

    def __init__(self, session, name, used, model, images):
        self.session, self.name, self.used, self.model, self.images = session, name, used, model, images

    def run(self, *given):
        self.used.append(self.name)
        if len(self.used) == 1:
            self.model(self.images[:1])
        return self.session.run(*given)


def test_views_in_one_run_are_the_views_one_after_another(trained, images, resealed, monkeypatch):
    """Several views of one image in one run are faster; of many images they would only take memory."""
    model = Classifier(resealed(trained / "bundle", views="d4"))
    together = model(images[:2])
    monkeypatch.setattr(of, "TOGETHER", 1)
    apart = model(images[:2])
    for name in ("logits", "probabilities", "embedding", "maps"):
        np.testing.assert_allclose(getattr(together, name), getattr(apart, name), atol=1e-5)


def test_the_choice_is_stored_with_what_was_measured_and_used_on_a_like_machine_only(bundle, tmp_path, monkeypatch):
    monkeypatch.setattr(sessions, "SECONDS", 0.01)
    path = tmp_path / "sessions.json"
    chosen = sessions.choose(Classifier(bundle), path)
    stored = json.loads(path.read_text())
    assert (stored["spinning"], stored["apart"]) == (chosen.spinning, chosen.apart)
    assert len(stored["measured"]) == len(sessions.CHOICES)
    assert stored["provider"] == "cpu"
    for other, used in (({}, True), ({"cores": stored["cores"] + 1}, False), ({"provider": "cuda"}, False)):
        path.write_text(json.dumps({**stored, "apart": True, **other}))
        model = Classifier(bundle)
        sessions.apply(model, path)
        assert (model._session._single is not None) is used


def test_a_spoilt_choice_is_named(bundle, tmp_path):
    (tmp_path / "sessions.json").write_text("{")
    with pytest.raises(BundleError, match="build the Bento again"):
        sessions.apply(Classifier(bundle), tmp_path / "sessions.json")
