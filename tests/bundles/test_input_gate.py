"""The input gate: a model that answers about any image calls a face a melanoma; one that refuses too much is no use."""

from __future__ import annotations

import json
import shutil
import zipfile
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from derm_ml.bundles.bundle import GATE, Bundle, BundleError, read_card, seal
from derm_ml.bundles.classifier import Classifier
from derm_ml.bundles.input_gate import InputGate
from derm_ml.images.statistics import statistics
from derm_ml.synthetic.lesions import draw_lesion
from derm_ml.training.input_gate import WANTED, GateImages, fit_gate

SIDE = 64
LABELS = ("melanoma", "nevus", "seborrheic_keratosis")


def lesions(n: int, seed: int = 0) -> list[np.ndarray]:
    return [draw_lesion(LABELS[k % 3], seed=seed + k, side=72, width=96).image for k in range(n)]


def seen(images: list[np.ndarray], seed: int = 0) -> GateImages:
    """With embeddings of a network whose features scatter around one direction."""
    rng = np.random.default_rng(seed)
    embeddings = np.linspace(1, 2, 16) + rng.normal(0, 0.1, (len(images), 16))
    return GateImages(np.stack([statistics(image) for image in images]), embeddings.astype(np.float32))


@pytest.fixture(scope="module")
def gate() -> InputGate:
    return fit_gate(seen(lesions(60)), seen(lesions(40, 1000), 1), SIDE)


@pytest.fixture(scope="module")
def usual() -> np.ndarray:
    return np.linspace(1, 2, 16, dtype=np.float32)[None]


def faulty() -> dict[str, np.ndarray]:
    lesion = lesions(1)[0]
    framed = np.zeros((400, 400, 3), np.uint8)
    framed[:150, :150] = cv2.resize(lesion, (150, 150))
    return {
        "too_small": cv2.resize(lesion, (12, 9)),
        "dark": (lesion * 0.05).astype(np.uint8),
        "blank": np.full_like(lesion, 160),
        "blurred": cv2.GaussianBlur(lesion, (0, 0), 6),
        "frame": framed,
    }


@pytest.mark.parametrize("name", faulty())
def test_what_is_wrong_with_an_image_is_named_and_there_is_no_decision(gate, usual, name):
    """The person with the camera must know what to do better."""
    (fit,) = gate.judge(statistics(faulty()[name])[None], usual)
    assert (fit.quality, fit.abstained) == (name, True)
    assert fit.abstained_because.isascii(), "it is drawn below heatmaps in a font without other letters"


def test_an_image_the_network_sees_nothing_known_in_is_unlike(gate, usual):
    (fit,) = gate.judge(statistics(lesions(1)[0])[None], usual[:, ::-1])
    assert (fit.quality, fit.abstained) == ("sufficient", True)
    assert fit.in_distribution is not None
    assert fit.in_distribution < 0.5
    assert "unlike" in fit.abstained_because


def test_an_image_that_stirs_the_network_otherwise_is_unlike_though_its_direction_is_usual():
    """At unit length alone, 3 of 10 retinas were answered by a model of lesions."""
    rng = np.random.default_rng(0)
    numbers = rng.normal(5, 1, (400, 30)).astype(np.float32)
    embeddings = (np.linspace(1, 2, 16) + rng.normal(0, 0.1, (400, 16))).astype(np.float32)
    gate = fit_gate(*(GateImages(numbers[part], embeddings[part]) for part in (slice(200), slice(200, 400))), SIDE)

    def unlike(much: float) -> float:
        fits = gate.judge(numbers[200:], much * embeddings[200:])
        return sum(fit.in_distribution < 0.5 for fit in fits) / len(fits)

    assert unlike(1) <= WANTED
    assert min(unlike(0.3), unlike(3)) > 0.8  # 0.02 without it


