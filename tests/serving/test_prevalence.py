"""A clinic that says how rare the disease is there must get answers corrected for it, marked as such, or none."""

from __future__ import annotations

import pytest

from derm_ml.asking.prevalence import PrevalenceError
from derm_ml.bundles.bundle import read_card
from derm_ml.promotion.policy import Policy
from derm_ml.registry import get_task
from serving.prevalence import SETTING, stated

HEADERS = {"Content-Type": "image/png"}
RARE = "melanoma:0.01,nevus:0.89,seborrheic_keratosis:0.1"
TRAINED = {"melanoma": 0.3, "nevus": 0.5, "seborrheic_keratosis": 0.2}


def ask(client, encode, query: str = "", **request) -> dict:
    response = client.post(f"/predict?{query}", **(request or {"content": encode(), "headers": HEADERS}))
    assert response.status_code == 200, response.text
    return response.json()


def test_an_answer_is_corrected_where_it_is_asked_for_and_says_from_what_to_what(client, encode):
    plain, asked = ask(client, encode), ask(client, encode, f"prevalence={RARE}&sets=yes")
    told = asked["at_prevalence"]
    assert (told["prevalence"]["melanoma"], told["trained_at"]) == (0.01, TRAINED)
    weights = {name: p * told["prevalence"][name] / TRAINED[name] for name, p in plain["probabilities"].items()}
    whole = sum(weights.values())
    assert told["probabilities"] == pytest.approx({name: weight / whole for name, weight in weights.items()})
    hits, false = 0.01 * 0.95, 0.99 * 0.5
    assert told["ppv"]["melanoma"] == {"recall_0.95": pytest.approx(hits / (hits + false))}
    for name in ("probabilities", "predicted", "operating_points"):  # a threshold is one of sensitivity
        assert asked[name] == plain[name]
    assert not {"at_prevalence", "prediction_set"} & set(plain)
    limits = {"melanoma": 0.1, "nevus": 0.9, "seborrheic_keratosis": 0.0}
    held = [name for name, p in plain["probabilities"].items() if p >= limits[name]]
    assert asked["prediction_set"] == {"classes": held, "holds": 0.9, "limits": limits}


def test_each_image_of_a_batch_is_corrected(client, encode):
    files = [("image", ("x", encode())), ("image", ("y", encode("JPEG")))]
    told = ask(client, encode, f"prevalence={RARE}", files=files)
    assert [one["answer"]["at_prevalence"]["trained_at"] for one in told["results"]] == [TRAINED] * 2


def test_what_cannot_be_meant_is_refused_without_repeating_it(client, encode):
    response = client.post("/predict?prevalence=melanom:0.0123", content=encode(), headers=HEADERS)
    assert response.status_code == 400
    assert "the share of each label, such as melanoma:0.3,nevus:0.5,seborrheic_keratosis:0.2" in response.text
    assert "0.0123" not in response.text


@pytest.mark.parametrize("said", [RARE, f"malignancy_screening=0.02;lesion_classification={RARE}"])
def test_a_setting_corrects_every_answer_that_does_not_say_it_itself(make_client, encode, monkeypatch, said):
    monkeypatch.setenv(SETTING, said)
    client = make_client()
    assert ask(client, encode)["at_prevalence"]["prevalence"]["melanoma"] == 0.01
    own = "prevalence=melanoma:0.2,nevus:0.6,seborrheic_keratosis:0.2"
    assert ask(client, encode, own)["at_prevalence"]["prevalence"]["melanoma"] == 0.2


def test_the_setting_of_another_task_is_none_of_its_business(make_client, encode, monkeypatch):
    monkeypatch.setenv(SETTING, "malignancy_screening=0.02")
    assert "at_prevalence" not in ask(make_client(), encode)


def test_a_setting_the_model_cannot_use_stops_it_with_the_reason(make_client, encode, monkeypatch):
    """Uncorrected answers would pass for corrected ones."""
    monkeypatch.setenv(SETTING, "0.02")
    client = make_client()
    ready = client.get("/readyz")
    assert ready.status_code == 503
    assert "DERM_PREVALENCE: 'prevalence' must be the share of each label" in ready.text
    assert client.post("/predict", content=encode(), headers=HEADERS).status_code == 503


SHARES = {"melanoma": 0.02, "nevus": 0.9, "seborrheic_keratosis": 0.08}


@pytest.fixture
def policy(monkeypatch):
    """Lets the policy of every task state a prevalence."""

    def states(said) -> None:
        found = Policy.of("lesion_classification").model_copy(update={"prevalence": said})
        monkeypatch.setattr(Policy, "of", classmethod(lambda *_: found))

    return states


def test_the_policy_corrects_every_answer_the_setting_wins_and_a_request_over_both(
    make_client, encode, monkeypatch, policy
):
    """A Bento takes its policy along, so it needs no variable where it is deployed."""
    policy(SHARES)
    assert ask(make_client(), encode)["at_prevalence"]["prevalence"] == pytest.approx(SHARES)
    monkeypatch.setenv(SETTING, RARE)
    client = make_client()
    assert ask(client, encode)["at_prevalence"]["prevalence"]["melanoma"] == 0.01
    option = next(one for one in client.get("/").json()["options"] if one["name"] == "prevalence")
    assert option["shares"]["stated"]["melanoma"] == 0.01
    assert option["shares"]["trained_at"] == TRAINED
    own = "prevalence=melanoma:0.2,nevus:0.6,seborrheic_keratosis:0.2"
    assert ask(client, encode, own)["at_prevalence"]["prevalence"]["melanoma"] == 0.2


def test_a_policy_the_model_cannot_use_stops_the_service_with_the_reason(make_client, policy):
    policy(0.02)
    ready = make_client().get("/readyz")
    assert ready.status_code == 503
    assert "policy.yaml of lesion_classification: 'prevalence' must be the share of each label" in ready.text


def test_a_task_without_probabilities_refuses_a_prevalence_in_its_policy(bundle, policy):
    policy(0.02)
    with pytest.raises(PrevalenceError, match="lesion_segmentation gives no probabilities"):
        stated(get_task("lesion_segmentation"), read_card(bundle))
