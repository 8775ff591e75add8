"""Build the documentation site: `make docs`, or `python -m documents [FOLDER]` (default: site).

    python -m documents site              FOLDER/html/index.html opens in a browser, search included, without a server;
                                          it leads to the pages of this version, and those of others stay
    python -m documents site --external   also asks every address that the pages link to; needs the network

Every warning is an error: a link to a page or heading that is gone, a page that no list of contents holds, a script, a
style or an image from elsewhere.
"""

from __future__ import annotations

import re
import shutil
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

from sphinx.cmd.build import main as sphinx

from documents.notebooks import add_notebooks
from documents.pages import PAGES, ROOT, version
from documents.versions import list_versions

DOCS, HERE = ROOT / "docs", Path(__file__).parent
_LOADED = re.compile(
    r"""<(?:script|img|iframe|source|link(?=[^>]*rel="(?:stylesheet|preload|icon)"))[^>]*?(?:src|href)="((?:https?:)?//[^"]+)\""""
)
PARTS = ("glossary_words.md",)  # the part of a page that is written by hand


def write_source(folder: Path, docs: Path, pages: Mapping[str, Callable[[], str]]) -> None:
    """The pages that are written by hand, and those that are made from code, in one folder."""
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(docs, folder, ignore=shutil.ignore_patterns(*PARTS))
    for name, make in pages.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(make(), encoding="utf-8")
    add_notebooks(folder / "tutorials")


def build(
    folder: Path, builder: str = "html", docs: Path = DOCS, pages: Mapping[str, Callable[[], str]] = PAGES
) -> int:
    """Sphinx's exit status: 0 without a warning."""
    source, target = folder / "source", folder / builder / version()
    write_source(source, docs, pages)
    shutil.rmtree(target, ignore_errors=True)  # no page of an earlier build stays
    doctrees = folder / "doctrees"
    options = ["-W", "--keep-going", "-q", "-E", "-b", builder, "-c", str(HERE), "-d", str(doctrees)]
    failed = sphinx([*options, str(source), str(target)])
    if builder == "html":
        list_versions(target.parent, version())
    foreign = loaded_from_elsewhere(target)
    for said in foreign:
        print(said, file=sys.stderr)
    return failed or int(bool(foreign))


def loaded_from_elsewhere(pages: Path) -> list[str]:
    """A sentence for each script, style or image that a browser would ask another server for."""
    return [
        f"{path.relative_to(pages)} loads {address}: keep it in the project"
        for path in sorted(pages.rglob("*.html"))
        for address in _LOADED.findall(path.read_text(encoding="utf-8"))
    ]


def main(arguments: list[str]) -> int:
    external = "--external" in arguments
    folder = Path(next((word for word in arguments if not word.startswith("-")), "site"))
    failed = build(folder) or (external and build(folder, "linkcheck"))
    if not failed:
        print(folder / "html" / "index.html")
    return int(failed)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
