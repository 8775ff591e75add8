"""Assignment, calibration, refusal and states: what a person reads off the answer."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from derm_ml.asking.pair import Pair, truth_of_ids
from derm_ml.data.dataset import Dataset
from derm_ml.evaluation.comparison_measures import measures_of
from derm_ml.evaluation.in_words import sentences
from derm_ml.evaluation.record import Evaluation
from derm_ml.metrics.matching import Counts, count, f1
from derm_ml.metrics.metric import Metric
from derm_ml.pairs.cases import Case, Kind, cases
from derm_ml.pairs.evaluation import BASELINES, _predictions, recount_pairs
from derm_ml.pairs.faces.dlib_faces import DlibHog
from derm_ml.pairs.fit import NEVER_HIDDEN, Seen, _plain, _threshold
from derm_ml.pairs.matching import candidates, evidence
from derm_ml.pairs.matching.assign import assign
from derm_ml.pairs.matching.logistic import Logistic, Rows, fit_and_calibrate, fit_logistic, recalibrated
from derm_ml.pairs.matching.matcher import Fate, Match, Matcher, Numbers, Outcome, common_shift
from derm_ml.pairs.matching.original import original_matches
from derm_ml.pairs.measure import PairAnswer, PairResult, measure_cases
from derm_ml.pairs.registration.register import Registrar
from derm_ml.records import Region
from derm_ml.synthetic.faces import draw_face
from derm_ml.synthetic.visit_change import VisitChange
from derm_ml.synthetic.visits import second_visit
from derm_ml.tasks.persistent_conditions.task import TASK


@given(st.integers(0, 6), st.integers(0, 6), st.integers(0, 2**31))
@settings(max_examples=60)
def test_assignment_is_one_to_one_and_beats_every_swap(n, m, seed):
    gain = np.random.default_rng(seed).normal(0.3, 1, (n, m))
    pairs = assign(gain)
    assert len({a for a, _ in pairs}) == len(pairs) == len({b for _, b in pairs})
    assert all(gain[a, b] > 0 for a, b in pairs)
    for k, (a, b) in enumerate(pairs):
        for c, d in pairs[k + 1 :]:
            assert gain[a, b] + gain[c, d] >= max(0, gain[a, d]) + max(0, gain[c, b]) - 1e-9


def test_the_greedy_choice_is_not_taken():
    """Best first would pair 0 with 0 and leave 1 alone."""
    assert assign(np.array([[5.0, 4.0], [4.0, -np.inf]])) == [(0, 1), (1, 0)]


def test_a_logistic_is_scikit_learn_s():
    from sklearn.linear_model import LogisticRegression

    rng = np.random.default_rng(0)
    x = rng.normal(3, 2, (200, 2))
    y = (x[:, 0] - 0.5 * x[:, 1] + rng.normal(0, 1, 200) > 1.5).astype(float)
    ours = fit_logistic(("a", "b"), x, y, strength=1e6)
    theirs = LogisticRegression(C=1e6, max_iter=5000).fit(x, y).predict_proba(x)[:, 1]
    assert np.abs(ours(x) - theirs).max() < 1e-3
    copied = type(ours).model_validate_json(ours.model_dump_json())
    assert np.array_equal(copied(x), ours(x))


def test_calibration_on_new_cases_brings_the_mean_right():
    rng = np.random.default_rng(1)
    x = rng.normal(0, 1, (400, 1))
    sure = fit_logistic(("a",), x, (x[:, 0] > 0).astype(float))
    y = (rng.random(400) < 0.5 + 0.2 * np.sign(x[:, 0])).astype(float)
    assert abs(recalibrated(sure, sure.logits(x), y)(x).mean() - y.mean()) < 0.02


def test_what_a_regression_has_seen_does_not_calibrate_it():
    """Noise learned by heart looks certain on its own people: on others it must be taken back."""
    rng = np.random.default_rng(2)
    names = [f"x{k}" for k in range(30)]  # the first tells a little, the others nothing
    x = rng.normal(0, 1, (100, 30))
    y = (x[:, 0] + rng.normal(0, 1, 100) > 0).astype(float)
    rows = [Rows(frozenset({k % 5}), x[k : k + 1], y[k : k + 1]) for k in range(100)]
    model, unseen = fit_and_calibrate(names, rows, [])
    assert recalibrated(model.model_copy(update={"slope": 1.0, "offset": 0.0}), model.logits(x), y).slope > 1
    assert 0 < model.slope < 0.7
    assert all(said is not None for said in unseen)


def test_a_regression_judges_only_people_it_has_not_seen():
    rows = [Rows(frozenset({k % 4}), np.array([[float(k % 2)]]), np.array([float(k % 2)])) for k in range(40)]
    odd = Rows(frozenset({0, 1, 2, 3}), np.array([[1.0]]), np.array([1.0]))  # shares a fold with everybody
    _, unseen = fit_and_calibrate(("x",), [*rows, odd], [])
    assert unseen[-1] is None
    assert sum(said is None for said in unseen) == 1


def test_the_threshold_of_refusal_looks_at_the_hardest_kind():
    p = np.array([0.99] * 90 + [0.3, 0.6, 0.7, 0.8] + [0.1, 0.2, 0.25, 0.65])
    kinds = ["generated"] * 90 + ["same_person"] * 4 + ["wrong_person"] * 4
    assert 0.25 < _threshold(p, kinds) < 0.6
    assert _threshold(p[:94], kinds[:94]) == 0.5  # nobody to refuse: nothing to choose it by


def test_two_people_are_two_only_if_their_list_names_both():
    """Two photos nobody has named may show one face; patient 1 of one clinic is not patient 1 of another."""
    names = ["a", "b", "c", "d", "e"]
    table = pd.DataFrame(
        {
            "id": names,
            "group": names,
            "split": "test",
            "source": ["x", "x", "x", "x", "y"],
            "patient": ["1", "2", "", "", "1"],
            "second.shard": "00000.tar",
        }
    )
    found = cases(Dataset(Path(), {}, table), "test")
    wrong = [case for case in found if case.kind == "wrong_person"]
    assert {case.people for case in wrong} == {("x/1", "x/2"), ("x/2", "x/1")}
    right = [case.people[0] for case in found if case.kind == "same_person"]
    assert right == ["x/1", "x/2", "group c", "group d", "y/1"]


def test_harder_visits_are_measured_and_not_fitted_on():
    table = pd.DataFrame({"id": ["a"], "group": "a", "split": "test", "source": "x", "patient": "1"})
    dataset = Dataset(Path(), {}, table)
    assert [case.kind for case in cases(dataset, "test", visits=2)] == ["generated"] * 2 + ["harder"] * 2
    assert [case.kind for case in cases(dataset, "test", harder=False)] == ["generated"]


def test_harder_visits_are_in_no_figure_but_their_own():
    """They are as hard as we made them: counted with the others they would move every figure, and every promotion.

    Not in those of `derm compare` either, nor in the sentences of the report, which add up columns.
    """
    names = [f"p{k}" for k in range(6)]
    table = pd.DataFrame({"id": names, "group": names, "split": "test"})
    dataset = Dataset(Path(), {}, table)
    rows, runs = {}, {}
    made = [result(name, "generated", 9 - k % 2, refused=False) for k, name in enumerate(names)]
    for run, matched in (("alone", None), ("both", 0), ("better", 9)):
        harder = [] if matched is None else [result(name, "harder", matched, refused=not matched) for name in names]
        rows[run] = _predictions([*made, *harder], "test")
        runs[run] = recount_pairs(rows[run], dataset, "test")
    own = {"match_f1_harder", "state_accuracy_harder", "harder_refused"}
    for run in ("both", "better"):
        assert {n: v for n, v in runs[run].items() if n not in own} == {
            n: v for n, v in runs["alone"].items() if n not in own
        }
    assert (runs["both"]["match_f1_harder"].value, runs["both"]["harder_refused"].value) == (0.0, 1.0)
    assert runs["alone"]["match_f1_harder"].value is None
    told = [said_by(runs[run], rows[run]) for run in rows]
    measures = {m.name for m in measures_of(told[1:], [rows["both"], rows["better"]], TASK)}
    assert {"match_f1", "state_accuracy"} <= measures
    assert sentences(told[0]) == sentences(told[1]) == sentences(told[2])


def result(name: str, kind: Kind, matched: int, refused: bool) -> PairResult:
    """A pair of ten lesions, of which so many are matched."""
    case = Case(f"{name}~{kind}", name, name, kind, lambda: None, (name, name))
    said = PairAnswer(not refused, "", 0.9, (), ((), ()), (), {}, {})
    counts = Counts(matched, matched, 10, matched, 10)
    baselines = dict.fromkeys(BASELINES, Counts(1, 1, 10, 1, 10))
    return PairResult(case, said, refused, "", 0.9, counts, (0.01,), ((0.9, True),), {}, baselines)


def said_by(metrics: dict[str, Metric], predictions: pd.DataFrame) -> Evaluation:
    return cast("Evaluation", SimpleNamespace(metrics=metrics, labels=["pimple"], tables={}, predictions=predictions))


def test_f1_by_hand():
    counts = count([(0, 0), (1, 2)], [(0, 0), (1, 1), (2, 2)], ["persistent"], ["persistent"])
    assert (counts.n_matched, counts.n_predicted, counts.n_true, counts.n_states_correct) == (1, 2, 3, 1)
    table = [np.array([float(v)]) for v in (counts.n_matched, counts.n_predicted, counts.n_true)]
    assert f1(*table, np.ones((1, 1)))[0] == pytest.approx(2 / 5)


def test_boxes_an_exporter_shifted_are_shifted_back():
    photo = draw_face(3)
    places = [(60, 90), (90, 140), (120, 150), (150, 100), (110, 190), (80, 180)]
    first = tuple(Region("pimple", x - 5, y - 5, x + 5, y + 5) for x, y in places)
    second = tuple(Region("pimple", x + 2, y - 9, x + 12, y + 1) for x, y in places)
    pair = Pair(photo, photo.copy(), first, second)
    assert common_shift(pair, Registrar()(photo, photo.copy())) == pytest.approx([7, -4], abs=0.5)


def test_the_original_takes_one_box_twice():
    """What the faithful baseline shows: several lesions may claim the same partner."""
    from derm_ml.pairs.faces.dlib_faces import DlibHog

    photo = draw_face(1)
    first = (Region("pimple", 100, 100, 120, 120), Region("pimple", 104, 104, 124, 124))
    found = original_matches(Pair(photo, photo, first, first[:1]), DlibHog())
    assert [j for _, j, _ in found] == [0, 0]


def test_ids_tell_the_truth():
    a, b, c = (Region("pimple", 0, 0, 5, 5, name) for name in "abc")
    truth = truth_of_ids(Pair(np.zeros((9, 9, 3), np.uint8), np.zeros((9, 9, 3), np.uint8), (a, b), (c, a)))
    assert truth.matches == ((0, 1),)
    assert truth.states == (("persistent", "resolved"), ("new", "persistent"))


def test_what_nobody_has_said_is_neither_right_nor_wrong():
    """An annotator numbers the lesions that are still there and leaves the rest: the rest is not healed by that."""
    box = Region("pimple", 0, 0, 5, 5)
    photo = np.zeros((9, 9, 3), np.uint8)
    kept, other = replace(box, id="a"), replace(box, id="b")
    hidden, gone = replace(box, state="not_visible"), replace(box, state="resolved")
    truth = truth_of_ids(Pair(photo, photo, (kept, box, other, hidden, gone), (box, kept)))
    assert truth.matches == ((0, 1),)
    # b may be the second photo's box without an id
    assert truth.states == (("persistent", None, None, "not_visible", "resolved"), (None, "persistent"))
    assert truth.judged([(0, 1), (1, 0), (2, 0), (4, 1), (3, 0)]) == [(0, 1), (4, 1)]
    before = ("persistent", "persistent", "resolved", "not_visible", "resolved")
    fates = (tuple(Fate(s, 0.9) for s in before), (Fate("persistent", 0.9), Fate("persistent", 0.9)))
    outcome = Outcome(True, "", 0.9, None, (Match(0, 1, 0.9, 1, 0, 1), Match(1, 0, 0.9, 1, 0, 1)), fates)
    case = Case("x", "x", "x", "delivered", lambda: (Pair(photo, photo, (kept, box), (box, kept)), truth), ("p", "p"))
    (row,) = measure_cases(lambda _: outcome, [case])
    assert row.counts == Counts(n_matched=1, n_predicted=1, n_true=1, n_states_correct=4, n_states=4)
    assert (row.unknown, row.confidences) == (3, ((0.9, True),))


def test_a_box_outside_its_photo_is_named():
    with pytest.raises(ValueError, match="box 0 of the second photo lies outside"):
        Pair(np.zeros((9, 9, 3), np.uint8), np.zeros((9, 9, 3), np.uint8), (), (Region("pimple", 0, 0, 20, 5),))


class Stranger:
    """Takes every face for somebody else's, as a network does with one that is half covered."""

    def signature(self, photo, face, is_mirrored=False):
        return np.ones(2)

    def alike(self, a, b):
        return -0.9


