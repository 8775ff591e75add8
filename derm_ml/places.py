"""Where things lie: three folders, each set by one environment variable, by default inside the project.

DERM_DATA  data    incoming/, raw/, prepared/, versions/; the folder it lies in is the DVC project
DERM_OUT   out     models, evaluations, reports: out/<task>/<recipe>-<id>/
DERM_HOME  .home   the registry's database, the promotion ledger, the installation's secret, DVC's site cache
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Literal

PROJECT = Path(__file__).resolve().parents[1]
DEFAULTS = {"data": "data", "out": "out", "home": ".home"}


def folder(name: Literal["data", "out", "home"]) -> Path:
    """The folder its environment variable names, absolute; a relative one is taken from the project's root."""
    return PROJECT / os.environ.get(f"DERM_{name.upper()}", DEFAULTS[name])
