"""A mask sent back in another frame than the picture's would be drawn over the wrong skin."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterator

import cv2
import numpy as np
import pytest
from PIL import Image
from starlette.testclient import TestClient

from derm_ml import RESEARCH_USE
from derm_ml.explain.panels import GAP
from derm_ml.registry import get_task
from serving.factory import make_service

TASK = get_task("lesion_segmentation")
SIDE = 64
# EXIF orientation → what a camera did to the upright picture before it stored the pixels
STORED = {
    1: lambda x: x,
    2: lambda x: x[:, ::-1],
    3: lambda x: x[::-1, ::-1],
    4: lambda x: x[::-1],
    5: lambda x: x.swapaxes(0, 1),
    6: lambda x: np.rot90(x, 1),
    7: lambda x: x[::-1, ::-1].swapaxes(0, 1),
    8: lambda x: np.rot90(x, -1),
}


@pytest.fixture(scope="module", params=["squash", "pad"])
def client(request, tmp_path_factory, write_segmenter) -> Iterator[TestClient]:
    bundle = write_segmenter(tmp_path_factory.mktemp("dark") / "bundle", request.param)
    service = make_service(TASK, bundle, name=f"masks_{request.param}")
    with TestClient(service.to_asgi(), base_url="http://127.0.0.1:3000") as opened:
        yield opened


@pytest.fixture
def upright() -> tuple[np.ndarray, np.ndarray]:
    """A white picture 320 wide and 192 high with a black L at the upper left, and its mask: no two turns look alike."""
    mask = np.zeros((192, 320), np.uint8)
    mask[30:150, 40:90] = 255
    mask[110:150, 40:240] = 255
    return np.repeat(255 - mask[..., None], 3, axis=2), mask


def photo(pixels: np.ndarray, orientation: int = 1) -> bytes:
    buffer = io.BytesIO()
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(np.ascontiguousarray(STORED[orientation](pixels))).save(buffer, "JPEG", quality=95, exif=exif)
    return buffer.getvalue()


def ask(client: TestClient, body: bytes, form: str = "", path: str = "/predict"):
    query = f"?mask={form}" if form else ""
    return client.post(f"{path}{query}", content=body, headers={"Content-Type": "image/jpeg"})


def overlap(a: np.ndarray, b: np.ndarray) -> float:
    assert a.shape == b.shape
    return float(((a > 0) & (b > 0)).sum() / ((a > 0) | (b > 0)).sum())


def from_png(said: dict) -> np.ndarray:
    mask = cv2.imdecode(np.frombuffer(base64.b64decode(said["mask"]["data"]), np.uint8), cv2.IMREAD_GRAYSCALE)
    assert mask is not None
    return mask


@pytest.mark.parametrize("orientation", STORED)
def test_the_mask_lies_where_the_lesion_is_in_the_upright_picture(client, upright, orientation):
    picture, mask = upright
    said = ask(client, photo(picture, orientation)).json()
    assert (said["width"], said["height"]) == (320, 192)
    assert overlap(from_png(said), mask) > 0.93
    box = said["bounding_box"]
    for name, expected in {"left": 40, "top": 30, "width": 200, "height": 120}.items():
        assert box[name] == pytest.approx(expected, abs=5), name
    assert said["area_share"] == pytest.approx((mask > 0).mean(), abs=0.01)
    assert said["confidence"] > 0.95
    assert said["research_use"] == RESEARCH_USE


def test_all_forms_are_the_same_mask(client, upright):
    picture, _ = upright
    body = photo(picture, 6)
    png = from_png(ask(client, body, "png").json())
    rle = ask(client, body, "rle").json()["mask"]
    runs = np.repeat(np.arange(len(rle["counts"])) % 2, rle["counts"])
    np.testing.assert_array_equal(runs.reshape(rle["size"], order="F") * 255, png)
    (rings,) = ask(client, body, "polygon").json()["mask"]["polygons"]
    drawn = cv2.fillPoly(np.zeros_like(png), [np.array(rings[0], np.int32)], 255)
    np.testing.assert_array_equal(drawn, png)


def test_a_picture_without_lesion_has_an_empty_mask_and_no_box(client):
    said = ask(client, photo(np.full((60, 80, 3), 255, np.uint8)), "polygon").json()
    assert said["mask"]["polygons"] == []
    assert said["bounding_box"] is None
    assert said["area_share"] == 0


def test_an_unknown_form_is_refused_before_anything_is_decoded(client, upright):
    response = ask(client, b"no picture", "svg")
    assert response.status_code == 400
    assert response.json()["error"] == "'mask' must be one of png, rle, polygon"


def test_the_explanation_is_the_upright_picture_beside_it_with_the_outline(client, upright):
    picture, mask = upright
    response = ask(client, photo(picture, 8), path="/explain")
    assert response.headers["content-type"] == "image/png"
    shown = np.asarray(Image.open(io.BytesIO(response.content)).convert("RGB")).astype(int)
    assert shown.shape[1] == 2 * 320 + GAP
    assert shown.shape[0] > 192, "the caption is below the picture"
    yellow = (shown[:192, :, 0] > 150) & (shown[:192, :, 2] < 120)
    assert not yellow[:, :320].any(), "on the left nothing covers the lesion"
    yellow = yellow[:, 320 + GAP :]
    edge = cv2.dilate(mask, np.ones((13, 13))) != cv2.erode(mask, np.ones((13, 13)))
    assert yellow.sum() > 200
    assert (edge[yellow]).mean() > 0.95
