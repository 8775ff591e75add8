"""The command line in an empty folder, and models whose answers are known because their graphs are written by hand."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

from derm_ml import cli
from derm_ml.bundles.bundle import BundleCard, seal, writing_bundle
from derm_ml.images.settings import MaskRule, Preprocessing
from derm_ml.metrics.points import OperatingPoint, UnclaimedPoint
from derm_ml.registry import get_task

SIDE = 32


@pytest.fixture(scope="session")
def home(tmp_path_factory) -> Path:
    """One registry for all: the first touch of a new one takes seconds."""
    return tmp_path_factory.mktemp("home")


@pytest.fixture
def derm(tmp_path, home, monkeypatch, capfd) -> Callable[..., tuple[int, str, str]]:
    """Run `derm …` as its entry point does, in an empty folder; returns (exit code, stdout, stderr)."""
    monkeypatch.chdir(tmp_path)
    for name in ("data", "out"):
        monkeypatch.setenv(f"DERM_{name.upper()}", str(tmp_path / name))
    monkeypatch.setenv("DERM_HOME", str(home))
    monkeypatch.setattr(cli.notes, "width", 1000)

    def run(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["derm", *map(str, arguments)])
        capfd.readouterr()
        with pytest.raises(SystemExit) as ended:
            cli.main()
        out, err = capfd.readouterr()
        return int(ended.value.code or 0), out, err

    return run


def write_graph(head: str, labels: int, folder: Path) -> None:
    """The graph of a model that calls dark what is dark: a pixel lesion, or an image its first label."""
    import torch  # which takes seconds: only where a model is made
    from torch import Tensor, nn

    from derm_ml.training.export import export_graph

    class Dark(nn.Module):
        def forward(self, image: Tensor) -> Tensor:
            return (100 - image.float().mean(dim=3))[:, None] / 10

    class Darkness(nn.Module):
        def forward(self, image: Tensor) -> tuple[Tensor, Tensor, Tensor]:
            grey = image.float().mean(dim=(1, 2, 3))[:, None]
            logits = torch.cat([(100 - grey) / 10 - 3 * k for k in range(labels)], dim=1)
            return logits, grey.repeat(1, 4), logits[:, :, None, None].relu().repeat(1, 1, 2, 2)

    of_pixels = head in ("mask", "reconstruction")
    image = torch.zeros(2, SIDE, SIDE, 3, dtype=torch.uint8)
    outputs = ["logits"] if of_pixels else ["logits", "embedding", "maps"]
    export_graph(nn.Linear(1, 1), Dark() if of_pixels else Darkness(), {"image": image}, outputs, folder)


def sealed(folder: Path, name: str, head: str, points: bool = True) -> Path:
    """A model folder of the task `name`, with a balanced point of its first label and a recall that is not claimed."""
    labels = get_task(name).labels[:3]
    fitted = {"label": labels[0], "split_hash": "v", "positives": 20}
    balanced = OperatingPoint(
        name="balanced", threshold=0.5, sensitivity=0.9, sensitivity_low=0.8, specificity=0.9, **fitted
    )
    short = UnclaimedPoint(name="recall_0.99", recall=0.99, needed=299, **fitted)
    card = BundleCard(
        task=name, recipe_name="drawn", recipe={}, labels=labels, head=head, dataset_md5="0" * 32 + ".dir",
        preprocessing=Preprocessing(side=SIDE, store_side=512, fit="squash"), mask_rule=MaskRule(threshold=0.5),
        split_hashes={"validation": "v", "test": "t"}, backbone="none", pretrained="none", epochs=1,
        prevalence=dict(zip(labels, (0.3, 0.5, 0.2), strict=False)),
        operating_points=(balanced,) if points else (), unclaimed_points=(short,) if points else (),
    )  # fmt: skip
    with writing_bundle(folder / "bundle") as place:
        write_graph(head, len(labels), place)
        seal(place, card)
    return folder


@pytest.fixture(scope="session")
def models(slow, tmp_path_factory) -> dict[str, Path]:
    """A model folder a task that is asked about one image, and `autoencoder`."""
    heads = {
        "lesion_classification": "softmax",
        "malignancy_screening": "sigmoid",
        "retinal_findings": "sigmoid",
        "lesion_segmentation": "mask",
    }
    root = tmp_path_factory.mktemp("models")
    made = {name: sealed(root / name, name, head, points=head != "mask") for name, head in heads.items()}
    return made | {"autoencoder": sealed(root / "autoencoder", "lesion_classification", "reconstruction", points=False)}


@pytest.fixture(scope="session")
def images(tmp_path_factory) -> Path:
    """Four images: the first without a lesion, then one with a dark spot, one all dark, one that is torn."""
    folder = tmp_path_factory.mktemp("images")
    clear = np.full((48, 64, 3), 220, np.uint8)
    spot = cv2.circle(clear.copy(), (32, 24), 12, (20, 20, 20), -1)
    for name, image in {"1_clear": clear, "2_spot": spot, "4_dark": np.full_like(clear, 10)}.items():
        cv2.imwrite(str(folder / f"{name}.png"), image)
    (folder / "3_torn.png").write_bytes((folder / "1_clear.png").read_bytes()[:60])
    return folder
