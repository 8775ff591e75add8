"""Similar images: what must never be shown, and an index that is not the model's."""

from __future__ import annotations

import hashlib
import io
import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from derm_ml.embeddings.made import similar_sheet
from derm_ml.embeddings.similar import SimilarImages, SimilarImagesError, build_similar, names_of, ship
from derm_ml.images.fingerprints import fingerprint
from derm_ml.neutral_ids import installation_ids, known_ids

VERSION = "0123456789ab"


@pytest.fixture(scope="module")
def similar(table, drawn_dataset, tmp_path_factory) -> SimilarImages:
    """Every fourth image has another licence, the first two are of one patient and group."""
    rows = table.copy()
    rows["licence"] = ["CC-0" if k % 4 else "CC BY-NC 4.0" for k in range(len(rows))]
    rows.loc[rows.index[:2], ["patient", "group"]] = ["jane", "g"]
    rows.loc[rows.index[0], "source"] = "batches/Dr Jones of 2026-11-20"
    return build_similar(rows, drawn_dataset, tmp_path_factory.mktemp("similar") / "index")


def outside(name: str) -> str:
    """What stands for an image in an index."""
    return installation_ids().of("image", name)


def test_the_nearest_come_first_and_are_of_its_class(similar, table):
    found = similar.find(table["embedding"].iloc[7], k=5)
    assert found[0].id == outside(table["id"].iloc[7])
    assert found[0].score == pytest.approx(1, abs=1e-5)
    assert [n.score for n in found] == sorted((n.score for n in found), reverse=True)
    assert {n.label for n in found} == {table["label"].iloc[7]}


def test_the_same_patient_is_left_out_whether_named_or_recognised_by_the_picture(similar, table, drawn_dataset):
    """Two photographs of one mole are no second opinion."""
    mine = {outside(name) for name in table["id"].iloc[:2]}
    picture = drawn_dataset.image(drawn_dataset.manifest.iloc[0])
    ids = installation_ids()
    named = (
        similar.groups_of(patients=similar.patient_ids(" Jane", ids)),  # as somebody types it
        similar.groups_of(patients=similar.patient_ids(ids.of("patient", "jane"), None)),
        similar.groups_of(pixels=fingerprint(picture).pixels),
    )
    for groups in named:
        assert groups == {ids.of("group", "g")}
        assert not mine & {n.id for n in similar.find(table["embedding"].iloc[0], 50, groups)}
    assert similar.groups_of(patients=similar.patient_ids("nobody", ids)) == similar.groups_of() == set()


@pytest.mark.parametrize(("secret", "word"), [("", "has no secret"), ("o" * 32, "has another secret")])
def test_a_patient_who_cannot_be_recognised_is_an_error_and_not_a_stranger(
    similar, monkeypatch, tmp_path, secret, word
):
    """Without it the caller would be shown the patient's own images as those of somebody else."""
    monkeypatch.setenv("DERM_SECRET", secret)
    with pytest.raises(SimilarImagesError, match=word):
        similar.patient_ids("jane", known_ids(tmp_path))


def test_what_leaves_the_machine_tells_no_name(similar, table, tmp_path):
    """File names, patients and deliveries were readable, or found by hashing all numbers in 0.3 seconds."""
    ship(similar.folder, tmp_path / "shipped", thumbnails=True)
    content = b"".join(path.read_bytes() for path in sorted((tmp_path / "shipped").iterdir()))
    unkeyed = [kind(b"jane").hexdigest()[:16] for kind in (hashlib.sha256, hashlib.md5, hashlib.sha1)]
    told = [w for w in ["jane", "Dr Jones", *unkeyed, *table["id"], *table["group"]] if w.encode() in content]
    assert not told


def test_the_order_of_an_index_does_not_tell_which_id_is_which_file(similar, table):
    """Sorted by file name, the k-th id would be the k-th file."""
    shipped = similar.rows["id"].tolist()
    assert shipped == sorted(shipped)
    assert shipped != [outside(name) for name in sorted(table["id"])]


def test_here_an_id_is_told_by_its_name(similar, table):
    names = names_of(similar)
    assert names == {outside(name): name for name in table["id"]}


def test_a_bento_takes_no_thumbnails_unless_it_is_asked_to(similar, table, tmp_path):
    ship(similar.folder, tmp_path / "plain", thumbnails=False)
    ship(similar.folder, tmp_path / "pictured", thumbnails=True)
    plain, pictured = (SimilarImages.open(tmp_path / name, VERSION) for name in ("plain", "pictured"))
    assert sorted(p.name for p in plain.folder.iterdir()) == ["index.json", "vectors.faiss"]
    assert plain.find(table["embedding"].iloc[7]) == pictured.find(table["embedding"].iloc[7])
    assert pictured.thumbnail(outside(table["id"].iloc[0]))
    assert (plain.has_thumbnails, pictured.has_thumbnails) == (False, True)
    with pytest.raises(SimilarImagesError, match="holds no thumbnails"):
        plain.thumbnail(outside(table["id"].iloc[0]))
    assert not names_of(plain)


def test_an_index_that_named_patients_is_made_again(similar, tmp_path):
    copy = Path(shutil.copytree(similar.folder, tmp_path / "index"))
    card = json.loads((copy / "index.json").read_text())
    (copy / "index.json").write_text(json.dumps({**card, "schema_version": 1}))
    with pytest.raises(SimilarImagesError, match=r"has version 1 of the similar-images format.*make the index again"):
        SimilarImages.open(copy, VERSION)


def test_a_link_in_an_index_is_refused(similar, tmp_path):
    """What it leads to would be packed into a Bento."""
    copy = Path(shutil.copytree(similar.folder, tmp_path / "index"))
    (copy / "extra").symlink_to("/etc/passwd")
    with pytest.raises(SimilarImagesError, match="extra: is a link"):
        SimilarImages.open(copy, VERSION)


def test_only_images_under_an_allowed_licence_are_shown(similar, table):
    found = similar.find(table["embedding"].iloc[0], 50, licences=["CC BY-NC 4.0"])
    assert found
    assert {n.licence for n in found} == {"CC BY-NC 4.0"}
    assert similar.find(table["embedding"].iloc[0], 5, licences=["none such"]) == []


def test_a_thumbnail_is_a_small_picture_of_its_own_image(similar, table, drawn_dataset):
    row = drawn_dataset.manifest.iloc[9]
    small = np.asarray(Image.open(io.BytesIO(similar.thumbnail(outside(row["id"])))), float)
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
    (tmp_path / "index.json").write_text(json.dumps({"schema_version": 3, "model_version": VERSION}))
    with pytest.raises(SimilarImagesError, match="not the card of an index"):
        SimilarImages.open(tmp_path, VERSION)


def test_the_sheet_says_how_similar_and_frames_those_of_the_query_s_label(table, drawn_dataset):
    """ "melanoma 1.00" was read as a probability of melanoma."""
    drawn = similar_sheet(table, drawn_dataset)
    assert drawn.png.startswith(b"\x89PNG")
    rows = [drawn.captions[k : k + drawn.columns] for k in range(0, len(drawn.captions), drawn.columns)]
    framed = iter(range(len(drawn.captions)))
    for query, *near in rows:
        asked, place = query.split("query: ")[1], next(framed)
        assert place not in drawn.framed
        for caption in near:
            _, label, likeness = caption.split("\n")
            assert re.fullmatch(r"similarity -?[01]\.\d{3}", likeness)
            assert (next(framed) in drawn.framed) is (label == asked)
