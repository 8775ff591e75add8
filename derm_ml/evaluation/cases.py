"""A classifier's predictions lined up with the cases they are about: what every classification metric starts from.

Example:
    >>> rows = dataset.split("test")
    >>> cases = Cases.lined_up(predictor.card, rows, predictor([dataset.image(row) for row in rows.to_dict("records")]))
    >>> roc_auc(cases.p("melanoma"), cases.y("melanoma"), cases.groups).n == len(rows)
    True
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd
from scipy.special import expit, softmax

from derm_ml.bundles.bundle import BundleCard
from derm_ml.bundles.classifier import Outputs
from derm_ml.metrics.calibration import one_positive
from derm_ml.metrics.classification import confusion_matrix, known
from derm_ml.records import DataError


@dataclass(frozen=True)
class Cases:
    """N cases, L labels: `probabilities` and `logits` (N, L) float64, `targets` (N, L) of 1, 0 or NaN."""

    card: BundleCard
    frame: pd.DataFrame
    scored: tuple[str, ...]  # the labels whose ranking counts
    negative: str  # what a case without the label is called, if there is one label; "": not_<label>
    decided_at: str  # the operating point at which independent labels are decided
    probabilities: np.ndarray
    logits: np.ndarray
    targets: np.ndarray

    @classmethod
    def lined_up(
        cls,
        card: BundleCard,
        frame: pd.DataFrame,
        outputs: Outputs,
        scored: Sequence[str] = (),
        negative: str = "",
        decided_at: str = "balanced",
    ) -> Cases:
        """Rows of the manifest and outputs in the same order. Raises `DataError` if they cannot be the same cases."""
        if card.head not in ("softmax", "sigmoid"):
            raise DataError(f"a classifier has a softmax or sigmoid head, this bundle's is '{card.head}'")
        unknown = set(scored) - set(card.labels)
        if unknown:
            raise DataError(f"labels to score {sorted(unknown)} are not among the model's: {', '.join(card.labels)}")
        if frame.empty:
            raise DataError("the split has no cases: there is nothing to measure")
        expected = (len(frame), len(card.labels))
        if outputs.probabilities.shape != expected or outputs.logits.shape != expected:
            raise DataError(f"predictions have shape {outputs.probabilities.shape}, the split needs {expected}")
        broken = ~np.isfinite(outputs.logits).all(axis=1)
        if broken.any():
            first = frame["id"].iloc[int(broken.argmax())]
            raise DataError(f"{int(broken.sum())} predictions are not finite, the first is that of {first}")
        return Cases(
            card=card,
            frame=frame.reset_index(drop=True),
            scored=tuple(scored) or card.labels,
            negative=negative if len(card.labels) == 1 else "",
            decided_at=decided_at,
            probabilities=outputs.probabilities.astype(np.float64),
            logits=outputs.logits.astype(np.float64),
            targets=frame[[f"target.{label}" for label in card.labels]].to_numpy(np.float64),
        )

    def __len__(self) -> int:
        return len(self.frame)

    @property
    def labels(self) -> tuple[str, ...]:
        return self.card.labels

    @property
    def exclusive(self) -> bool:
        """True if a case has exactly one label (softmax), False if labels are independent (sigmoid)."""
        return self.card.head == "softmax"

    @cached_property
    def ids(self) -> list[str]:
        return self.frame["id"].astype(str).tolist()

    @cached_property
    def groups(self) -> np.ndarray:
        """(N,) str: what is resampled, the patient where known."""
        return self.frame["group"].to_numpy(str)

    @cached_property
    def uncalibrated(self) -> np.ndarray:
        """(N, L) what the network itself says, before temperature and bias."""
        return softmax(self.logits, axis=1) if self.exclusive else expit(self.logits)

    def columns(self, labels: Sequence[str]) -> list[int]:
        return [self.labels.index(label) for label in labels]

    def p(self, label: str) -> np.ndarray:
        """(N,) probability of a label."""
        return self.probabilities[:, self.labels.index(label)]

    def y(self, label: str) -> np.ndarray:
        """(N,) target of a label."""
        return self.targets[:, self.labels.index(label)]

    @cached_property
    def classed(self) -> np.ndarray:
        """(N,) bool: cases of exactly one known class, which a softmax can get right or wrong."""
        return one_positive(self.targets)

    @cached_property
    def cutoffs(self) -> np.ndarray:
        """(L,) where independent labels are decided: at the point `decided_at`, else `balanced`, else at 0.5."""
        return np.array([self.card.threshold(label, self.decided_at) for label in self.labels])

    def without(self, label: str) -> str:
        """What a case without `label` is called."""
        return self.negative or f"not_{label}"

    def confusion(self) -> tuple[tuple[str, ...], np.ndarray] | None:
        """Names and counts (row = truth), of exclusive classes or of one single label; None for independent labels."""
        if self.exclusive:
            guess, truth = self.probabilities[self.classed].argmax(axis=1), self.targets[self.classed].argmax(axis=1)
            return self.labels, confusion_matrix(guess, truth, len(self.labels))
        if len(self.labels) > 1:
            return None
        label = self.card.labels[0]
        keep = known(self.y(label))
        guess = (self.p(label)[keep] >= self.cutoffs[0]).astype(int)
        return (self.without(label), label), confusion_matrix(guess, self.y(label)[keep].astype(int), 2)

    def co_occurrence(self) -> tuple[np.ndarray, np.ndarray] | None:
        """(L, L) counts of cases that carry both labels, in truth and as decided; None where labels exclude each other.

        A case whose target is unknown for one of the two counts for neither.
        """
        if self.exclusive or len(self.labels) == 1:
            return None
        true = (self.targets == 1).astype(int)
        decided = ((self.probabilities >= self.cutoffs) & known(self.targets)).astype(int)
        return true.T @ true, decided.T @ decided

    def confident_mistakes(self, most: int) -> list[tuple[int, dict[str, Any]]]:
        """(position, row of id, truth, predicted, probability) of the wrong answers the model was surest of.

        Of independent labels both kinds have their share, what was missed and what was flagged for nothing: the
        sureness of the two lies on different sides of a threshold and cannot be compared.
        """

        def sureness(item: tuple[int, dict[str, Any]]) -> tuple[float, str]:
            return -item[1]["probability"], item[1]["id"]

        found = sorted((m for label in self.labels for m in self._mistakes_of(label)), key=sureness)
        if self.exclusive:
            return found[:most]
        missed = [mistake for mistake in found if mistake[1]["truth"] in self.labels]
        for_nothing = [mistake for mistake in found if mistake[1]["truth"] not in self.labels]
        share = max(most // 2, most - len(for_nothing))
        return sorted([*missed[:share], *for_nothing[: most - min(share, len(missed))]], key=sureness)

    def _mistakes_of(self, label: str) -> list[tuple[int, dict[str, Any]]]:
        k = self.labels.index(label)
        p, y = self.p(label), self.y(label)
        if self.exclusive:
            wrong = self.classed & (self.probabilities.argmax(axis=1) == k) & (y == 0)
            sides = [(wrong, label, "", p)]
        else:
            flagged = p >= self.cutoffs[k]
            sides = [
                (flagged & (y == 0), label, self.without(label), p),
                (~flagged & (y == 1), self.without(label), label, 1 - p),
            ]
        return [
            (
                int(i),
                {
                    "id": self.ids[i],
                    "truth": truth or self.labels[int(self.targets[i].argmax())],
                    "predicted": said,
                    "probability": float(sureness[i]),
                },
            )
            for wrong, said, truth, sureness in sides
            for i in np.flatnonzero(wrong)
        ]
