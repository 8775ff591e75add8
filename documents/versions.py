"""The site holds one folder for each version, and each page a list of them: who runs an older version reads its pages.

html/index.html      leads to the version that was built last
html/versions.js     the versions that are there, newest first; every page reads it, also those of older versions
html/<version>/      the pages of one version; a build replaces its own and leaves the others
"""

from __future__ import annotations

import json
from pathlib import Path

from packaging.version import InvalidVersion, Version

_INDEX = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>derm</title>
<meta http-equiv="refresh" content="0; url={version}/index.html"></head>
<body><p><a href="{version}/index.html">The documentation of derm {version}</a></p></body></html>
"""


def list_versions(html: Path, built: str) -> list[str]:
    """Write what leads to the versions below `html`; returns them, newest first."""
    found = sorted(filter(None, (_version(folder) for folder in html.iterdir() if folder.is_dir())), reverse=True)
    names = [str(version) for version in found]
    (html / "versions.js").write_text(f"const VERSIONS = {json.dumps(names)};\n", encoding="utf-8")
    (html / "index.html").write_text(_INDEX.format(version=built), encoding="utf-8")
    return names


def _version(folder: Path) -> Version | None:
    try:
        return Version(folder.name)
    except InvalidVersion:
        return None
