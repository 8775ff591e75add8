"""Whoever looks up a message finds it only if the page quotes what the program really says."""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "troubleshooting.md"
QUOTED = re.findall(r"^`([^`]+)`\n: ", PAGE.read_text(encoding="utf-8"), re.MULTILINE)
GAP = "…"


@cache
def texts_of_the_code() -> tuple[str, ...]:
    """Every text of the packages, `…` where an f-string has a value; adjacent texts are one."""
    found = []
    for package in ("derm_ml", "derm_assets", "serving"):
        for path in (ROOT / package).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                if isinstance(node, ast.JoinedStr):
                    found.append("".join(v.value if isinstance(v, ast.Constant) else GAP for v in node.values))
                elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                    found.append(node.value)
    return tuple(found)


def is_said(message: str) -> bool:
    """Whether some text of the code holds all parts of the message, in their order."""
    pattern = re.compile(".*".join(re.escape(part) for part in message.split(GAP)), re.DOTALL)
    return any(pattern.search(text) for text in texts_of_the_code())


def test_the_page_quotes_messages():
    assert len(QUOTED) > 20


@pytest.mark.parametrize("message", QUOTED)
def test_a_quoted_message_is_one_the_program_says(message):
    assert is_said(message), f"docs/troubleshooting.md quotes what no code says: {message}"


def test_a_message_nobody_says_would_be_found():
    assert not is_said("…: the layout is not recognized; expected …")
