"""One line of assets for every task there is: a new folder in derm_ml/tasks appears here by itself."""

from __future__ import annotations

import dagster as dg

from derm_assets.assets import line
from derm_ml.registry import all_tasks


@dg.definitions
def lines() -> dg.Definitions:
    return dg.Definitions.merge(*(line(task) for task in all_tasks().values()))
