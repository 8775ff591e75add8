"""Puts the project's dagster.yaml into DAGSTER_HOME, but never over one that an operator changed.

    python -m derm_assets.instance     # what `make install` does

Beside it lies a copy of what was put there last: only a file that still equals it follows the project's next version.
"""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

from derm_ml import DermError
from derm_ml.entrance import enter
from derm_ml.files import replacing_file, sha256
from derm_ml.places import DAGSTER_HOME, PROJECT, installation, setting_path

NAME = "dagster.yaml"
RECORD = ".dagster.yaml.installed"
# the project's version from before there was a record: unchanged, it is replaced, since dead runs kept their slots
BEFORE = "40fc9395be79ec46cc2783009cb7c0b1c442bb727cc92db66d8beeff28172a41"


def write_settings(settings: Path, home: Path) -> str:
    """Returns what an operator has to know, or "": the project's settings changed beside their own."""
    present, record = home / NAME, home / RECORD
    own = present.exists() and not _is_ours(present, record, settings)
    news = own and not (record.exists() and record.read_bytes() == settings.read_bytes())
    for path in (record,) if own else (present, record):
        with replacing_file(path) as temporary:
            shutil.copyfile(settings, temporary)
    if not news:
        return ""
    return f"{present} was changed by hand and is kept; the project's is now different: compare it with {settings}"


def _is_ours(present: Path, record: Path, settings: Path) -> bool:
    found = sha256(present)
    return found in (BEFORE, sha256(settings)) or (record.exists() and found == sha256(record))


def use_home() -> Path:
    """Let this process and those it starts use the installation's Dagster instance, and return its folder."""
    home = setting_path(DAGSTER_HOME) or installation().dagster
    os.environ[DAGSTER_HOME] = str(home)
    return home


def main() -> None:
    try:
        enter()
        said = write_settings(PROJECT / NAME, use_home())
    except DermError as error:
        print(f"derm: {error}", file=sys.stderr)
        sys.exit(2)
    if said:
        print(said, file=sys.stderr)


if __name__ == "__main__":
    main()
