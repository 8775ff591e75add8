"""What a client may send and what it gets back, through the service's own ASGI stack."""

from __future__ import annotations

import io
import logging
import pickle
import struct
import subprocess
import sys
import zipfile
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from derm_ml import RESEARCH_USE
from derm_ml.bundles.classifier import Classifier
from derm_ml.explain.panels import COLUMN, GAP
from derm_ml.images.decode import decode

RAW = {"Content-Type": "application/octet-stream"}
RED, BLUE = "melanoma", "seborrheic_keratosis"  # the labels of the tiny bundle follow the colours


def post(client, body: bytes, path: str = "/predict", kind: str = "application/octet-stream", **headers):
    return client.post(path, content=body, headers={"Content-Type": kind, **headers})


def probabilities(client, body: bytes) -> dict[str, float]:
    response = post(client, body)
    assert response.status_code == 200, response.text
    return response.json()["probabilities"]


def refused(response, status: int) -> str:
    """The sentence of a refusal: one JSON field, no trace of the code behind it."""
    assert response.status_code == status, response.text
    assert list(response.json()) == ["error"]
    sentence = response.json()["error"]
    assert "Traceback" not in sentence
    assert ".py" not in sentence
    assert "\n" not in sentence
    return sentence


# --- what is answered ----------------------------------------------------------------------------------------------


def test_predict_gives_the_numbers_the_evaluation_gives(client, bundle, encode):
    body = encode("JPEG", quality=90)
    expected = Classifier(bundle)([decode(body)]).probabilities[0]
    found = probabilities(client, body)
    assert list(found) == list(Classifier(bundle).labels)
    np.testing.assert_allclose(list(found.values()), expected, atol=1e-7)


def test_an_answer_names_its_model_data_and_purpose(client, bundle, encode):
    """Without them nobody could tell later which model said it."""
    first, second = (post(client, encode()).json() for _ in range(2))
    card = Classifier(bundle).bundle
    assert first["model_version"] == card.version
    assert first["dataset_md5"] == card.card.dataset_md5
    assert first["research_use"] == RESEARCH_USE
    assert first["operating_points"][0]["positive"] is (first["probabilities"][RED] >= 0.5)
    assert len(first["prediction_id"]) == 32
    assert first["prediction_id"] != second["prediction_id"]


def test_explain_returns_the_image_beside_its_heatmap(client, encode, picture):
    """A heatmap hides what lies below it."""
    response = post(client, encode(), "/explain?label=nevus")
    assert response.status_code == 200, response.text
    assert response.headers["content-type"] == "image/png"
    assert response.headers["x-research-use"] == RESEARCH_USE
    assert response.headers["x-prediction-id"]
    shown = decode(response.content)
    high, wide = picture.shape[:2]
    column = max(COLUMN, wide)
    np.testing.assert_array_equal(shown[:high, :wide], picture)
    assert shown.shape[1] == 2 * column + GAP
    assert (shown[:high, column + GAP :][:, :wide] != picture).any()
    assert shown.shape[0] > high, "the caption is below"


def test_explaining_a_large_picture_does_not_return_a_large_one(client, encode):
    huge = np.zeros((3000, 4000, 3), np.uint8)
    response = post(client, encode("JPEG", rgb=huge), "/explain")
    assert response.status_code == 200
    high, wide = decode(response.content).shape[:2]
    assert wide <= 2 * 1024 + GAP
    assert high <= 768 + 250  # and a caption


@pytest.mark.parametrize("mode", ["L", "RGBA", "P", "1"])
def test_modes_of_png_are_read_as_the_same_picture(client, encode, mode):
    found, plain = (probabilities(client, encode("PNG", mode=m)) for m in (mode, "RGB"))
    if mode == "RGBA":
        assert found == plain
    assert abs(sum(found.values()) - 1) < 1e-5


def test_a_cmyk_jpeg_keeps_its_colours(client, encode):
    """Read the wrong way round, every printed picture would be answered as its negative."""
    found, plain = (probabilities(client, encode("JPEG", mode=mode, quality=95)) for mode in ("CMYK", "RGB"))
    assert max(abs(found[label] - plain[label]) for label in plain) < 0.02


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_phone_held_sideways_gives_the_upright_explanation(client, picture, encode, orientation):
    """EXIF 1–8: the picture a person sees is the picture that is shown back."""
    turned = Image.fromarray(picture).transpose(_HOLD[orientation]) if orientation > 1 else Image.fromarray(picture)
    exif = Image.Exif()
    exif[0x0112] = orientation
    buffer = io.BytesIO()
    turned.save(buffer, "PNG", exif=exif)
    found, upright = (post(client, body, "/explain?label=melanoma") for body in (buffer.getvalue(), encode()))
    np.testing.assert_array_equal(decode(found.content), decode(upright.content))


