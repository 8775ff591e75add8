"""The site as `make docs` builds it: nothing on it comes from elsewhere, and a link that leads nowhere is an error."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest

from documents.__main__ import build
from documents.pages import version
from documents.prose import Word, findings
from documents.versions import list_versions


@pytest.fixture(scope="module")
def built(tmp_path_factory) -> Path:
    """The whole site, once; a test may add to it."""
    folder = tmp_path_factory.mktemp("site")
    assert build(folder) == 0
    return folder / "html"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("link", "failed"),
    [
        ("[a](other.md#a-heading)", 0),
        ("[a](gone.md)", 1),
        ("[a](other.md#gone)", 1),
        ("![a](gone.png)", 1),
        ("<img src='x' alt=''>", 0),
        ('<img src="https://example.org/a.png" alt="">', 1),
    ],
)
def test_a_link_that_leads_nowhere_stops_the_build(link, failed, tmp_path):
    docs = tmp_path / "docs"
    docs.mkdir()
    (docs / "index.md").write_text(f"# Start\n\n{link}\n\n```{{toctree}}\nother\n```\n", encoding="utf-8")
    (docs / "other.md").write_text("# Other\n\n## A heading\n\nText.\n", encoding="utf-8")
    assert bool(build(tmp_path / "site", docs=docs, pages={})) is bool(failed)


@pytest.mark.slow
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 390])
def test_every_kind_of_page_fits_and_axe_finds_nothing_serious(browser, axe, built, width, scheme):
    context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme)
    page, said = context.new_page(), []
    page.on("pageerror", lambda error: said.append(str(error)))
    for name in ("index", "tutorials/lesion_classification", "howto/recipes", "results", "reference/http", "glossary"):
        page.goto((built / version() / f"{name}.html").as_uri())
        assert (name, axe(page), said) == (name, [], [])
        assert page.evaluate("document.documentElement.scrollWidth") <= width, name
    context.close()


@pytest.mark.slow
def test_an_older_version_stays_and_its_pages_list_the_newer(browser, built):
    """Who runs an older version reads its pages, and sees there that there is a newer one."""
    older = built / "0.0.9"
    shutil.copytree(built / version(), older)
    for page in older.rglob("*.html"):
        page.write_text(page.read_text().replace(f'data-version="{version()}"', 'data-version="0.0.9"'))
    assert list_versions(built, version()) == [version(), "0.0.9"]
    page = browser.new_page()
    page.goto((older / "tutorials" / "lesion_classification.html").as_uri())
    assert page.locator("#versions option").all_inner_texts() == [version(), "0.0.9 (older)"]
    assert page.input_value("#versions") == "0.0.9"
    with page.expect_navigation(url=f"**/{version()}/index.html"):  # a file cannot be asked whether it is there
        page.select_option("#versions", version())
    page.close()


@pytest.mark.slow
def test_the_notebook_of_a_tutorial_can_be_downloaded(built):
    page = (built / version() / "tutorials" / "retinal_findings.html").read_text(encoding="utf-8")
    (link,) = re.findall(r'href="([^"]*retinal_findings\.ipynb)"', page)
    assert (built / version() / "tutorials" / link).resolve().is_file()


def test_house_words_are_found_where_people_read_and_not_in_code(tmp_path):
    (tmp_path / "README.md").write_text(
        "A picture.\n\n```\na picture in a listing\n```\n\nThe name `picture` is code; see [it](picture.md).\n"
    )
    package = tmp_path / "derm_ml" / "cli"
    package.mkdir(parents=True)
    (package / "ask.py").write_text(
        'def ask(picture):\n    """Ask about\n    a picture."""\n    raise ValueError(f"no {picture} in the picture")\n'
    )
    (tmp_path / "derm_ml" / "inner.py").write_text('"""Of a picture: not shown."""\nname = "picture"\n')
    assert list(findings(tmp_path)) == [
        "README.md:1: 'picture': say image",
        "derm_ml/cli/ask.py:3: 'picture': say image",
        "derm_ml/cli/ask.py:4: 'picture': say image",
    ]


def test_what_makes_a_word_right_is_no_finding():
    word = Word(re.compile(r"\bgates?\b"), "check", (re.compile("input gate"),))
    assert list(word.found("the input gate and the gate")) == ["gate"]
