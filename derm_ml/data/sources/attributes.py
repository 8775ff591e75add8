"""What a list says of a person or a photo beside the label: age, sex, site, skin tone, device. An unknown value is
absent, a wrong one an error."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType

from derm_ml.data.sources.csv_table import UNKNOWN, TableRow, read_csv
from derm_ml.data.sources.text_files import quoted

_SEXES = {"male": "male", "m": "male", "female": "female", "f": "female"}
# what publishers write where a person did not say, or is neither
_NOT_SAID = frozenset({"other", "other_or_unspecified", "prefer_not_to_say", "intersex_non_binary_or_other"})
OLDEST = 120.0  # years; a larger age is a typing error
IMAGE_COLUMNS = ("image_id", "isic_id", "image_name", "image", "img_id", "filename", "file")
# attribute → the columns in which publishers and users have it, the first that is there counts
COLUMNS: Mapping[str, tuple[str, ...]] = {
    "age": ("age", "age_approx", "age_approximate", "patient_age", "patient age"),
    "sex": ("sex", "gender", "patient_sex", "patient sex", "sex_at_birth"),
    "site": (
        "site",
        "localization",
        "anatom_site_general",
        "anatom_site_general_challenge",
        "anatom_site_1",
        "region",
        "location",
    ),
    "fitzpatrick": (
        "fitzpatrick",
        "fitzpatrick_scale",
        "fitzpatrick_skin_type",
        "fitspatrick",  # so PAD-UFES-20 spells it
        "dermatologist_fitzpatrick_skin_type_label_1",
    ),
    "monk": ("monk", "monk_skin_tone", "monk_skin_tone_label_us", "monk_skin_tone_label_india"),
    "device": ("device", "camera", "dermoscopic_type"),
}
_ROMAN = {"i": 1, "ii": 2, "iii": 3, "iv": 4, "v": 5, "vi": 6}


def read_facts(path: Path) -> dict[str, dict[str, str | float]]:
    """Name of a picture without its ending → its attributes, from a list of people's facts.

    Columns: the image's name in one of `IMAGE_COLUMNS`, and those of `COLUMNS`. Raises `DataError` naming the file and
    the row.
    """
    found: dict[str, dict[str, str | float]] = {}
    for row in read_csv(path, ()):
        name = next((row[column] for column in IMAGE_COLUMNS if column in row.values), "")
        if not name:
            raise row.error("no image is named", "add its name in a column image_id, filename or file")
        if Path(name).stem in found:
            raise row.error(f"{quoted(name)} stands in this list twice", "remove one of the rows")
        found[Path(name).stem] = attributes_of(row)
    return found


def attributes_of(row: TableRow, columns: Mapping[str, str] = MappingProxyType({})) -> dict[str, str | float]:
    """Attributes from the columns a list has for them (`COLUMNS`, or those named): `age` in years 0..120, `sex` `male`
    or `female`, `site` and `device` in lower case, `fitzpatrick` 1..6 (or `1-2`), `monk` 1..10.

    Raises `DataError` naming the row for an age, a sex or a skin tone that cannot be read.
    """
    found: dict[str, str | float] = {}
    for attribute in dict.fromkeys((*COLUMNS, *columns)):
        spellings = (columns[attribute],) if attribute in columns else COLUMNS[attribute]
        present = [column for column in spellings if column in row.values]
        column = next((c for c in present if row.get(c)), "")
        if column:
            value = _READ.get(attribute, _text)(row, column)
            found |= {} if value is None else {attribute: value}
    return found


def _age(row: TableRow, column: str) -> float | None:
    return row.number(column, 0, OLDEST)


def _sex(row: TableRow, column: str) -> str | None:
    person = row.get(column).lower()
    if person in _NOT_SAID:
        return None
    if person not in _SEXES:
        raise row.error(f"{column} is '{quoted(person)}'", "write male, female or unknown")
    return _SEXES[person]


def _text(row: TableRow, column: str) -> str:
    return row.get(column).lower()


def _fitzpatrick(row: TableRow, column: str) -> str | None:
    """A skin type 1..6 in the ways it is written (`4`, `4.0`, `IV`, `FST4`), `12` for 1-2 (so DDI), or -1: unknown."""
    given = row.get(column).lower()
    if given in ("12", "34", "56"):
        return f"{given[0]}-{given[1]}"
    bare = re.sub(r"^(fst|fitzpatrick|skin)?[\s_]*(skin)?[\s_]*(type)?[\s_]*", "", given)
    number = _ROMAN.get(bare) or _whole(bare)
    if number == -1 or (number is None and given.replace("_", " ") in ("none identified", "none selected")):
        return None
    if number is None or not 1 <= number <= 6:
        raise row.error(f"{column} is '{quoted(given)}'", "write a skin type from 1 to 6, or leave it empty")
    return str(number)


def _monk(row: TableRow, column: str) -> str | None:
    given = row.get(column).lower()
    number = _whole(given.removeprefix("mst").removeprefix("monk").strip(" _"))
    if number is None or not 1 <= number <= 10:
        raise row.error(f"{column} is '{quoted(given)}'", "write a Monk skin tone from 1 to 10, or leave it empty")
    return str(number)


def _whole(text: str) -> int | None:
    found = re.fullmatch(r"(-?\d+)(?:\.0+)?", text)
    return int(found[1]) if found and text not in UNKNOWN else None


_READ: Mapping[str, Callable[[TableRow, str], str | float | None]] = {
    "age": _age,
    "sex": _sex,
    "fitzpatrick": _fitzpatrick,
    "monk": _monk,
}