def test_images_of_the_task_are_answered(gate, usual):
    fits = gate.judge(np.stack([statistics(image) for image in lesions(60, 5000)]), np.repeat(usual, 60, axis=0))
    assert sum(fit.abstained for fit in fits) <= 3


@given(st.integers(2, 300), st.integers(0, 2**32 - 1))
def test_of_the_validation_images_no_more_are_unlike_than_was_wanted(n, seed):
    rng = np.random.default_rng(seed)
    numbers = rng.normal(5, 1, (n + 20, 30)).astype(np.float32)
    said = fit_gate(GateImages(numbers[:20]), GateImages(numbers[20:]), 16).judge(numbers[20:])
    assert sum(fit.in_distribution < 0.5 for fit in said) <= WANTED * n


def test_a_gate_reads_as_it_was_written_the_same_bytes_each_time(gate, usual, tmp_path):
    (tmp_path / "again").mkdir()
    gate.write(tmp_path)
    InputGate.read(tmp_path / GATE).write(tmp_path / "again")
    assert (tmp_path / GATE).read_bytes() == (tmp_path / "again" / GATE).read_bytes()
    numbers = statistics(lesions(1)[0])[None]
    assert InputGate.read(tmp_path / GATE).judge(numbers, usual) == gate.judge(numbers, usual)


def pickled(path: Path) -> None:
    np.savez(path, limits=np.array([print], dtype=object), about=np.array([{}], dtype=object))


def endless(path: Path) -> None:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as packed:
        packed.writestr("limits.npy", bytes(100 * 2**20))


def half(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-2000])


def without_threshold(path: Path) -> None:
    with np.load(path) as stored:
        arrays = {name: stored[name] for name in stored.files if name != "threshold"}
    np.savez(path, **arrays)


@pytest.mark.parametrize("spoil", [pickled, endless, half, without_threshold])
def test_a_file_that_is_no_gate_is_refused_and_nothing_in_it_is_run(gate, tmp_path, spoil):
    gate.write(tmp_path)
    spoil(tmp_path / GATE)
    with pytest.raises(BundleError, match=GATE):
        InputGate.read(tmp_path / GATE)


@pytest.fixture
def copied(trained, tmp_path) -> Path:
    return Path(shutil.copytree(trained / "bundle", tmp_path / "bundle"))


def test_a_trained_model_abstains_from_what_it_never_saw_and_answers_its_own_images(trained, drawn_dataset):
    """Black, noise and a face were `melanoma` with a probability near 1."""
    from derm_ml.synthetic.faces import draw_face

    classifier = Classifier(trained / "bundle")
    noise = np.random.default_rng(0).integers(0, 256, (144, 192, 3), np.uint8)
    others = [np.zeros((144, 192, 3), np.uint8), noise, draw_face(3), *faulty().values()]
    assert all(fit.abstained for fit in classifier.fitness(classifier(others)))
    own = [drawn_dataset.image(row) for row in drawn_dataset.split("test").to_dict("records")]
    assert sum(fit.abstained for fit in classifier.fitness(classifier(own))) <= 0.15 * len(own)


def test_the_gate_is_part_of_the_model(copied):
    """Who could exchange it could let a model answer about anything."""
    data = bytearray((copied / GATE).read_bytes())
    data[-1] ^= 1
    (copied / GATE).write_bytes(data)
    with pytest.raises(BundleError, match=r"input_gate\.npz: its sha256"):
        Bundle.open(copied)


def test_a_gate_that_was_put_there_later_is_refused(copied, tmp_path):
    gate = shutil.move(copied / GATE, tmp_path / GATE)
    seal(copied, read_card(copied))
    assert Classifier(copied).gate is None
    shutil.move(gate, copied / GATE)
    with pytest.raises(BundleError, match="put there later"):
        Bundle.open(copied)


def test_the_gate_says_what_it_was_fitted_on(trained):
    about = Classifier(trained / "bundle").gate.about
    assert json.dumps(about)
    assert about["validation"] > 0
    assert about["refused"] <= 1
