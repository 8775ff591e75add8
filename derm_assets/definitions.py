"""The code location: everything in derm_assets/defs. `dg list defs` shows it, `dg dev` runs it."""

from __future__ import annotations

import os
from pathlib import Path

import dagster as dg

from derm_ml.entrance import enter
from derm_ml.places import PROJECT


@dg.definitions
def defs() -> dg.Definitions:
    enter()  # every code server, run and step loads this before it writes
    os.chdir(PROJECT)  # a relative path in a run's configuration is of the project, wherever Dagster was started
    return dg.load_from_defs_folder(path_within_project=Path(__file__).parent)
