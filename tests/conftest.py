"""Shared fixtures: one drawn dataset and one trained bundle for the whole session."""

from __future__ import annotations

import os

# private by default, and set before anything is imported: some packages ask a server at import
os.environ.update(
    DAGSTER_DISABLE_TELEMETRY="1",
    MLFLOW_DISABLE_TELEMETRY="true",
    BENTOML_DO_NOT_TRACK="True",
    DVC_NO_ANALYTICS="1",
    NO_ALBUMENTATIONS_UPDATE="1",
    DERM_SECRET="the secret of the tests, which keeps nothing secret",  # else one is made below the project
)

from pathlib import Path

import pytest
from hypothesis import settings

# every run asks the same cases, so that it says the same; `pytest --hypothesis-profile=default` looks for new ones
settings.register_profile("alike", derandomize=True)
settings.load_profile("alike")

SHARED_DATA = Path(os.environ.get("DERM_SHARED_DATA", Path(__file__).parents[2] / "shared" / "data"))


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Real public images for development; a machine without them skips what needs them."""
    if not SHARED_DATA.is_dir():
        pytest.skip("real images are not on this machine (set DERM_SHARED_DATA)")
    return SHARED_DATA


@pytest.fixture(scope="session")
def drawn_raw(tmp_path_factory):
    """120 drawn pictures in the official ISIC 2017 layout."""
    from derm_ml.registry import get_task

    folder = tmp_path_factory.mktemp("raw") / "isic2017"
    get_task("lesion_classification").draw(folder, 120, seed=7)
    return folder


@pytest.fixture(scope="session")
def drawn_dataset(drawn_raw, tmp_path_factory):
    """The prepared dataset of the drawn pictures."""
    from derm_ml.prepare import prepare
    from derm_ml.registry import get_task

    task = get_task("lesion_classification")
    return prepare(task, drawn_raw, task.settings(), tmp_path_factory.mktemp("prepared") / "lesion_classification")


@pytest.fixture(scope="session")
def trained(drawn_dataset, tmp_path_factory) -> Path:
    """A model folder of the `drawn` recipe, trained for a few epochs on the drawn dataset."""
    from derm_ml.registry import get_task

    task = get_task("lesion_classification")
    out = tmp_path_factory.mktemp("model")
    task.fit(drawn_dataset, task.recipe("drawn", epochs=6, side=64, workers=0), out)
    return out


@pytest.fixture(scope="session")
def retinal_raw(tmp_path_factory):
    """120 drawn eyes of 60 patients and 24 unlabelled ones, in the layout of ODIR-5K."""
    from derm_ml.registry import get_task

    folder = tmp_path_factory.mktemp("retinal") / "raw"
    get_task("retinal_findings").draw(folder, 120, seed=3)
    return folder


@pytest.fixture(scope="session")
def retinal_dataset(retinal_raw, tmp_path_factory):
    """The prepared dataset of the drawn eyes."""
    from derm_ml.prepare import prepare
    from derm_ml.registry import get_task

    task = get_task("retinal_findings")
    return prepare(task, retinal_raw, task.settings(), tmp_path_factory.mktemp("prepared") / "retinal_findings")


@pytest.fixture(scope="session")
def retinal_trained(retinal_dataset, tmp_path_factory) -> Path:
    """A model folder of the `drawn` recipe, trained for a few epochs on the drawn eyes."""
    from derm_ml.registry import get_task

    task = get_task("retinal_findings")
    out = tmp_path_factory.mktemp("retinal_model")
    task.fit(retinal_dataset, task.recipe("drawn", epochs=5, side=96, workers=0, views="none"), out)
    return out
