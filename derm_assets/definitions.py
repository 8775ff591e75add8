"""The code location: everything in derm_assets/defs. `dg list defs` shows it, `dg dev` runs it."""

from __future__ import annotations

from pathlib import Path

import dagster as dg

from derm_ml.entrance import enter


@dg.definitions
def defs() -> dg.Definitions:
    enter()  # every code server, run and step loads this before it writes
    return dg.load_from_defs_folder(path_within_project=Path(__file__).parent)
