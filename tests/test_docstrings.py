"""The examples in docstrings: what a reader copies works, and gives what stands below it.

Beside the names of its module an example has `np`, `pd`, `torch`, `Path`, `roc_auc`, an `image`, a `dataset` and a
`predictor`; it runs in a folder in which a user has a photo, a list, a prepared dataset and a model.
"""

from __future__ import annotations

import doctest
import importlib
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from tests.serving.conftest import write_segmenter

__all__ = ["write_segmenter"]

ROOT = Path(__file__).parents[1]
WITH_EXAMPLES = sorted(
    path.relative_to(ROOT).with_suffix("").as_posix().replace("/", ".")
    for package in ("derm_ml", "derm_assets", "serving")
    for path in (ROOT / package).rglob("*.py")
    if ">>> " in path.read_text(encoding="utf-8")
)


@pytest.fixture(scope="module")
def users_folder(drawn_raw, drawn_dataset, colour_model, write_segmenter, tmp_path_factory) -> Path:
    """A folder as a user has it after `derm fetch`, `prepare` and `fit`, with a photo and a list beside."""
    folder = tmp_path_factory.mktemp("users")
    name = "lesion_classification"
    for place, target in ((f"data/raw/{name}", drawn_raw), (f"data/prepared/{name}", drawn_dataset.path)):
        (folder / place).parent.mkdir(parents=True)
        (folder / place).symlink_to(target)
    colour_model(folder / "out" / name / "strong", drawn_dataset, mixed=0.0, evaluated=False)
    write_segmenter(folder / "out" / "lesion_segmentation" / "strong" / "bundle")
    (folder / "labels.csv").write_text("filename,label\na.jpg,nevus\n", encoding="utf-8")
    (folder / "photo.jpg").write_bytes(next(drawn_raw.rglob("*.jpg")).read_bytes())
    return folder


@pytest.fixture(scope="module")
def given(users_folder, drawn_dataset) -> dict[str, object]:
    import torch

    from derm_ml.metrics.classification import roc_auc
    from derm_ml.registry import get_task

    predictor = get_task(drawn_dataset.task).load(users_folder / "out" / drawn_dataset.task / "strong" / "bundle")
    image = drawn_dataset.image(drawn_dataset.split("test").iloc[0])
    return {"np": np, "pd": pd, "torch": torch, "Path": Path, "roc_auc": roc_auc} | {
        "image": image,
        "dataset": drawn_dataset,
        "predictor": predictor,
    }


@pytest.mark.parametrize("name", WITH_EXAMPLES)
def test_the_examples_of_a_module_hold(name, given, users_folder, monkeypatch, capsys):
    monkeypatch.chdir(users_folder)
    module = importlib.import_module(name)
    found = doctest.DocTestFinder().find(module, globs={**given, **vars(module)})
    outcome = [doctest.DocTestRunner(optionflags=doctest.NORMALIZE_WHITESPACE).run(example) for example in found]
    assert sum(result.failed for result in outcome) == 0, capsys.readouterr().out
    assert sum(result.attempted for result in outcome) > 0, "these examples are in no docstring: nothing runs them"


@pytest.mark.parametrize("name", WITH_EXAMPLES)
def test_no_example_is_skipped(name):
    """It would go stale, and nobody would know."""
    assert "doctest: +" not in (ROOT / name.replace(".", "/")).with_suffix(".py").read_text(encoding="utf-8")
