"""The public data sets and model weights that are known by name: whose they are, under which licence, how large.

catalogue()               name → Entry, from catalogue.yaml
catalogue_lines(entry)          an entry in full, as lines for a person
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Literal
from urllib.parse import urlsplit

import yaml
from pydantic import Field

from derm_ml.task import Settings

CATALOGUE = Path(__file__).with_suffix(".yaml")
WEIGHTS = "weights"
Fact = Literal["licence", "citation", "images", "gigabytes"]


class File(Settings):
    """One file to download; `name` where the address does not end in it, `into` a sub-folder to unpack into."""

    url: str
    name: str = ""
    into: str = ""

    @property
    def filename(self) -> str:
        return self.name or PurePosixPath(urlsplit(self.url).path).name


class Entry(Settings):
    """One data set of the catalogue, or the weights of a model (`task: weights`, no images).

    `images`: how many it holds (a fetched one must), 0 where the user chooses; `gigabytes`: about its download, 0 where
    nobody publishes a figure. `size_from` says where both come from, `checked` which facts were seen on the publisher's
    page or in its paper. One without `files` is not fetched: its publisher asks for a form, an account or a choice.
    """

    name: str
    title: str
    task: str
    layout: str
    images: int = Field(ge=0)
    gigabytes: float = Field(ge=0)
    size_from: str
    checked: tuple[Fact, ...] = ()
    licence: str
    terms: str
    citation: str
    homepage: str
    files: tuple[File, ...]

    @property
    def is_model(self) -> bool:
        """Whether it is weights of a model, not images."""
        return self.task == WEIGHTS

    @property
    def size(self) -> str:
        """Images, and gigabytes where known: `1,279 images, about 0.8 GB`."""
        counted = "" if self.is_model else f"{self.images:,} images" if self.images else "as many images as you choose"
        return ", ".join(part for part in (counted, self.download) if part)

    @property
    def download(self) -> str:
        """The bytes alone; "" where nobody publishes a figure."""
        if not self.gigabytes:
            return ""
        return f"about {self.gigabytes:g} GB" if self.gigabytes >= 0.1 else f"about {self.gigabytes * 1000:.2g} MB"


def catalogue(path: Path = CATALOGUE) -> dict[str, Entry]:
    """Name → entry. Raises `ValidationError` naming the field of an entry that is wrong."""
    entries: Mapping[str, Mapping] = yaml.safe_load(path.read_text(encoding="utf-8"))
    return {name: Entry.model_validate({"name": name, **facts}) for name, facts in entries.items()}


def catalogue_lines(entry: Entry) -> list[str]:
    """What the catalogue says of an entry, one fact a line."""
    seen = ", ".join(entry.checked) or "nothing"
    return [
        entry.title,
        f"licence: {entry.licence}. {entry.terms}",
        f"cite: {entry.citation}",
        f"size: {entry.size} ({entry.size_from})",
        f"seen on the publisher's page or in its paper: {seen}",
        f"page: {entry.homepage}",
    ]
