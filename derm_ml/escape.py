"""Text from data (file names, ids, labels, CSV cells, reasons) made harmless, once for each kind of output.

    visible    a terminal, a log, Dagster and MLflow: what cannot be seen is written out
    markdown   whatever is rendered as Markdown: shows the text and does nothing
    csv_cell   a spreadsheet: text stays text, never a formula; `csv_original` takes it back

HTML is escaped by Jinja (autoescape) and JSON by its writer. Nothing here changes what the text says to a person.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

# Characters that open a construct anywhere in a line. A backslash before any ASCII punctuation is that character
# itself (CommonMark 0.31, section 2.4). `_` inside a word opens nothing, and names are full of it.
_MARKDOWN = re.compile(r"[\\`*\[\]<>&~|]|(?<![^\W_])_|_(?![^\W_])|:(?=//)|(?<=www)\.|@")
_MARKDOWN_START = re.compile(r"^(\s*\d*)([#+=.)-])(?=[\s#=-]|$)")  # a heading, a list, a ruler

# What a spreadsheet takes for a formula (OWASP, "CSV Injection"), full-width forms and what is marked already included
_FORMULA = re.compile(r"'*[=+\-@\t\r\n＝＋－＠]")
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")


def visible(text: str, keep: str = "") -> str:
    r"""`text` on one line with everything that is not a printable character written out as Python's `repr` does.

    Escape sequences of a terminal, line breaks, overrides of the writing direction, zero-width characters and bytes
    that are no UTF-8 can then neither act nor hide. Characters in `keep` stay.

    >>> print(visible("a\x1b[31mb\u202egpj.exe"))
    a\x1b[31mb\u202egpj.exe
    """
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() or c in keep else _written_out(c) for c in text)


def _written_out(character: str) -> str:
    return character.encode("unicode_escape", "surrogatepass").decode("ascii")


def visible_values(value: Any) -> Any:
    """A JSON value in which every text, keys included, is `visible`."""
    if isinstance(value, str):
        return visible(value)
    if isinstance(value, Mapping):
        return {visible(str(name)): visible_values(inner) for name, inner in value.items()}
    if isinstance(value, Sequence):
        return [visible_values(inner) for inner in value]
    return value


def markdown(text: str) -> str:
    r"""One line of Markdown that shows `text` as it is: no image, link, tag, emphasis, list or heading comes of it.

    >>> print(markdown("![x](/graphql?query=mutation).png of ISIC_0001"))
    !\[x\](/graphql?query=mutation).png of ISIC_0001
    """
    escaped = _MARKDOWN.sub(lambda found: f"\\{found[0]}", visible(text))
    return _MARKDOWN_START.sub(r"\1\\\2", escaped)


def csv_cell(value: Any) -> Any:
    """`value` for a cell of a CSV file: a text that a spreadsheet would run as a formula gets an apostrophe before it.

    Numbers stay as they are, also those written as text (-1.5).

    >>> csv_cell("=1+1"), csv_cell("-0.5"), csv_cell(-0.5), csv_cell("ISIC_0001")
    ("'=1+1", '-0.5', -0.5, 'ISIC_0001')
    """
    if isinstance(value, str) and _FORMULA.match(value) and not _NUMBER.fullmatch(value):
        return f"'{value}"
    return value


def csv_original(value: Any) -> Any:
    """What `csv_cell` was given.

    >>> csv_original("'=1+1"), csv_original("'tis")
    ('=1+1', "'tis")
    """
    return value[1:] if isinstance(value, str) and value.startswith("'") and _FORMULA.match(value) else value
