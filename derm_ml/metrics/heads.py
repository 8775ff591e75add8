"""The heads of classifiers. Apart from what computes with them: a service reads a card without SciPy."""

from __future__ import annotations

from typing import Literal

ClassifierHead = Literal["softmax", "sigmoid"]  # labels that exclude each other; independent ones, or a single one
