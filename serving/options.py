"""The query parameters of each path, from what the task, and the index of similar images, declare."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache

from derm_ml.asking.options import PREVALENCE, Option, read_options
from derm_ml.bundles.bundle import BundleCard
from derm_ml.embeddings.similar import MOST, K
from derm_ml.registry import all_tasks
from derm_ml.task import Task

SIMILAR_OPTIONS = {
    option.name: option
    for option in (
        Option("k", "how many neighbours", "integer", low=1, high=MOST, default=str(K)),
        Option("patient", "an id of the dataset, or its neutral id: the images of this patient are left out"),
        Option("licence", "names separated by commas: only images under these licences"),
        Option("thumbnails", "a small JPEG of each neighbour", choices=("yes", "no"), default="no"),
    )
}


@cache
def known_anywhere() -> dict[str, Option]:
    """The options of all tasks: a client that asks several services may send all of them the same ones."""
    return {option.name: option for task in all_tasks().values() for option in task.asking.options}


def options_from_query(
    pairs: Sequence[tuple[str, str]], task: Task, card: BundleCard, used_for: str, stated: Mapping[str, str]
) -> tuple[dict[str, str], list[str]]:
    """Query parameters → the options of a question, and the names of those that were sent and have no effect.

    An option of another task, of another path, or one that the loaded model was not trained with is checked, named and
    not used. Raises `AskingError`, which never repeats what was sent. What the service has `stated` of the prevalence
    (`prevalence.stated`) holds where the question says nothing.
    """
    given = read_options(pairs, {**known_anywhere(), **task.asking.known}, card)
    known = task.asking.options_for(used_for)
    used = {name: value for name, value in given.items() if name in known and known[name].is_used_by(card)}
    ignored = [name for name in given if name not in used]
    return {**(stated if PREVALENCE.name in known else {}), **used}, ignored


def drawing_side(options: dict[str, str], card: BundleCard, longest: int) -> dict[str, str]:
    """The options of an explanation with the `size` of its drawing: by default that of a stored image, or `longest`."""
    return {"size": str(min(card.preprocessing.store_side or longest, longest)), **options}
