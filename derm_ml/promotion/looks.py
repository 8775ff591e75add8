"""How many models were looked at on a test split: who looks often enough finds one that is better there by luck.

    looks = Looks(ledger)
    looks.add(split_hash, network, model_version, "evaluate")   once a model and split, whoever looks first
    looks.at(split_hash, besides=champion).reach                standard deviations an interval reaches to either side

Counted is every model whose metrics on that split somebody could read: `derm evaluate`, the asset `evaluation`, a
promotion and its dry run. They stand in `<task>.looks.jsonl` beside the promotion ledger, chained like it; each
decision in the ledger repeats the count, so that losing the file forgets only what was looked at since.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from derm_ml.promotion.contract import SPLIT
from derm_ml.promotion.evidence import network_of
from derm_ml.promotion.ledger import Ledger, LedgerError

if TYPE_CHECKING:
    from derm_ml.bundles.bundle import BundleCard
    from derm_ml.evaluation.record import Evaluation

AUTOMATION = "automation"  # how a model is looked at that no person chose: nothing was tuned by its result
LEVEL = 0.95


@dataclass(frozen=True, slots=True)
class Looked:
    """Models compared with the champion on one test split: by `people`, and by the `automation` alone."""

    people: int = 1
    automation: int = 0

    @property
    def models(self) -> int:
        return self.people + self.automation

    @property
    def reach(self) -> float:
        """Standard deviations to either side of a difference, for one error in 20 over all these looks.

        1.96 for one look. A person may have built a model from what the test split said of the ones before, so the
        interval holds for every mixture of theirs at once (Scheffé, Biometrika 40, 1953: the root of a quantile of
        chi-squared with as many degrees of freedom as models). What the automation trains knows no test result: those
        are independent looks, of which each gets its share of the error (Bonferroni).
        """
        from scipy.stats import chi2  # whoever only reads a policy does not pay for it

        shares = self.automation + (self.people > 0)
        return math.sqrt(float(chi2.isf((1 - LEVEL) / max(1, shares), max(1, self.people))))

    def __str__(self) -> str:
        by_itself = f", {self.automation} of them by the automation" if self.automation else ""
        return f"{self.models} models looked at on this test split{by_itself}"


def count_look(ledger: Ledger, evaluation: Evaluation, card: BundleCard, how: str) -> None:
    """Count an evaluation on the test split beside the promotion ledger; on other splits nothing."""
    if evaluation.split == SPLIT:
        Looks(ledger).add(evaluation.split_hash, network_of(card), evaluation.model_version, how)


class Looks:
    """The looks at the test splits of one task."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._file = Ledger(ledger.lines.beside("looks"))

    def add(self, split_hash: str, network: str, model_version: str, how: str) -> None:
        """Count a model on a split, unless it is counted there; recalibrated, its `network` is the same model.

        A damaged file is put aside; what can be read of it stays counted. Raises `WriteError` or `SharedPlaceError`
        where the place of the ledger cannot be written.
        """
        name = network or model_version
        with self._file.locked():
            if name in self._names(split_hash):
                return
            entry = {"event": "looked", "split_hash": split_hash, "name": name, "how": how}
            try:
                self._file.append({**entry, "model_version": model_version})
            except LedgerError:
                kept = [e for e in self._file.unverified() if e.get("event") in ("looked", "kept")]
                self._file.restart({"event": "kept", "looks": [look for e in kept for look in e.get("looks", [e])]})
                self._file.append({**entry, "model_version": model_version})

    def at(self, split_hash: str, besides: str = "") -> Looked:
        """What was looked at on a split, without the model named `besides`: the champion, which was not compared."""
        names = {name: how for name, how in self._names(split_hash).items() if name != besides}
        automation = sum(how == AUTOMATION for how in names.values())
        people = len(names) - automation
        with contextlib.suppress(LedgerError):  # promotion itself refuses a damaged ledger
            for entry in self._ledger.entries():
                if _split_of(entry) == split_hash and "looked" in entry:
                    people = max(people, int(entry["looked"]["people"]))
                    automation = max(automation, int(entry["looked"]["automation"]))
        return Looked(people, automation) if people + automation else Looked()

    def _names(self, split_hash: str) -> dict[str, str]:
        """The models looked at on a split, and how: from the file, and from decisions older than it."""
        names: dict[str, str] = {}
        for entry in self._ledger.unverified():
            evidence = entry.get("evidence") or {}
            if _split_of(entry) == split_hash:
                names.setdefault(str(evidence.get("network") or evidence.get("model_version")), "promote")
        for entry in self._file.unverified():
            for look in entry.get("looks", [entry]):
                if look.get("split_hash") == split_hash and look.get("name"):
                    names[str(look["name"])] = str(look.get("how", ""))
        return names


def _split_of(entry: Mapping[str, Any]) -> str:
    return str((entry.get("evidence") or {}).get("split_hash", ""))
