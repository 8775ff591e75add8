"""Generated second visits: if their truth were off by a pixel, every figure of the evaluation would be too."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from derm_ml.asking.pair import STATES
from derm_ml.metrics.matching import count
from derm_ml.pairs.matching.original import unregistered_matches
from derm_ml.records import Region
from derm_ml.synthetic.faces import draw_face
from derm_ml.synthetic.skin import grow, paint, skin, spots
from derm_ml.synthetic.visit_change import HARDER, VisitChange
from derm_ml.synthetic.visits import second_visit
from derm_ml.synthetic.worn import beard, glasses, make_up

STILL = VisitChange(healed=0, new=0, changed=0, light=0, softness=0, occluded=0, hand=0, crop=0)
PHOTO = draw_face(1)


def marked(x: float, y: float) -> tuple[np.ndarray, Region]:
    """A photo with one black dot, and the box around it."""
    photo = np.full((200, 200, 3), 200, np.uint8)
    rows, columns = np.mgrid[:200, :200]
    photo[(columns - x) ** 2 + (rows - y) ** 2 <= 16] = 0
    return photo, Region("pimple", x - 5, y - 5, x + 5, y + 5)


@pytest.mark.parametrize("change", [STILL, replace(STILL, turn=30, lens=0.06)], ids=["as it was", "turned"])
@given(seed=st.integers(0, 2**31), x=st.integers(70, 130), y=st.integers(70, 130))
@settings(max_examples=12, deadline=None)
def test_the_place_it_names_is_where_the_pixels_went(change, seed, x, y):
    photo, region = marked(x, y)
    pair, truth = second_visit(photo, [region], seed, change)
    dark = np.argwhere(pair.second.sum(axis=2) < 120)
    inside = dark[(np.abs(dark[:, ::-1] - truth.points[0, 2:]) < 14).all(axis=1)]
    assert np.abs(inside.mean(axis=0)[::-1] - truth.points[0, 2:]).max() < 0.7


@given(half_width=st.integers(8, 30), half_height=st.integers(8, 30), factor=st.floats(1.1, 1.6))
@settings(max_examples=12, deadline=None)
def test_the_box_of_a_grown_lesion_is_what_it_fills(half_width, half_height, factor):
    photo = np.full((200, 200, 3), 200, np.uint8)
    cv2.ellipse(photo, (100, 100), (half_width, half_height), 0, 0, 360, (0, 0, 0), -1)
    region = Region("pimple", 99.5 - half_width, 99.5 - half_height, 100.5 + half_width, 100.5 + half_height)
    grown, box = grow(photo, region, factor)
    rows, columns = np.nonzero(grown[..., 0] < 100)
    filled = (columns.min() - 0.5, rows.min() - 0.5, columns.max() + 0.5, rows.max() + 0.5)
    assert np.abs(np.subtract(box.box, filled)).max() <= 1.5


def test_the_same_seed_gives_the_same_pair():
    one, other = (second_visit(PHOTO, (), 5) for _ in range(2))
    assert np.array_equal(one[0].second, other[0].second)
    assert one[0].second_regions == other[0].second_regions
    assert one[1].matches == other[1].matches


def test_states_and_matches_tell_the_same_story():
    for seed in range(4):
        pair, truth = second_visit(PHOTO, (), seed)
        before, after = truth.states
        assert len(before) == len(pair.first_regions)
        assert len(after) == len(pair.second_regions)
        assert {k for k, state in enumerate(before) if state == "persistent"} == {a for a, _ in truth.matches}
        assert {k for k, state in enumerate(after) if state == "persistent"} == {b for _, b in truth.matches}
        assert set(before) | set(after) <= set(STATES)
        assert all(pair.first_regions[a].label == pair.second_regions[b].label for a, b in truth.matches)


def test_a_fifth_heals_and_a_fifth_is_new():
    states = [state for seed in range(12) for side in second_visit(PHOTO, (), seed)[1].states for state in side]
    persistent = states.count("persistent") / 2
    assert states.count("resolved") / (persistent + states.count("resolved")) == pytest.approx(0.2, abs=0.08)
    assert states.count("new") / (persistent + states.count("new")) == pytest.approx(0.2, abs=0.08)


def test_a_harder_visit_is_harder():
    """Turned heads move lesions beyond any homography, and what is worn hides some of them."""
    hidden, beyond, worn = Counter(), [], Counter()
    for seed in range(12):
        for change in (VisitChange(), HARDER):
            pair, truth = second_visit(PHOTO, (), seed, change)
            hidden[change] += sum(side.count("not_visible") for side in truth.states)
        worn.update(name for name in ("made_up", "bearded", "glasses") if truth.parameters[name])
        if len(truth.points) > 6:
            before, after = truth.points[:, :2], truth.points[:, 2:]
            flat, _ = cv2.findHomography(before, after)
            ends = cv2.perspectiveTransform(before[None], flat)[0]
            beyond.append(np.hypot(*(ends - after).T).mean() / max(pair.first.shape))
    assert min(worn[name] for name in ("made_up", "bearded", "glasses")) > 0
    assert hidden[HARDER] > 1.5 * hidden[VisitChange()]
    assert np.median(beyond) > 0.004


@pytest.mark.parametrize("put_on", [glasses, beard])
def test_what_is_worn_hides_what_it_says(put_on):
    where = skin(PHOTO)
    for seed in range(4):
        dressed, hidden = put_on(PHOTO, where, np.random.default_rng(seed))
        changed = np.abs(dressed.astype(int) - PHOTO).max(axis=2)
        assert changed.max() > 20
        if hidden.any():
            assert np.median(changed[hidden]) > 20
            assert 0.002 < hidden.mean() < 0.4


def test_make_up_leaves_less_of_a_spot():
    for seed in range(4):
        rng = np.random.default_rng(seed)
        (x, y), *_ = spots(skin(PHOTO), (), 6, 1, rng)
        photo = paint(PHOTO, x, y, 6, "dark_spot", rng)
        evened = make_up(photo, skin(PHOTO), rng)
        darker = [float(p[round(y) + 9, round(x)].sum()) - float(p[round(y), round(x)].sum()) for p in (photo, evened)]
        assert darker[0] > 30
        assert darker[1] < 0.75 * darker[0]


def test_it_refuses_to_be_easy():
    """Overlap without registration must fail, or the figures of a matcher would mean nothing."""
    right = there = 0
    for seed in range(10):
        pair, truth = second_visit(PHOTO, (), seed)
        counts = count(unregistered_matches(pair), truth.matches)
        right, there = right + counts.n_matched, there + counts.n_true
    assert there > 40
    assert right / there < 0.3
