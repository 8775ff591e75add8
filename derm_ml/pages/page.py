"""The frame of every page: a template of some room, filled into `base.html.j2`.

    page = template("derm_ml.evaluation", "report.html.j2", words=headed)
    text = page.render(evaluation=…)

A page loads nothing from elsewhere, which its own policy (a meta element) enforces in the browser; all text in it is
escaped; it adapts to phones, dark mode and print.
"""

from __future__ import annotations

import base64
from collections.abc import Callable
from functools import cache
from typing import TYPE_CHECKING, Any

from derm_ml import RESEARCH_USE

if TYPE_CHECKING:
    import jinja2

FRAME = "derm_ml.pages"  # where base.html.j2 lies


def template(package: str, name: str, **filters: Callable[..., Any]) -> jinja2.Template:
    """The template `name` that lies in `package`, with `filters` by name. It may extend `base.html.j2`.

    A value that a template names and nobody gives is an error, not an empty place.
    """
    environment = _environment(package)
    environment.filters |= filters
    return environment.get_template(name)


def embedded(png: bytes) -> str:
    """A PNG as the address of an image."""
    return f"data:image/png;base64,{base64.b64encode(png).decode('ascii')}"


def embedded_jpeg(jpeg: bytes) -> str:
    """A JPEG as the address of an image."""
    return f"data:image/jpeg;base64,{base64.b64encode(jpeg).decode('ascii')}"


@cache
def _environment(package: str) -> jinja2.Environment:
    import jinja2  # a code location that only lists results does not pay for it

    environment = jinja2.Environment(
        loader=jinja2.ChoiceLoader([jinja2.PackageLoader(package, "."), jinja2.PackageLoader(FRAME, ".")]),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.globals["research_use"] = RESEARCH_USE
    environment.filters |= {"embedded": embedded, "jpeg": embedded_jpeg}
    return environment
