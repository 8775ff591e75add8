"""Similar images: what must never be shown, and an index that is not the model's."""

from __future__ import annotations

import io
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from derm_ml.embeddings.similar import SimilarImages, SimilarImagesError, build_similar
from derm_ml.images.fingerprints import fingerprint

VERSION = "0123456789ab"


@pytest.fixture(scope="module")
def similar(table, drawn_dataset, tmp_path_factory) -> SimilarImages:
    """Every fourth image has another licence, the first two are of one patient and group."""
    rows = table.copy()
    rows["licence"] = ["CC-0" if k % 4 else "CC BY-NC 4.0" for k in range(len(rows))]
    rows.loc[rows.index[:2], ["patient", "group"]] = ["jane", "g"]
    return build_similar(rows, drawn_dataset, tmp_path_factory.mktemp("similar") / "index")


def test_the_nearest_come_first_and_are_of_its_class(similar, table):
    found = similar.find(table["embedding"].iloc[7], k=5)
    assert found[0].id == table["id"].iloc[7]
    assert found[0].score == pytest.approx(1, abs=1e-5)
    assert [n.score for n in found] == sorted((n.score for n in found), reverse=True)
    assert {n.label for n in found} == {table["label"].iloc[7]}


def test_the_same_patient_is_left_out_whether_named_or_recognised_by_the_picture(similar, table, drawn_dataset):
    """Two photographs of one mole are no second opinion."""
    mine = set(table["id"].iloc[:2])
    picture = drawn_dataset.image(drawn_dataset.manifest.iloc[0])
    for groups in (similar.groups_of(patient="jane"), similar.groups_of(pixels=fingerprint(picture).pixels)):
        assert groups == {"g"}
        assert not mine & {n.id for n in similar.find(table["embedding"].iloc[0], 50, groups)}
    assert similar.groups_of(patient="nobody") == similar.groups_of(pixels="") == set()
    assert "jane" not in (similar.folder / "index.json").read_text()


def test_only_images_under_an_allowed_licence_are_shown(similar, table):
    found = similar.find(table["embedding"].iloc[0], 50, licences=["CC BY-NC 4.0"])
    assert found
    assert {n.licence for n in found} == {"CC BY-NC 4.0"}
    assert similar.find(table["embedding"].iloc[0], 5, licences=["none such"]) == []


def test_a_thumbnail_is_a_small_picture_of_its_own_image(similar, table, drawn_dataset):
    row = drawn_dataset.manifest.iloc[9]
    small = np.asarray(Image.open(io.BytesIO(similar.thumbnail(row["id"]))), float)
    assert max(small.shape) <= 96
    np.testing.assert_allclose(small.mean(axis=(0, 1)), drawn_dataset.image(row).mean(axis=(0, 1)), atol=3)


def test_the_same_table_gives_the_same_bytes(similar, table, drawn_dataset, tmp_path):
    made = [build_similar(table, drawn_dataset, tmp_path / name).folder for name in "ab"]
    for name in ("index.json", "vectors.faiss", "thumbnails.zip"):
        assert (made[0] / name).read_bytes() == (made[1] / name).read_bytes()


@pytest.mark.parametrize("name", ["vectors.faiss", "thumbnails.zip"])
def test_a_changed_file_is_not_loaded(similar, tmp_path, name):
    copy = Path(shutil.copytree(similar.folder, tmp_path / "index"))
    (copy / name).write_bytes((copy / name).read_bytes() + b"x")
    with pytest.raises(SimilarImagesError, match=name):
        SimilarImages.open(copy, VERSION)


def test_an_index_of_another_model_is_refused(similar):
    """Its cosines would be noise that looks like an answer."""
    with pytest.raises(SimilarImagesError, match="of model 0123456789ab, not of ffff"):
        SimilarImages.open(similar.folder, "ffff")


def test_a_missing_or_broken_card_says_what_to_do(similar, tmp_path):
    with pytest.raises(SimilarImagesError, match="materialise `similar_images`"):
        SimilarImages.open(tmp_path, VERSION)
    (tmp_path / "index.json").write_text(json.dumps({"model_version": VERSION}))
    with pytest.raises(SimilarImagesError, match="not the card of an index"):
        SimilarImages.open(tmp_path, VERSION)
