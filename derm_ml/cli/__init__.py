"""`derm`: every step of the platform from a terminal, with the defaults Dagster uses.

One task from images to answers:

    derm check                                      is everything in place?
    derm status lesion_classification               data, champion, latest trainings
    derm draw lesion_classification --n 240         draw a small labelled set
    derm inspect FOLDER                             what a folder is, and what is in the way
    derm prepare lesion_classification              raw folder → dataset
    derm audit lesion_classification                label errors, off-topic images, shortcuts
    derm fit lesion_classification                  dataset → bundle
    derm evaluate lesion_classification MODEL       report with intervals
    derm compare lesion_classification A B          models side by side
    derm calibrate lesion_classification FOLDER     thresholds for another place
    derm predict lesion_classification IMG…         probabilities or masks
    derm similar lesion_classification IMG…         known images like them
    derm make lesion_classification heatmaps MODEL  or embedding_map, …

Research use only: nothing here is a diagnosis.
"""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from derm_ml import DermError
from derm_ml.cli import (
    ask,
    calibrate,
    chain,
    champion,
    data,
    ids,
    inspect,
    installed,
    measure,
    pairs,
    prevalence,
    quality,
    recipes,
    status,
    train,
    trial,
)
from derm_ml.cli.terminal import notes, out_console, print_line
from derm_ml.entrance import enter
from derm_ml.ranks import end_with_starter, this_rank, told_starter

INTERRUPTED = 130  # 128 + SIGINT, as a shell counts
VERBS = (
    data.tasks, recipes.recipe, status.status, installed.check,
    data.draw, train.demo, data.fetch, inspect.inspect, data.prepare, data.deliver, data.withdraw,
    quality.audit, quality.relabel,
    train.fit,
    measure.evaluate, measure.compare, calibrate.calibrate,
    ask.predict, ask.explain, train.pseudo_label, pairs.match, ask.similar, train.autoencode, measure.make,
    train.sign, champion.promote, champion.approve, champion.rollback, champion.reinstate, champion.champion,
    champion.share_ledger, champion.history, champion.doctor, chain.trace, chain.records, chain.drift, trial.trial,
    prevalence.prevalence, ids.neutral_id,
)  # fmt: skip

app = typer.Typer(no_args_is_help=True, pretty_exceptions_enable=False, rich_markup_mode="markdown")


def _say_version(asked: bool) -> None:
    if asked:
        print_line(f"derm {installed.platform_version()}")
        raise typer.Exit


@app.callback(help=__doc__)
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_say_version, is_eager=True, help="say which version is installed")
    ] = False,
) -> None: ...


for verb in VERBS:  # `derm --help` lists them in this order
    app.command()(verb)

_NAMES = {verb.__name__.replace("_", "-") for verb in VERBS}


def main() -> None:
    """Run the command line; an error the user can act on is one sentence, not a stack trace."""
    if len(sys.argv) < 2:
        app(["--help"], prog_name="derm", standalone_mode=False)
        sys.exit(2)  # no verb was named
    try:
        enter()
        end_with_starter()
        notes.quiet = out_console.quiet = not this_rank().leads
        code = app(prog_name="derm", standalone_mode=False)
    except typer.TyperException as error:  # a wrong option or argument
        verb = next((f" {word}" for word in sys.argv[1:2] if word in _NAMES), "")
        _say(f"{error.format_message().rstrip('.')}; `derm{verb} --help` lists what there is")
        sys.exit(2)
    except DermError as error:
        if not told_starter(error):
            _say(str(error))
        sys.exit(2)
    if code == INTERRUPTED:
        _say("interrupted; what was answered or finished before stands")
    sys.exit(code or 0)


def _say(sentence: str) -> None:
    notes.quiet = False  # an error is said by whichever process has it
    notes.print(f"derm: {sentence}", style="red", soft_wrap=True, markup=False, highlight=False)