def by_faces_alone() -> Logistic:
    n = len(evidence.NAMES)
    weights = tuple(9.0 if name == "identity" else 0.0 for name in evidence.NAMES)
    return Logistic(names=evidence.NAMES, means=(0.0,) * n, scales=(1.0,) * n, weights=weights, intercept=0.0)


def numbers(plain: evidence.PlainlySame | None) -> Numbers:
    n = len(candidates.NAMES)
    match = Logistic(names=candidates.NAMES, means=(0.0,) * n, scales=(1.0,) * n, weights=(0.0,) * n, intercept=0.0)
    return Numbers(match=match, hidden=NEVER_HIDDEN, same=by_faces_alone(), same_threshold=0.5, plain=plain)


@pytest.mark.slow
def test_a_face_that_looks_like_somebody_else_s_is_one_person_s_where_the_skin_plainly_is():
    pair, _ = second_visit(draw_face(2), (), 3, VisitChange(mirrored=0))
    registrar, stranger = Registrar(DlibHog()), Stranger()
    refused = Matcher(registrar, numbers(None), stranger)(pair)
    assert not refused.accepted
    agreeing = refused.registration.evidence["agreeing"]
    usual = {enough: evidence.PlainlySame(agreeing=enough * agreeing, alike=0.9) for enough in (0.9, 1.1)}
    assert Matcher(registrar, numbers(usual[0.9]), stranger)(pair).accepted
    assert not Matcher(registrar, numbers(usual[1.1]), stranger)(pair).accepted


def test_how_many_features_are_plainly_one_person_s_is_twice_as_many_as_any_two_people_had():
    def seen(kind: str, agreeing: float) -> Seen:
        case = Case("a", "a", "a", kind, lambda: None, ("x/1", "x/2"))
        return Seen(case, {"agreeing": agreeing}, signatures=(np.ones(2), np.ones(2)))

    two, one = [seen("wrong_person", 10.0 + k) for k in range(30)], [seen("same_person", 90.0)] * 30
    assert _plain([*two, *one], Stranger()) == evidence.PlainlySame(agreeing=78, alike=-0.9)
    assert _plain([*two[:4], *one], Stranger()) is None  # too few to say what two people never have
    assert _plain([*two, *one], None) is None
