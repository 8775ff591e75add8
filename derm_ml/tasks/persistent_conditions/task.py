"""persistent_conditions: which of the conditions boxed at one visit are still there at the next."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from derm_ml.data.rules import images_decode, no_duplicates_across_splits, patients_do_not_cross_splits
from derm_ml.task import Artifact, DataRule, Finding, Gate, NamedLabels, Task
from derm_ml.tasks.persistent_conditions.asking import ASKING
from derm_ml.tasks.persistent_conditions.recipes import Both, Classical, Drawn, Learned
from derm_ml.tasks.persistent_conditions.rules import (
    a_pair_shows_one_patient,
    boxes_lie_inside_the_picture,
    every_split_has_boxes,
    labels_of_boxes_are_known,
)

if TYPE_CHECKING:
    from derm_ml.data.dataset import Dataset
    from derm_ml.evaluation.record import Evaluation
    from derm_ml.metrics.metric import Metric
    from derm_ml.pairs.predictor import PairPredictor


SURE = 0.95  # the bar of refusals, either way
ENOUGH = 59  # pairs without a failure prove it: 0.95 ** 59 < 0.05


class PairPrepareSettings(NamedLabels):
    """Photos are kept larger than elsewhere: a comedone has a hundredth of a face."""

    store_side: int = 1024


def lesions_are_matched_better_than_by_overlap(evaluation: Evaluation) -> Finding:
    """The lower bound of the matching F1 lies above what overlap without registration reaches."""
    ours, plain = evaluation.metrics["match_f1"], evaluation.metrics["match_f1_unregistered"]
    if ours.value is None or plain.value is None:
        return Finding.not_enough_data(f"the matching F1 is undefined: {ours.note or plain.note}")
    low = ours.value if ours.low is None else ours.low
    said = f"F1 {ours.value:.3f} (from {low:.3f}, {ours.n} pairs), overlap alone {plain.value:.3f}"
    return Finding(
        low > plain.value,
        said,
        figures={"match_f1": ours.value},
        value=ours.short,
        limit=f"lower bound above {plain.value:.3f} (overlap alone)",
    )


def wrong_persons_are_refused(evaluation: Evaluation) -> Finding:
    """At least 95 % of the pairs of two people are refused, and at least 95 % of those of one person are answered.

    Pairs of one person are those of two photos in other light, where there are any: a made second visit is easy. With
    59 pairs or more, which would prove 95 % if none failed, the share itself must reach the bar. With fewer the check
    fails only if the whole interval misses it; otherwise there are not enough data, and it says how many are needed.
    """
    wrong, right = evaluation.metrics["wrong_refused"], evaluation.metrics["same_person_refused"]
    right = evaluation.metrics["right_refused"] if right.value is None else right
    found = (
        _reaches(wrong, False, "pairs of two people refused"),
        _reaches(right, True, "pairs of one person answered"),
    )
    outcomes = [passed for passed, _ in found]
    return Finding(
        all(outcomes),
        "; ".join(said for _, said in found),
        evaluable=all(outcomes) or False in outcomes,
        needed=any(metric.value is None for metric in (wrong, right)),
        limit=f"at least {SURE:.0%} of both",
    )


def _reaches(refused: Metric, is_right: bool, what: str) -> tuple[bool | None, str]:
    """Whether the share of pairs that are refused (or, of right ones, not) reaches `SURE` (None: too few pairs to
    tell), and the sentence for it."""
    if refused.value is None or refused.low is None or refused.high is None:
        return None, f"{what}: {refused}"
    share, low, high = refused.value, refused.low, refused.high
    if is_right:
        share, low, high = 1 - share, 1 - high, 1 - low
    said = f"{share:.1%} of {refused.n} {what} (95 % {low:.1%} to {high:.1%})"
    if high < SURE or (refused.n >= ENOUGH and share < SURE):
        return False, f"{said}: below {SURE:.0%}"
    if refused.n < ENOUGH:
        return None, f"{said}: too few to claim {SURE:.0%}, {ENOUGH} are needed"
    return True, f"{said}: {SURE:.0%} is reached{'' if low >= SURE else ', not proven'}"


def confidence_is_calibrated(evaluation: Evaluation) -> Finding:
    """The expected calibration error of the match confidence is at most 0.10 beyond chance."""
    from derm_ml.evaluation.gates import calibrated_within

    return calibrated_within(0.10, evaluation)


def matched_pairs(predictor: PairPredictor, dataset: Dataset, folder: Path) -> Mapping[str, Path]:
    """Pairs of the test split with their matches drawn: lines, and a colour for each state."""
    from derm_ml.pairs.sheets import matched_pair_sheet
    from derm_ml.tasks.persistent_conditions.visits import visit_numbers

    return matched_pair_sheet(predictor, dataset, folder, visit_numbers)


TASK = Task(
    name="persistent_conditions",
    title="Which skin conditions are still there at the next visit",
    labels=("pimple", "comedone", "dark_spot", "atrophic_scar", "other_scar", "dark_circle", "nodule"),
    recipes={"classical": Classical, "learned": Learned, "both": Both, "drawn": Drawn},
    asking=ASKING,
    primary_metric="match_f1",
    rules=(
        DataRule("patients_do_not_cross_splits", patients_do_not_cross_splits),
        DataRule("no_duplicates_across_splits", no_duplicates_across_splits),
        DataRule("images_decode", images_decode),
        DataRule("a_pair_shows_one_patient", a_pair_shows_one_patient),
        DataRule("boxes_lie_inside_the_picture", boxes_lie_inside_the_picture),
        DataRule("labels_of_boxes_are_known", labels_of_boxes_are_known),
        DataRule("every_split_has_boxes", every_split_has_boxes, more_data_may_help=True),
    ),
    gates=(
        Gate("lesions_are_matched_better_than_by_overlap", lesions_are_matched_better_than_by_overlap),
        Gate("wrong_persons_are_refused", wrong_persons_are_refused),
        Gate("confidence_is_calibrated", confidence_is_calibrated, blocking=False),
    ),
    artifacts=(Artifact("matched_pairs", matched_pairs),),
    settings=PairPrepareSettings,
    ratios={
        "match_f1": ({"n_matched": 2}, {"n_predicted": 1, "n_true": 1}),
        "state_accuracy": ({"n_states_correct": 1}, {"n_states": 1}),
    },
    serving_packages=("dlib-bin", "safetensors", "scipy"),
)
