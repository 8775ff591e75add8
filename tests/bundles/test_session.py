"""One session runs every graph, where the setting says; a provider that is not there must never be guessed around."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnxruntime as ort
import pytest

from derm_ml.bundles import session
from derm_ml.bundles.bundle import BundleError
from derm_ml.bundles.providers import PROVIDER, ProviderError, chosen_provider, short_name
from derm_ml.bundles.session import Session


@pytest.fixture
def absent() -> str:
    """A provider of ONNX Runtime that this installation lacks."""
    there = {short_name(name) for name in ort.get_available_providers()}
    return next(short_name(name) for name in ort.get_all_providers() if short_name(name) not in there)


def test_the_cpu_is_the_default_and_the_case_of_a_name_does_not_matter(monkeypatch):
    monkeypatch.delenv(PROVIDER, raising=False)
    assert chosen_provider() == "CPUExecutionProvider"
    monkeypatch.setenv(PROVIDER, " CPU ")
    assert chosen_provider() == "CPUExecutionProvider"


def test_a_provider_that_would_send_images_elsewhere_cannot_be_chosen(monkeypatch):
    """ONNX Runtime names Azure among what is there in every build."""
    monkeypatch.setenv(PROVIDER, "azure")
    with pytest.raises(ProviderError, match="has cpu"):
        chosen_provider()


def test_a_provider_that_is_not_there_is_one_sentence_on_the_command_line(trained, absent):
    """Falling back to the CPU in silence would leave an operator waiting for a GPU that never works."""
    done = subprocess.run(
        [sys.executable, "-m", "derm_ml.cli", "predict", "lesion_classification", "no.png", "--model", str(trained)],
        env={**os.environ, PROVIDER: absent},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert f"{PROVIDER}={absent}: the installed ONNX Runtime has cpu" in " ".join(done.stderr.split())
    assert "Traceback" not in done.stderr


@pytest.mark.slow
def test_what_is_known_of_a_person_stays_with_their_image_in_every_view(tmp_path, monkeypatch):
    """All views of few images are one run: were ages laid out otherwise than squares, they would change owners."""
    from derm_ml.nets.classifier import ClassifierNetwork
    from derm_ml.training.export import export_classifier

    export_classifier(ClassifierNetwork("mobilenet_v3_small", 2, "none", attributes=4).eval(), 32, 4, tmp_path)
    opened = Session(tmp_path / "model.onnx")
    rng = np.random.default_rng(0)
    squares = rng.integers(0, 255, (2, 32, 32, 3), np.uint8)
    known = {"attributes": rng.normal(0, 3, (2, 4)).astype(np.float32)}
    assert session.TOGETHER >= 2 * 8
    together = [logits for (logits,) in opened.run_views(["logits"], squares, "d4", known)]
    monkeypatch.setattr(session, "TOGETHER", 1)
    apart = [logits for (logits,) in opened.run_views(["logits"], squares, "d4", known)]
    np.testing.assert_allclose(together, apart, atol=1e-5)
    swapped = {"attributes": known["attributes"][::-1].copy()}
    assert np.abs(opened.run_views(["logits"], squares, "none", swapped)[0][0] - apart[0]).max() > 1e-3  # they matter


def test_a_graph_that_is_none_is_a_bundle_error(tmp_path):
    path = Path(tmp_path / "model.onnx")
    path.write_bytes(b"no graph")
    with pytest.raises(BundleError, match=r"model\.onnx: the graph cannot be run"):
        Session(path)
