"""How a prevalence is said: a typo must not correct answers for another population than the one that was meant."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from derm_ml.asking.options import PREVALENCE, AskingError, read_options
from derm_ml.asking.prevalence import PrevalenceError, shares_of, text_of

ONE = SimpleNamespace(head="sigmoid", labels=("malignant",), prevalence={"malignant": 0.2})
CLASSES = SimpleNamespace(
    head="softmax", labels=("melanoma", "nevus", "other"), prevalence={"melanoma": 0.3, "nevus": 0.5, "other": 0.2}
)
FINDINGS = SimpleNamespace(head="sigmoid", labels=("dr", "amd"), prevalence={"dr": 0.3, "amd": 0.1})
share = st.floats(0.001, 0.9)


@given(share, share)
def test_what_is_written_is_read_again(a, b):
    for card, shares in ((ONE, {"malignant": a}), (FINDINGS, {"dr": a, "amd": b}), (FINDINGS, {"amd": b})):
        assert shares_of(text_of(shares, card), card) == pytest.approx(shares, rel=1e-5)
    whole = a + b + 0.5
    classes = {"melanoma": a / whole, "nevus": b / whole, "other": 0.5 / whole}
    assert shares_of(text_of(classes, CLASSES), CLASSES) == pytest.approx(classes, rel=1e-3)


def test_rounded_shares_of_classes_add_up_to_one():
    found = shares_of("melanoma:0.333,nevus:0.333,other:0.333", CLASSES)
    assert sum(found.values()) == pytest.approx(1)


@pytest.mark.parametrize(
    ("text", "card", "why"),
    [
        ("2", ONE, "between 0 and 1"),
        ("0", ONE, "between 0 and 1"),
        ("nan", ONE, "between 0 and 1"),
        ("2 %", ONE, "between 0 and 1"),
        ("malignant:0.1", ONE, "the share of malignant"),
        ("0.1", CLASSES, "such as melanoma:0.3,nevus:0.5,other:0.2"),
        ("melanoma:0.1,nevus:0.9", CLASSES, "together they must be 1"),
        ("melanoma:0.5,nevus:0.5,other:0.5", CLASSES, "together they must be 1"),
        ("melanoma:0.1,melanoma:0.1,other:0.8", CLASSES, "each label"),
        ("glaucoma:0.1", FINDINGS, "a label or several"),
        ("0.1", SimpleNamespace(head="sigmoid", labels=("malignant",), prevalence={}), "calibrated to"),
        ("0.1", SimpleNamespace(head="sigmoid", labels=("malignant",), prevalence={"malignant": 0.0}), "calibrated to"),
    ],
)
def test_what_cannot_be_meant_is_refused_in_a_sentence(text, card, why):
    with pytest.raises(PrevalenceError, match=why):
        shares_of(text, card)


@given(st.text(min_size=1, max_size=20).filter(lambda text: text.strip()))
def test_a_refusal_repeats_nothing_that_was_sent(text):
    mark = f"<{text}>"
    for card in (ONE, CLASSES, FINDINGS):
        with pytest.raises(AskingError) as refused:
            read_options([("prevalence", mark)], {"prevalence": PREVALENCE}, card)
        assert mark not in str(refused.value)


def test_a_model_without_a_trained_prevalence_has_no_use_for_one():
    assert PREVALENCE.is_used_by(ONE)
    assert not PREVALENCE.is_used_by(SimpleNamespace(labels=("malignant",), prevalence={}))
    assert PREVALENCE.schema(FINDINGS)["examples"] == ["dr:0.3,amd:0.1"]
