"""What a network made of the images of one question, for whoever wants to record it beside the answer.

    with embeddings_seen() as seen:
        answer = task.answer(predictor, image, options)
    seen                                 # [(N, D) float32, …] of every call of a classifier inside

It holds for this thread (or task) alone.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

import numpy as np

_WANTED: ContextVar[list[np.ndarray] | None] = ContextVar("derm_embeddings", default=None)


@contextmanager
def embeddings_seen() -> Iterator[list[np.ndarray]]:
    """Collect the embeddings of the calls inside."""
    seen: list[np.ndarray] = []
    token = _WANTED.set(seen)
    try:
        yield seen
    finally:
        _WANTED.reset(token)


def saw(embedding: np.ndarray) -> None:
    """Tell whoever listens of the embeddings (N, D) of one call."""
    wanted = _WANTED.get()
    if wanted is not None:
        wanted.append(embedding)
