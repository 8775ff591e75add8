"""Neutral ids from a terminal: what stands for a patient outside of this installation."""

from __future__ import annotations

from typing import Annotated, Literal

import typer

from derm_ml.neutral_ids import installation_ids
from derm_ml.records import normal_id


def neutral_id(
    kind: Annotated[Literal["patient", "image"], typer.Argument(help="what the ID is of", show_default=False)],
    given: Annotated[str, typer.Argument(metavar="ID", help="as the lists of the data set have it")],
) -> None:
    """Print the neutral ID that stands for a patient or an image in everything that leaves this machine."""
    print(installation_ids().of(kind, normal_id(given) if kind == "patient" else given))
