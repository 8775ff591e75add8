"""An embedding table of the drawn dataset that needs no model: classes apart, each image a little off its class."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from derm_ml.embeddings.extract import FACTS


@pytest.fixture(scope="session")
def table(drawn_dataset) -> pd.DataFrame:
    rows = drawn_dataset.manifest
    kinds = sorted(rows["label"].unique())
    rng = np.random.default_rng(0)
    found = np.eye(8)[[kinds.index(label) for label in rows["label"]]] + 0.25 * rng.normal(size=(len(rows), 8))
    table = rows[list(FACTS)].copy()
    table["embedding"] = list(found.astype(np.float32))
    return table.assign(
        model_version="0123456789ab", dataset_md5=drawn_dataset.md5, predicted=kinds[0], **{f"p.{kinds[0]}": 0.75}
    )