_HOLD = {  # how a camera stores an upright picture before it says so in EXIF: the inverse of what is applied
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_90,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_270,
}


# --- what is refused -----------------------------------------------------------------------------------------------


def _frames(kind: str) -> bytes:
    buffer = io.BytesIO()
    first, second = (Image.new("RGB", (32, 32), colour) for colour in ("red", "blue"))
    first.save(buffer, kind, save_all=True, append_images=[second])
    return buffer.getvalue()


def _bomb() -> bytes:
    """A PNG of 30,000 × 30,000 pixels in a few kilobytes."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    header = struct.pack(">IIBBBBB", 30_000, 30_000, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(bytes(10**6)))
        + chunk(b"IEND", b"")
    )


def _polyglot(encode) -> bytes:
    """A JPEG that is a zip archive as well."""
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr("payload.js", "alert(1)")
    return encode("JPEG") + archive.getvalue()


BAD = {
    "nothing": lambda encode: b"",
    "text": lambda encode: b"not a picture",
    "an address": lambda encode: b"http://127.0.0.1:9/secret.png",
    "a JPEG cut off": lambda encode: encode("JPEG")[:-200],
    "a PNG cut off": lambda encode: encode("PNG")[: len(encode("PNG")) // 2],
    "a header alone": lambda encode: encode("PNG")[:33],
    "a GIF": lambda encode: encode("GIF"),
    "a WebP": lambda encode: encode("WEBP"),
    "a TIFF": lambda encode: encode("TIFF"),
    "an animated PNG": lambda encode: _frames("PNG"),
    "a bomb": lambda encode: _bomb(),
    "a polyglot": _polyglot,
    "a pickle": lambda encode: pickle.dumps({"a": 1}),
    "an SVG": lambda encode: b'<svg xmlns="http://www.w3.org/2000/svg"><image href="file:///etc/passwd"/></svg>',
}


@pytest.mark.parametrize("path", ["/predict", "/explain"])
@pytest.mark.parametrize("name", BAD)
def test_what_is_no_single_sound_picture_is_refused(client, encode, name, path):
    refused(post(client, BAD[name](encode), path), 400)


@pytest.mark.parametrize(
    "kind",
    ["application/x-www-form-urlencoded", "application/vnd.bentoml+pickle",
     "application/octet-stream+pickle", "application/json", "text/plain", "image/gif", "image/svg+xml", ""],
)  # fmt: skip
def test_only_raw_picture_bytes_are_a_body(client, encode, kind):
    """A pickle would put an interpreter between the network and the checks."""
    refused(post(client, encode(), kind=kind), 415)


def test_a_pickle_is_never_opened_whatever_it_is_called(client, tmp_path):
    mark = tmp_path / "opened"

    class Touch:
        def __reduce__(self):
            return (Path.touch, (mark,))

    for kind in ("application/vnd.bentoml+pickle", "application/octet-stream", "image/png"):
        for headers in ({}, {"Payload-Container": "NdarrayContainer", "Args-Number": "1"}):
            assert post(client, pickle.dumps(Touch()), kind=kind, **headers).status_code in (400, 415)
    assert not mark.exists()


def test_a_dicom_photograph_is_answered_as_its_pixels_and_nothing_of_the_patient_is_said(
    client, encode, picture, as_dicom, caplog
):
    """What the camera of a clinic writes goes in as it is, where the library that reads it is installed."""
    sent, apart = as_dicom(picture), ("prediction_id",)
    assert "application/dicom" in client.get("/").json()["accepts"]
    for kind in ("application/dicom", "application/octet-stream"):
        answer, same = post(client, sent, kind=kind), post(client, encode("PNG"))
        assert answer.status_code == 200, answer.text
        assert answer.json().keys() == same.json().keys()
        assert {k: v for k, v in answer.json().items() if k not in apart} == {
            k: v for k, v in same.json().items() if k not in apart
        }
    assert "Nightingale" not in answer.text + caplog.text
    assert post(client, sent, "/explain").headers["content-type"] == "image/png"
    refused(post(client, sent[:400] + sent[600:]), 400)


def test_without_its_library_dicom_is_refused_in_a_sentence_and_not_described(picture, as_dicom):
    code = """if True:
        import sys
        sys.modules["pydicom"] = None
        from derm_ml.images.decode import ImageError, decode
        from serving.cost import pixels
        from serving.openapi import IMAGES
        data = sys.stdin.buffer.read()
        assert pixels(data) == 0
        assert IMAGES == ("image/jpeg", "image/png", "application/octet-stream"), IMAGES
        try:
            decode(data)
        except ImageError as error:
            print(error)
    """
    command = [sys.executable, "-c", code]
    done = subprocess.run(
        command, input=as_dicom(picture), capture_output=True, check=True, cwd=Path(__file__).parents[2]
    )
    assert done.stdout.decode() == "the file is a DICOM; send a JPEG or PNG file\n"


def test_two_content_types_are_refused(client, encode):
    response = client.post("/predict", content=encode(), headers=[("Content-Type", "image/png")] * 2)
    refused(response, 415)


def test_a_compressed_body_is_refused(client, encode):
    """It would be a bomb that no limit on received bytes sees."""
    refused(post(client, zlib.compress(encode()), **{"Content-Encoding": "deflate"}), 415)


@pytest.mark.parametrize(
    "query",
    ["label=wart", "age=-1", "age=nan", "age=1e9", "age=old", "sex=x", "url=http://example.com/a.png", "model=../../x",
     "file=/etc/passwd", "age=1&age=2", "label=melanoma&label=nevus"],
)  # fmt: skip
def test_a_wrong_parameter_is_refused_and_not_repeated(client, encode, query):
    sentence = refused(post(client, encode(), f"/explain?{query}"), 400)
    assert "wart" not in sentence
    assert "passwd" not in sentence
    assert "example" not in sentence


def test_known_parameters_are_taken(client, encode):
    assert post(client, encode(), "/predict?age=63&sex=female&label=").status_code == 200


@pytest.mark.parametrize(
    ("method", "path"), [("GET", "/predict"), ("PUT", "/explain"), ("DELETE", "/"), ("POST", "/livez")]
)
def test_another_method_is_405_and_names_the_right_one(client, method, path):
    response = client.request(method, path)
    refused(response, 405)
    assert response.headers["allow"]


@pytest.mark.parametrize(
    "path",
    ["/docs.json", "/schema.json", "/static_content/index.css", "/predict/", "/patient-4711", "/..%2fetc/passwd"],
)
def test_paths_the_framework_adds_or_a_client_invents_do_not_exist(client, path):
    refused(client.get(path), 404)


def test_a_failure_of_ours_says_so_without_details(make_client, bundle, encode, monkeypatch):
    """A bug must not hand its trace to whoever finds it."""
    from derm_ml.tasks.lesion_classification import predict

    def broken(*_: object) -> None:
        raise RuntimeError("secret detail")

    monkeypatch.setattr(predict, "answer", broken)
    client = make_client(bundle, raise_server_exceptions=False)
    assert "secret" not in refused(post(client, encode()), 500)


def test_names_and_pictures_are_not_logged(client, encode, caplog):
    """A file name is often a patient's name."""
    with caplog.at_level(logging.DEBUG):
        post(client, encode(), "/predict?label=nevus", **{"X-File": "jane_doe.png"})
        post(client, b"jane_doe", kind="image/png; name=jane_doe.png")
        post(client, b"jane_doe", "/predict?file=jane_doe.png")
        client.get("/jane_doe.png")
    ours = [record.getMessage() for record in caplog.records if not record.name.startswith("httpx")]  # the client here
    assert any("/predict" in message for message in ours)
    assert "jane_doe" not in "\n".join(ours)


