"""What a list says of a person beside the label: age, sex, site. An unknown value is absent, a wrong one an error."""

from __future__ import annotations

from derm_ml.sources.csv_table import Row

_SEXES = {"male": "male", "m": "male", "female": "female", "f": "female"}
OLDEST = 120.0  # years; a larger age is a typing error


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
        raise row.error(f"{sex} is '{person}'", "write male, female or unknown")
    if person:
        found["sex"] = _SEXES[person]
    if row.get(site):
        found["site"] = row.get(site).lower()
    return found
