"""The silent trial as a check of promotion: asked for where the policy names `trial_patients`, else told if there is
one.

verdict = tried(task, candidate, champion, data)      None: nothing is asked for, and nothing there
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from derm_ml.evaluation.verdicts import FAILED, NOTED, PASSED, UNKNOWN, Verdict
from derm_ml.promotion.policy import Policy

if TYPE_CHECKING:
    from derm_ml.promotion.contract import Data
    from derm_ml.promotion.evidence import Evidence
    from derm_ml.task import Task

CHECK = "silent_trial"
HAZARD = "a model that does worse on today's images than on the test split"


def tried(task: Task, candidate: Evidence, champion: Evidence | None, data: Data) -> Verdict | None:
    """What the trial of a candidate beside the champion has shown, counted again from its cases."""
    from derm_ml.promotion.trial import SUMMARY, Trial, TrialError  # tables, which no code location needs to load

    policy = Policy.of(task)
    needed = policy.trial_patients
    if champion is None:
        said = "there is no champion that it could have been tried beside"
        return Verdict(CHECK, said, NOTED, HAZARD, blocking=False) if needed else None
    folder = data.trial(task, candidate.model_version, champion.model_version)
    if not (folder / SUMMARY).is_file():
        said = (
            f"the policy asks for a trial with {needed} patients beside the champion, {champion.model_version}; none "
            f"of {candidate.model_version} is kept: let it answer unseen, then `derm trial {task.name} --labels FILE`"
        )
        return Verdict(CHECK, said, UNKNOWN, HAZARD, needed=True) if needed else None
    try:
        trial = Trial.read(folder)
    except TrialError as error:
        return Verdict(CHECK, str(error), FAILED, HAZARD, blocking=bool(needed))
    if not needed:
        return Verdict(CHECK, str(trial), NOTED, HAZARD, blocking=False)
    if (trial.task, trial.challenger, trial.champion) != (task.name, candidate.model_version, champion.model_version):
        said = f"{folder} is of {trial.challenger} beside {trial.champion}: run `derm trial` again"
        return Verdict(CHECK, said, FAILED, HAZARD)
    if trial.difference is None or trial.patients < needed:
        said = f"{trial}; the policy asks for {needed} patients"
        return Verdict(CHECK, said, UNKNOWN, HAZARD, needed=True)
    good = trial.difference.low > policy.least_difference
    said = f"{trial}; it must lie above {policy.least_difference:+g}"
    return Verdict(CHECK, said, PASSED if good else FAILED, HAZARD)
