"""What a promotion looked at, as one table: check, evidence, verdict, the hazard it controls.

table(evidence, decision)                 the same rows in `derm promote --dry-run`, in Dagster and in the ledger
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from derm_ml.task import Finding, Gate

PASSED, FAILED, UNKNOWN = "passed", "failed", "not enough data"


@dataclass(frozen=True, slots=True)
class Verdict:
    """One check: `evidence` is a sentence, `verdict` passed, failed or not enough data; a failed one that does not
    block is a warning."""

    check: str
    evidence: str
    verdict: str
    hazard: str = ""
    blocking: bool = True

    @classmethod
    def of(cls, gate: Gate, finding: Finding) -> Verdict:
        said = PASSED if finding.passed else FAILED if finding.evaluable else UNKNOWN
        return cls(gate.name, finding.message, said, gate.hazard, gate.blocking)

    @classmethod
    def against(cls, check: str, reasons: Sequence[str], otherwise: str, hazard: str) -> Verdict:
        """Failed for these reasons, else passed, which `otherwise` says."""
        return cls(check, "; ".join(reasons) or otherwise, FAILED if reasons else PASSED, hazard)

    @property
    def words(self) -> str:
        """The verdict, `failed (warning)` where it does not block."""
        return f"{self.verdict} (warning)" if self.verdict == FAILED and not self.blocking else self.verdict

    @property
    def row(self) -> dict[str, str]:
        return {"check": self.check, "evidence": self.evidence, "verdict": self.words, "hazard": self.hazard}


def unchecked(checks: Iterable[Verdict]) -> tuple[str, ...]:
    """A sentence for each blocking check nobody could carry out: it must not pass in silence."""
    return tuple(
        f"not enough data for the check {v.check}: {v.evidence.removeprefix('not checked: ')}"
        for v in checks
        if v.blocking and v.verdict == UNKNOWN
    )
