"""What a service says of an image that its model is not fit for: a face must never be `melanoma, positive`."""

from __future__ import annotations

import io
import json

import cv2
import numpy as np
import pytest
from PIL import Image

from derm_ml.synthetic.faces import draw_face
from derm_ml.synthetic.lesions import draw_lesion

pytestmark = pytest.mark.slow

RAW = {"Content-Type": "application/octet-stream"}
LABELS = ("melanoma", "nevus", "seborrheic_keratosis")


def png(image: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "PNG")
    return buffer.getvalue()


FACE = png(cv2.resize(draw_face(2), (192, 192)))
OWN = png(draw_lesion("melanoma", seed=7_000_021, side=144, width=192).image)


@pytest.fixture(scope="module")
def gated(make_client, trained):
    return make_client(trained / "bundle")


def test_without_fitness_there_is_no_decision_and_no_number(gated):
    said = gated.post("/predict", content=FACE, headers=RAW).json()
    assert said["abstained"] is True
    assert said["abstained_because"]
    assert said["in_distribution"] < 0.5 or said["quality"] != "sufficient"
    assert [said[name] for name in ("predicted", "probabilities", "operating_points")] == [None] * 3


def test_numbers_come_where_they_are_asked_for_but_no_decision(gated):
    said = gated.post("/predict?abstained=numbers", content=FACE, headers=RAW).json()
    assert sum(said["probabilities"].values()) == pytest.approx(1, abs=1e-5)
    assert (said["abstained"], said["predicted"], said["operating_points"]) == (True, None, None)
    assert gated.post("/predict?abstained=decide", content=FACE, headers=RAW).status_code == 400


def test_an_image_of_the_task_is_answered_as_before(gated):
    said = gated.post("/predict", content=OWN, headers=RAW).json()
    assert (said["abstained"], said["quality"], said["abstained_because"]) == (False, "sufficient", "")
    assert said["predicted"] in LABELS
    assert said["in_distribution"] >= 0.5
    assert not any("input gate" in warning for warning in said["warnings"])


def test_in_a_batch_each_image_is_judged_by_itself(gated):
    form = [("image", ("a", data, "image/png")) for data in (OWN, FACE)]
    results = gated.post("/predict", files=form).json()["results"]
    assert [result["answer"]["abstained"] for result in results] == [False, True]
    assert results[1]["answer"]["predicted"] is None


def test_an_explanation_shows_where_and_claims_nothing(gated):
    said = gated.post("/explain", content=FACE, headers=RAW | {"Accept": "application/json"}).json()
    assert [layer["probability"] for layer in said["layers"]] == [None]
    assert said["answer"]["abstained"] is True
    assert said["answer"]["probabilities"] is None
    assert gated.post("/explain", content=FACE, headers=RAW).headers["content-type"] == "image/png"


def test_abstentions_are_counted_by_reason(gated):
    from prometheus_client import REGISTRY

    version = gated.post("/predict", content=png(np.zeros((144, 192, 3), np.uint8)), headers=RAW).json()[
        "model_version"
    ]
    name = f"{gated.app.metrics.namespace}_abstained_total"
    assert REGISTRY.get_sample_value(name, {"reason": "dark", "model_version": version}) == 1


def test_a_model_without_a_gate_says_so(client):
    """Models that were trained before go on answering, and nobody may believe that they look at what they get."""
    said = client.post("/predict", content=FACE, headers=RAW).json()
    assert (said["quality"], said["in_distribution"], said["abstained"]) == ("unknown", None, False)
    assert any("no input gate" in warning for warning in said["warnings"])
    assert said["predicted"] in LABELS


def test_the_description_lets_a_client_expect_null(gated):
    schemas = json.dumps(gated.get("/openapi.json").json()["components"]["schemas"])
    assert '"abstained_because"' in schemas
    assert '"too_small"' in schemas
