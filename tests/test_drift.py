"""Drift of what a service is asked: seen when it is there, silent when it is not, never guessed from few records."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from derm_ml.drift import FEWEST, shifts


def records(rng, n: int, score: float = 0.0, embedding: float = 0.0) -> pd.DataFrame:
    """Records whose score and first number of the embedding are moved by so many standard deviations."""
    codes = rng.normal(size=(n, 16))
    codes[:, 0] += embedding
    return pd.DataFrame({
        "images": [[rng.bytes(8).hex()] for _ in range(n)],
        "score.melanoma": rng.normal(size=n) + score,
        "embedding": list(codes),
    })  # fmt: skip


def found(earlier: pd.DataFrame, recent: pd.DataFrame) -> dict[str, bool]:
    return {shift.name: shift.found for shift in shifts(earlier, recent)}


def test_a_planted_shift_is_found_where_it_is():
    rng = np.random.default_rng(1)
    before = records(rng, 400)
    assert found(before, records(rng, 400, score=0.5)) == {"score.melanoma": True, "embedding": False}
    # another camera: the network sees other images and says the same
    assert found(before, records(rng, 400, embedding=1.0)) == {"score.melanoma": False, "embedding": True}


def test_where_nothing_changed_it_is_seldom_claimed():
    """A false alarm each week is an alarm nobody hears. By the level of the interval 5 of 100 are expected."""
    rng = np.random.default_rng(2)
    alarms = [found(records(rng, 120), records(rng, 120)) for _ in range(60)]
    for name in ("score.melanoma", "embedding"):
        assert sum(one[name] for one in alarms) <= 8  # more than 8 of 60 happen by chance in 1 of 200 runs


def test_few_records_are_not_judged():
    rng = np.random.default_rng(3)
    (score, embedding) = shifts(records(rng, 500), records(rng, FEWEST - 1, score=5.0, embedding=5.0))
    assert (score.found, score.value, embedding.found) == (False, None, False)
    assert "not evaluable" in score.remark
    assert "not evaluable" in embedding.remark


def test_one_image_sent_a_thousand_times_is_one_record():
    """A monitoring probe must not look like a new population."""
    rng = np.random.default_rng(4)
    probe = pd.concat([records(rng, 1, score=9.0)] * 1000)
    assert not any(found(records(rng, 200), pd.concat([records(rng, 200), probe])).values())


def test_direction_and_size_are_said():
    rng = np.random.default_rng(5)
    (score, _) = shifts(records(rng, 300), records(rng, 300, score=-1.0))
    assert score.value == pytest.approx(0.24, abs=0.05)  # Φ(-1/√2)
    assert score.low < score.value < score.high < 0.5


def test_it_agrees_with_counting_pairs():
    rng = np.random.default_rng(6)
    earlier, recent = (rng.integers(0, 5, n).astype(float) for n in (40, 50))
    tables = [pd.DataFrame({"images": [[rng.bytes(8).hex()] for _ in x], "score.a": x, "embedding": None})
              for x in (earlier, recent)]  # fmt: skip
    (score,) = shifts(*tables)
    pairs = recent[:, None] - earlier[None, :]
    assert score.value == pytest.approx(((pairs > 0) + 0.5 * (pairs == 0)).mean())


def test_a_complete_shift_has_an_interval():
    rng = np.random.default_rng(7)
    (score, _) = shifts(records(rng, 100), records(rng, 100, score=50.0))
    assert (score.value, score.found) == (1.0, True)
