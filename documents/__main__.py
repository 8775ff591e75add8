"""Build the documentation site: `make docs`, or `python -m documents [FOLDER]` (default: site).

    python -m documents site              FOLDER/html/index.html opens in a browser, search included, without a server
    python -m documents site --external   also asks every address that the pages link to; needs the network

Every warning is an error: a link to a page or heading that is gone, a page that no list of contents holds.
"""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

from sphinx.cmd.build import main as sphinx

from documents.pages import PAGES, ROOT

DOCS, HERE = ROOT / "docs", Path(__file__).parent
PARTS = ("glossary_words.md",)  # the part of a page that is written by hand


def write_source(folder: Path) -> None:
    """The pages of docs/, and those that are made from code, in one folder."""
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(DOCS, folder, ignore=shutil.ignore_patterns(*PARTS))
    for name, make in PAGES.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(make(), encoding="utf-8")


def build(folder: Path, builder: str = "html") -> int:
    """Sphinx's exit status: 0 without a warning."""
    source = folder / "source"
    write_source(source)
    shutil.rmtree(folder / builder, ignore_errors=True)  # no page of an earlier build stays
    doctrees = folder / "doctrees"
    options = ["-W", "--keep-going", "-q", "-E", "-b", builder, "-c", str(HERE), "-d", str(doctrees)]
    return sphinx([*options, str(source), str(folder / builder)])


def main(arguments: list[str]) -> int:
    external = "--external" in arguments
    folder = Path(next((word for word in arguments if not word.startswith("-")), "site"))
    failed = build(folder) or (external and build(folder, "linkcheck"))
    if not failed:
        print(folder / "html" / "index.html")
    return int(failed)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
