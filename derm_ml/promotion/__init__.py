"""Which model is the champion of a task, decided on evidence that is read again at that moment.

    contract.py     what promotion asks of a registry and of the data
    evidence.py     what the files of one model say now: metrics recounted, cases predicted again, checks run again
    decision.py     pure: the same evidence, the same decision
    looks.py        how many models were looked at on a test split, and how much wider that makes an interval
    ledger.py       every decision, chained; who is champion, who was, what was withdrawn
    approval.py     a person approves a challenger
    external_gate.py  what a candidate reaches on a set from elsewhere, where the policy asks for that
    trial.py        a challenger that answered unseen, judged by labels that came later; trial_gate.py asks for it
    transaction.py  promote, roll back, reinstate: decide → alias → ledger, finished by the next call after a crash
    doctor.py       do ledger, registry and files agree, and if not: repair

`derm promote <task> <model> --dry-run` shows the decision and changes nothing.
"""

from derm_ml.promotion.contract import (
    CHALLENGER,
    CHAMPION,
    PREVIOUS,
    SPLIT,
    Data,
    ModelVersion,
    PromotionError,
    Registry,
    Versions,
)

__all__ = (
    "CHALLENGER",
    "CHAMPION",
    "PREVIOUS",
    "SPLIT",
    "Data",
    "ModelVersion",
    "PromotionError",
    "Registry",
    "Versions",
)
