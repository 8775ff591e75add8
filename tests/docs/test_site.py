"""The site as `make docs` builds it: nothing on it comes from elsewhere, and a link that leads nowhere is an error."""

from __future__ import annotations

import re

import pytest

from documents.__main__ import build
from documents.prose import Word, findings


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
