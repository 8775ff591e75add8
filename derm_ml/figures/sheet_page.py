"""A contact sheet as files: an HTML page, whose images are as large as a person needs them and whose captions are text,
and one PNG for Dagster and slides.

    made = write_sheet(sheet, folder, "heatmaps", Shown("Heatmaps", "Test images, not hand-picked.", heat=True))
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from derm_ml.figures.sheets import Sheet
from derm_ml.files import replacing_file
from derm_ml.pages.page import template


@dataclass(frozen=True, slots=True)
class Shown:
    """How a sheet is shown on a page: its title, a sentence below it, and what its images are.

    `heat`: the second image of a cell is the first with its heatmap; a bar says what the colours mean. `large`: one
    cell a row. `synthetic`: the images are synthetic, or those the model learned from.
    """

    title: str
    note: str = ""
    heat: bool = False
    large: bool = False
    synthetic: bool = False


def sheet_page(sheet: Sheet, shown: Shown) -> str:
    """One self-contained HTML document. All text in it is escaped."""
    return template("derm_ml.pages", "sheet.html.j2").render(tiles=sheet.tiles(), shown=shown)


def write_sheet(sheet: Sheet, folder: Path, name: str, shown: Shown) -> dict[str, Path]:
    """Write `<name>.png` and `<name>.html` into `folder`, each whole or not at all; the paths as `name` and
    `name_page`."""
    picture, page = folder / f"{name}.png", folder / f"{name}.html"
    with replacing_file(picture) as temporary:
        temporary.write_bytes(sheet.png)
    with replacing_file(page) as temporary:
        temporary.write_text(sheet_page(sheet, shown), encoding="utf-8")
    return {name: picture, f"{name}_page": page}
