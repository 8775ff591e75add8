"""What a reader of a report learns of the champion: whether the model is better on its cases, or why nobody knows."""

from __future__ import annotations

from dataclasses import replace

import pytest

from derm_ml import DermError
from derm_ml.evaluation.report import Opening, render
from derm_ml.evaluation.verdicts import READY, UNKNOWN
from derm_ml.promotion.beside import Champion, beside_champion
from tests.evaluation.test_comparison import TASK, measured

pytestmark = pytest.mark.slow  # resamples patients


def nobody() -> None:
    return None


def unreachable() -> None:
    raise DermError("the registry at http://registry does not answer")


def test_the_report_sets_the_model_beside_the_champion_on_the_same_cases():
    model, champion = measured(0.1, version="new"), measured(2.5, version="old")
    told = beside_champion(TASK, model, lambda: Champion(3, champion))
    assert told.state == READY
    assert "higher than that of the champion (version 3) (95 % interval: +0." in told.sentence
    assert f"{model.value('auc_malignant'):.3f}, the champion's {champion.value('auc_malignant'):.3f}" in told.sentence
    page = render(model, Opening(champion=told))
    assert page.index("Beside the champion.") < page.index('id="metrics"')
    assert "Beside the champion." not in render(model)  # a page of the library alone, which knows no champion


def test_a_model_that_answers_as_the_champion_has_no_interval_of_zeros():
    model = measured(0.1, version="new")
    told = beside_champion(TASK, model, lambda: Champion(3, replace(model, model_version="old")))
    assert told.state == UNKNOWN
    assert "equals that of the champion (version 3)" in told.sentence
    assert "no difference in any bootstrap sample" in told.sentence
    assert "+0.000 to" not in told.sentence


@pytest.mark.parametrize(
    ("champion", "said"),
    [
        (nobody, "There is no champion of malignancy_screening yet"),
        (unreachable, "not compared with a champion: the registry at http://registry does not answer."),
        (lambda: Champion(3, None), "(version 3) was not measured on these cases"),
        (lambda: Champion(3, measured(2.5, split_hash="other")), "(version 3) was not measured on these cases"),
        (lambda: Champion(3, measured(0.1, version="new")), "This model is the champion (version 3)."),
    ],
)
def test_where_nothing_is_compared_the_report_says_why(champion, said):
    told = beside_champion(TASK, measured(0.1, version="new"), champion)
    assert told.state == UNKNOWN
    assert said in told.sentence
