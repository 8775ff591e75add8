"""`derm`: every step of the platform from a terminal, with the defaults Dagster uses.

One task from pictures to answers:

    derm draw lesion_classification --n 240         draw a small labelled set
    derm prepare lesion_classification              raw folder → dataset
    derm fit lesion_classification                  dataset → bundle
    derm evaluate lesion_classification MODEL       report with intervals
    derm compare lesion_classification A B          models side by side
    derm predict lesion_classification IMG…         probabilities or masks
    derm similar lesion_classification IMG…         known images like them
    derm make lesion_classification heatmaps MODEL  or embedding_map, …

Research use only: nothing here is a diagnosis.
"""

from __future__ import annotations

import sys

import typer

from derm_ml import DermError
from derm_ml.cli import ask, champion, data, measure, pairs, train
from derm_ml.cli.terminal import notes

VERBS = (
    data.tasks, data.draw, train.demo, data.fetch, data.prepare, data.deliver, data.withdraw, train.fit,
    measure.evaluate, measure.compare,
    ask.predict, ask.explain, train.pseudo_label, pairs.match, ask.similar, train.autoencode, measure.make,
    champion.promote, champion.rollback,
)  # fmt: skip

app = typer.Typer(help=__doc__, no_args_is_help=True, pretty_exceptions_enable=False, rich_markup_mode="markdown")
for verb in VERBS:  # `derm --help` lists them in this order
    app.command()(verb)


def main() -> None:
    """Run the command line; an error the user can act on is one sentence, not a stack trace."""
    try:
        app()
    except DermError as error:
        notes.print(f"[red]derm: {error}", soft_wrap=True)
        sys.exit(2)
