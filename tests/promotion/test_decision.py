"""The decision: who would be harmed by each refusal that does not happen is a patient."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from derm_ml.metrics.intervals import Difference
from derm_ml.promotion.decision import Decision, decide
from derm_ml.promotion.evidence import Evidence
from derm_ml.promotion.looks import Looked
from derm_ml.promotion.policy import Policy

POLICY = Policy(floor=0.6, margin=0.01)
CLEAR = Difference(0.05, 0.01, 0.09, 0.01, 100, groups=80)
GOOD = Evidence("aaa", "strong", "d1.dir", "split1", "e1", 100, 0.90, 0.85, 0.95)


def against(candidate: Evidence, champion: Evidence | None = None) -> Decision:
    return decide(candidate, champion, POLICY, "auc_mean", champion and CLEAR)


def test_a_good_first_model_becomes_champion():
    assert against(GOOD).promote


def test_a_better_model_replaces_the_champion():
    decision = against(GOOD, replace(GOOD, value=0.85))
    assert decision.promote
    assert "0.9000 against the champion's 0.8500" in decision.reasons[0]


@pytest.mark.parametrize(
    ("candidate", "champion", "reason"),
    [
        (
            replace(GOOD, red=("a blocking check fails: ranks_better_than_chance: no",)),
            None,
            "a blocking check fails: ranks",
        ),
        (replace(GOOD, red=("not enough data for the check recall: none",)), None, "not enough data for the check"),
        (replace(GOOD, faults=("the evaluation is of model x",)), None, "the evaluation is of model x"),
        (replace(GOOD, unfit=("the model card says nothing under 'risks'",)), None, "says nothing under 'risks'"),
        (replace(GOOD, value=None), None, "missing or undefined"),
        (replace(GOOD, value=float("nan")), None, "missing or undefined"),
        (replace(GOOD, value=float("inf")), None, "missing or undefined"),
        (replace(GOOD, value=0.59), None, "below the floor"),
        (GOOD, GOOD, "is not better than"),
        (GOOD, replace(GOOD, value=0.895), "is not better than"),
        (GOOD, replace(GOOD, value=0.95), "is not better than"),
        (GOOD, replace(GOOD, value=0.7, split_hash="split2"), "measured on split split1, the champion on split split2"),
        (GOOD, replace(GOOD, value=None), "the champion's mean AUC is missing"),
        (GOOD, replace(GOOD, value=0.7, faults=("damaged",)), "the champion's evidence cannot be used: damaged"),
        (replace(GOOD, red_data=("patients_do_not_cross_splits: 1",)), None, "a blocking data check fails: patients"),
        (replace(GOOD, flattered=("3 of the 9 test images",)), None, "3 of the 9 test images"),
        (replace(GOOD, network="n"), replace(GOOD, value=0.7, network="n"), "own network with another calibration"),
        (GOOD, replace(GOOD, value=0.99, flattered=("it knows",)), "the champion's value may be too good: it knows"),
    ],
)
def test_it_is_refused_with_its_reason(candidate, champion, reason):
    decision = against(candidate, champion)
    assert not decision.promote
    assert any(reason in said for said in decision.reasons)


@pytest.mark.parametrize(
    ("low", "high", "promoted"),
    [(0.001, 0.09, True), (-0.019, 0.1, True), (-0.021, 0.1, False), (-0.2, -0.1, False)],
)
def test_the_paired_test_is_one_of_non_inferiority_to_the_champion(low, high, promoted):
    """A higher AUC on 50 patients can be luck: the interval of the difference says how bad the luck may be."""
    policy = Policy(floor=0.6, worse_by=0.02)
    paired = Difference(0.05, low, high, 0.1, 100, groups=50)
    decision = decide(GOOD, replace(GOOD, value=0.85), policy, "auc_mean", paired)
    assert decision.promote is promoted
    assert f"{low:+.4f} to {high:+.4f}" in decision.reasons[0]


@pytest.mark.parametrize(("low", "promoted"), [(0.001, True), (0.0, False), (-0.001, False)])
def test_or_one_of_superiority_where_the_policy_says_so_or_nothing(low, promoted):
    for policy in (Policy(floor=0.6), Policy(floor=0.6, superiority=True)):
        paired = Difference(0.05, low, 0.09, 0.1, 100, groups=50)
        decision = decide(GOOD, replace(GOOD, value=0.85), policy, "auc_mean", paired)
        assert decision.promote is promoted
        assert ("not shown to be better" in decision.reasons[0]) is not promoted


@pytest.mark.parametrize("both", [{"superiority": True, "worse_by": 0.02}, {"superiority": False}])
def test_a_policy_asks_for_exactly_one_of_the_two_tests(both):
    with pytest.raises(ValueError, match="one paired test"):
        Policy(floor=0.6, **both)


def test_few_patients_decide_nothing_between_two_models():
    """29 patients with 500 images: whichever model is better on them, that is a coin."""
    few = replace(CLEAR, groups=29)
    decision = decide(GOOD, replace(GOOD, value=0.85), POLICY, "auc_mean", few)
    assert not decision.promote
    assert decision.reasons == ("not enough data: the test split has 29 patients, a comparison needs 30",)


def test_the_floor_holds_after_what_luck_adds_is_taken_off():
    """The best of many models without merit lies above a floor that none of them reaches on other data."""
    barely = replace(GOOD, value=0.62, low=0.58)
    assert decide(barely, None, POLICY, "auc_mean", looked=Looked(1)).promote
    decision = decide(barely, None, POLICY, "auc_mean", looked=Looked(20))
    assert not decision.promote
    assert "20 models looked at on this test split can gain by luck" in decision.reasons[0]
    assert decide(GOOD, None, POLICY, "auc_mean", looked=Looked(20)).promote


def test_a_champion_that_knows_test_images_can_be_beaten():
    """It only raises the bar: refusing every candidate because of it would keep it for ever."""
    assert against(GOOD, replace(GOOD, value=0.8, flattered=("it knows some",))).promote


def test_where_the_paired_test_is_asked_for_and_cannot_be_made_nothing_is_promoted():
    decision = decide(GOOD, replace(GOOD, value=0.85), Policy(floor=0.6, worse_by=0.02), "auc_mean", None)
    assert not decision.promote
    assert "cannot be computed" in decision.reasons[0]


numbers = st.one_of(st.none(), st.floats(allow_nan=True, allow_infinity=True))


@given(numbers, st.one_of(st.none(), numbers), st.booleans(), st.booleans())
def test_whatever_the_numbers_a_worse_model_never_wins(value, champion_value, red, other_split):
    """The property behind all cases above: promotion needs a finite, better number and no reason against it."""
    candidate = replace(GOOD, value=value, red=("gate: no",) if red else ())
    champion = replace(GOOD, value=champion_value, split_hash="other" if other_split else GOOD.split_hash)
    decision = against(candidate, champion)
    assert decision.reasons
    if decision.promote:
        assert not red
        assert not other_split
        assert value > champion_value + POLICY.margin
        assert value >= POLICY.floor