# --- is it there? --------------------------------------------------------------------------------------------------


def test_a_ready_service_says_so(client):
    assert client.get("/livez").status_code == 200
    assert client.get("/readyz").status_code == 200
    card = client.get("/").json()
    assert card["ready"]
    assert card["task"] == "lesion_classification"
    assert card["provider"] == "cpu"
    assert card["research_use"] == RESEARCH_USE


def test_without_a_model_it_is_live_but_not_ready(make_client, encode):
    """No champion yet: the orchestrator must not restart it, and must send it nobody."""
    client = make_client(None)
    assert client.get("/livez").status_code == 200
    assert "released" in refused(client.get("/readyz"), 503)
    assert "released" in refused(post(client, encode()), 503)
    assert client.get("/").json()["ready"] is False


def test_a_model_that_was_tampered_with_is_not_loaded(make_client, write_bundle, tmp_path, encode):
    path = write_bundle(tmp_path / "bundle")
    model = path / "model.onnx"
    model.write_bytes(model.read_bytes()[:-1] + b"\x00")
    client = make_client(path)
    assert client.get("/livez").status_code == 200
    assert "changed" in refused(client.get("/readyz"), 503)
    refused(post(client, encode()), 503)


def test_a_model_is_not_run_elsewhere_than_asked(make_client, bundle, monkeypatch):
    """A service for which a GPU was set and which answers from the CPU would be slow for a reason nobody sees."""
    monkeypatch.setenv("DERM_PROVIDER", "abacus")
    client = make_client(bundle)
    assert "DERM_PROVIDER" in refused(client.get("/readyz"), 503)


def test_a_model_of_another_task_is_not_loaded(make_client, write_bundle, tmp_path):
    client = make_client(write_bundle(tmp_path / "bundle", task="malignancy_screening"))
    assert "malignancy_screening" in refused(client.get("/readyz"), 503)
