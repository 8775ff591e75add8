"""Checks and what came of them: check, evidence, verdict, the hazard it controls.

The same rows open a report and stand in `derm promote --dry-run`, in Dagster and in the ledger.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from derm_ml.task import Finding, Gate

PASSED, FAILED, UNKNOWN = "passed", "failed", "not enough data"
NOTED = "for information"  # it decides nothing, whatever it is


@dataclass(frozen=True, slots=True)
class Verdict:
    """One check: `evidence` is a sentence, `verdict` passed, failed or not enough data; a failed one that does not
    block is a warning. One without enough data refuses promotion where it is `needed`."""

    check: str
    evidence: str
    verdict: str
    hazard: str = ""
    blocking: bool = True
    value: str = ""
    limit: str = ""
    needed: bool = False

    @classmethod
    def of(cls, gate: Gate, finding: Finding) -> Verdict:
        said = PASSED if finding.passed else FAILED if finding.evaluable else UNKNOWN
        return cls(
            gate.name, finding.message, said, gate.hazard, gate.blocking, finding.value, finding.limit, finding.needed
        )

    @classmethod
    def against(cls, check: str, reasons: Sequence[str], otherwise: str, hazard: str) -> Verdict:
        """Failed for these reasons, else passed, which `otherwise` says."""
        return cls(check, "; ".join(reasons) or otherwise, FAILED if reasons else PASSED, hazard)

    @property
    def title(self) -> str:
        """The check's name as people read it."""
        return self.check.replace("recall", "sensitivity")

    @property
    def stops(self) -> bool:
        """Whether it refuses promotion."""
        return self.blocking and (self.verdict == FAILED or (self.verdict == UNKNOWN and self.needed))

    @property
    def words(self) -> str:
        """The verdict, `failed (warning)` where it does not block."""
        return f"{self.verdict} (warning)" if self.verdict == FAILED and not self.blocking else self.verdict

    @property
    def row(self) -> dict[str, str]:
        return {"check": self.check, "evidence": self.evidence, "verdict": self.words, "hazard": self.hazard}


def unchecked(checks: Iterable[Verdict]) -> tuple[str, ...]:
    """A sentence for each blocking check nobody could carry out and that does not refuse for it: it must not pass in
    silence."""
    return tuple(too_little(v) for v in checks if v.blocking and v.verdict == UNKNOWN and not v.needed)


def too_little(verdict: Verdict) -> str:
    """That a check could not be carried out, and why."""
    return f"not enough data for the check {verdict.check}: {verdict.evidence.removeprefix('not checked: ')}"


READY, NOT_READY = "ready", "not ready"


@dataclass(frozen=True, slots=True)
class Conclusion:
    """What all checks of a model come to: `state` is ready, not ready or not enough data; `why` is a sentence."""

    state: str
    title: str
    why: str

    @classmethod
    def of(cls, checks: Sequence[Verdict], elsewhere: str = "") -> Conclusion:
        """Of the checks that block; those that warn are named with them. `elsewhere` says where it was measured if that
        is not the model's own test split: no promotion rests on it, however the checks come out.
        """
        failed = [v.title for v in checks if v.verdict == FAILED and v.blocking]
        warned = [v.title for v in checks if v.verdict == FAILED and not v.blocking]
        unknown = [v.title for v in checks if v.verdict == UNKNOWN]
        warnings = f" Warnings, which refuse nothing: {_named(warned)}." if warned else ""
        if elsewhere:
            missed = (
                f"{len(failed)} of {len(checks)} checks failed: {_named(failed)}." if failed else "No check failed."
            )
            why = f"Measured on {elsewhere}; promotion reads the model's own test split only. {missed}{warnings}"
            return cls(UNKNOWN, "No evidence for promotion", why)
        if failed:
            more = f" Not enough data for {_named(unknown)}." if unknown else ""
            why = f"{len(failed)} of {len(checks)} checks failed: {_named(failed)}.{more}{warnings}"
            return cls(NOT_READY, "Not ready to promote", why)
        if any(v.blocking and v.verdict == UNKNOWN for v in checks):
            why = f"{len(unknown)} of {len(checks)} checks could not be carried out: {_named(unknown)}.{warnings}"
            return cls(UNKNOWN, "Not enough data", why)
        warnings += f" Not enough data for {_named(unknown)}." if unknown else ""
        done = len(checks) - len(unknown)
        why = (
            f"No check of the model that refuses promotion failed ({done} were carried out). Promotion also checks the "
            f"files, the data and the licences, and compares with the champion.{warnings}"
        )
        return cls(READY, "Ready to promote", why)


def ordered(checks: Iterable[Verdict]) -> list[Verdict]:
    """What refuses first, then warnings, what could not be checked, and what passed."""
    rank = {FAILED: 0, UNKNOWN: 2, PASSED: 3, NOTED: 4}
    return sorted(checks, key=lambda v: rank[v.verdict] + (v.verdict == FAILED and not v.blocking))


def _named(names: Sequence[str]) -> str:
    return ", ".join(name.replace("_", " ") for name in names)
