"""The words of this house in everything people read: `python -m documents.prose`, part of `make lint`.

    docs/results.md:12: 'pictures': say image

Read are the pages, comments of settings, the texts and shown docstrings of the code, the templates of reports, and the
page of the service. house_words.yaml holds what is looked for, and the exceptions with their reasons.
"""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import yaml

from derm_ml.places import PROJECT

WORDS = Path(__file__).with_name("house_words.yaml")
PAGES = ("*.md", "docs/**/*.md")
SETTINGS = (".env.example", "params.yaml", "dagster.yaml", "derm_ml/tasks/*/*.yaml")
MARKUP = ("derm_ml/**/*.j2", "serving/page/*.html", "serving/page/*.j2")
CODE = ("derm_ml/**/*.py", "derm_assets/**/*.py", "serving/**/*.py")
# whose docstrings are shown: help of the command line, recipes, checks, artifacts, assets, answers
SHOWN = re.compile(
    r"derm_ml/cli/|derm_ml/tasks/\w+/(task|recipes|rules|gates|asking)\.py|derm_ml/(data/rules|asking/\w+)\.py"
    r"|derm_ml/(evaluation|promotion)/gates\.py|derm_ml/embeddings/artifacts\.py|derm_assets/assets\.py"
)
LEAST = 2  # spaces in a text of the code: fewer are names, keys and formats


@dataclass(frozen=True)
class Word:
    """What is looked for, what to say instead, and where it is right."""

    find: re.Pattern[str]
    say: str
    unless: tuple[re.Pattern[str], ...]

    def found(self, line: str) -> Iterator[str]:
        """What stands in a line and should not."""
        right = [match.span() for pattern in self.unless for match in pattern.finditer(line)]
        for match in self.find.finditer(line):
            if not any(start <= match.start() and match.end() <= end for start, end in right):
                yield match[0]


def findings(root: Path = PROJECT) -> Iterator[str]:
    """One line for each word that should be another."""
    rules = yaml.safe_load(WORDS.read_text(encoding="utf-8"))
    words = [
        Word(_pattern(one["find"]), one["say"], tuple(map(_pattern, one.get("unless", ())))) for one in rules["words"]
    ]
    for path, number, line in lines(root):
        for word in words:
            for text in word.found(line):
                if not any(path == one["where"] and re.search(one["find"], text, re.I) for one in rules["except"]):
                    yield f"{path}:{number}: '{text}': say {word.say}"


def lines(root: Path) -> Iterator[tuple[str, int, str]]:
    """(path, number, text) of every line that people read, without what is code in it."""
    for path in _files(root, PAGES):
        yield from _numbered(path, root, _without_code(path.read_text(encoding="utf-8")))
    for path in _files(root, SETTINGS):
        yield from _numbered(path, root, path.read_text(encoding="utf-8"))
    for path in _files(root, MARKUP):
        markup = re.sub(r"{[%{#].*?[%}#]}|<style>.*?</style>|{% block style %}.*?{% endblock %}", _blank,
                        path.read_text(encoding="utf-8"), flags=re.DOTALL)  # fmt: skip
        yield from _numbered(path, root, re.sub(r"<[^>]*>", _blank, markup))
    for path in _files(root, CODE):
        name = path.relative_to(root).as_posix()
        for number, text in texts(ast.parse(path.read_text(encoding="utf-8")), bool(SHOWN.match(name))):
            yield from ((name, number + more, line) for more, line in enumerate(_without_code(text).split("\n")))


def texts(tree: ast.Module, with_docstrings: bool) -> Iterator[tuple[int, str]]:
    """(line, text) of the texts of a module; docstrings where they are shown."""
    documented = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    docstrings = {
        id(node.body[0].value)
        for node in ast.walk(tree)
        if isinstance(node, documented) and node.body and isinstance(node.body[0], ast.Expr)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            is_text = node.value.count(" ") >= LEAST
            if with_docstrings if id(node) in docstrings else is_text:
                yield node.lineno, node.value


def _files(root: Path, patterns: tuple[str, ...]) -> list[Path]:
    return sorted({path for pattern in patterns for path in root.glob(pattern)})


def _numbered(path: Path, root: Path, text: str) -> Iterator[tuple[str, int, str]]:
    name = path.relative_to(root).as_posix()
    yield from ((name, number, line) for number, line in enumerate(text.split("\n"), 1))


def _without_code(text: str) -> str:
    """Without blocks of code, code in a line, and the targets of links; lines keep their numbers."""
    text = re.sub(r"^( *)```.*?^ *```$", _blank, text, flags=re.MULTILINE | re.DOTALL)
    text = re.sub(r"``?[^`\n]+``?", _blank, text)
    return re.sub(r"\]\([^)]*\)", "]", text)


def _blank(match: re.Match[str]) -> str:
    return "\n" * match[0].count("\n")


def _pattern(text: str) -> re.Pattern[str]:
    return re.compile(text, re.IGNORECASE)


if __name__ == "__main__":
    wrong = list(findings())
    print("\n".join(wrong) or "prose: nothing to change")
    sys.exit(bool(wrong))
