"""A step that fails shows its sentence first: on the run page what went wrong and what to do stand above the trace."""

import functools
import inspect
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import ParamSpec, TypeVar

import dagster as dg

from derm_ml import DermError

P = ParamSpec("P")
R = TypeVar("R")


@contextmanager
def _sentence_first() -> Iterator[None]:
    try:
        yield
    except DermError as error:
        # a second try would fail alike: what it needs is a person, or a machine with room
        raise dg.Failure(str(error), allow_retries=False) from error


def told(step: Callable[P, R]) -> Callable[P, R]:
    """The same step (or generator of check results), a `DermError` of which becomes Dagster's failure with its text."""
    if inspect.isgeneratorfunction(step):

        @functools.wraps(step)
        def each(*arguments: P.args, **named: P.kwargs):
            with _sentence_first():
                yield from step(*arguments, **named)

        return each  # pyright: ignore[reportReturnType]  a generator function is what it was given

    @functools.wraps(step)
    def once(*arguments: P.args, **named: P.kwargs) -> R:
        with _sentence_first():
            return step(*arguments, **named)

    return once
