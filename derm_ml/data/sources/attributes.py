"""What a list says of a person beside the label: age, sex, site. An unknown value is absent, a wrong one an error."""

from __future__ import annotations

from pathlib import Path

from derm_ml.data.sources.csv_table import Row, read_csv
from derm_ml.data.sources.text_files import shown

_SEXES = {"male": "male", "m": "male", "female": "female", "f": "female"}
OLDEST = 120.0  # years; a larger age is a typing error


def read_facts(path: Path) -> dict[str, dict[str, str | float]]:
    """Name of a picture without its ending → its attributes, from a list of people's facts.

    Columns: `image_id` (as ISIC publishes it), `filename` or `file`; `age_approximate` or `age`; `sex`.
    Raises `DataError` naming the file and the row.
    """
    found: dict[str, dict[str, str | float]] = {}
    for row in read_csv(path, ()):
        name = next((row[column] for column in ("image_id", "filename", "file") if column in row.values), "")
        if not name:
            raise row.error("no picture is named", "add its name in a column image_id, filename or file")
        if Path(name).stem in found:
            raise row.error(f"{shown(name)} stands in this list twice", "remove one of the rows")
        found[Path(name).stem] = attributes_of(row, age="age" if "age" in row.values else "age_approximate")
    return found


def attributes_of(row: Row, age: str = "age", sex: str = "sex", site: str = "site") -> dict[str, str | float]:
    """Attributes from the named columns: `age` in years 0..120, `sex` `male` or `female`, `site` in lower case.

    Raises `DataError` naming the row for an age or a sex that cannot be read.
    """
    found: dict[str, str | float] = {}
    years = row.number(age, 0, OLDEST)
    if years is not None:
        found["age"] = years
    person = row.get(sex).lower()
    if person and person not in _SEXES:
        raise row.error(f"{sex} is '{shown(person)}'", "write male, female or unknown")
    if person:
        found["sex"] = _SEXES[person]
    if row.get(site):
        found["site"] = row.get(site).lower()
    return found
