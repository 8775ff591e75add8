"""What every process that somebody starts does first: `derm`, Dagster's code location, `python -m serving`, …"""

from __future__ import annotations

from derm_ml.files import private_by_default
from derm_ml.places import read_settings


def enter() -> None:
    """Read the project's settings, then let everything that is written be its owner's alone.

    Raises `SettingsError` for a line of `.env` that is no setting, `UmaskError` for an umask that is none.
    """
    read_settings()
    private_by_default()
