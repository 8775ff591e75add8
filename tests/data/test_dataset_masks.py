"""What becomes of a mask that is not plainly 0 and 255: kept rightly or refused by name, never guessed."""

from __future__ import annotations

import io
import shutil

import numpy as np
import pytest
from PIL import Image

from derm_ml.data.dataset import Dataset
from derm_ml.data.incoming import take_in
from derm_ml.data.prepare import prepare
from derm_ml.data.rules import few_masks_are_empty, lesions_in_every_split, masks_leave_some_background
from derm_ml.registry import get_task
from derm_ml.synthetic.lesions import draw_lesion

pytestmark = pytest.mark.slow  # computes for long

TASK = get_task("lesion_segmentation")


def encoded(picture: Image.Image, kind="PNG", **options):
    buffer = io.BytesIO()
    picture.save(buffer, kind, **options)
    return buffer.getvalue()


def lesion(number):
    return draw_lesion("nevus", number, side=40, width=60)


@pytest.fixture
def folders(tmp_path):
    """Twelve good pairs, below a folder of their own."""
    root = tmp_path / "raw" / "mine"
    for name in ("images", "masks"):
        (root / name).mkdir(parents=True)
    for number in range(12):
        drawn = lesion(number)
        (root / "images" / f"good{number}.png").write_bytes(encoded(Image.fromarray(drawn.image)))
        (root / "masks" / f"good{number}.png").write_bytes(encoded(Image.fromarray(drawn.mask)))
    return root


def add(root, name, mask: bytes | None, ending="png"):
    drawn = lesion(sum(map(ord, name)))
    (root / "images" / f"{name}.png").write_bytes(encoded(Image.fromarray(drawn.image)))
    if mask is not None:
        (root / "masks" / f"{name}.{ending}").write_bytes(mask)
    return drawn.mask


def prepared(root, out) -> Dataset:
    return prepare(TASK, root.parent, TASK.settings(), out)


def as_palette(mask, colours):
    picture = Image.fromarray((mask > 0).astype(np.uint8), "P")
    picture.putpalette(colours)
    return encoded(picture)


READ = {
    "zero_one": lambda m: encoded(Image.fromarray((m > 0).astype(np.uint8))),
    "one_bit": lambda m: encoded(Image.fromarray(m).convert("1")),
    "three_equal_channels": lambda m: encoded(Image.fromarray(np.repeat(m[..., None], 3, 2))),
    "opaque_alpha": lambda m: encoded(Image.fromarray(m).convert("RGBA")),
    "palette_black_white": lambda m: as_palette(m, [0, 0, 0, 255, 255, 255]),
    "palette_of_classes": lambda m: as_palette(m, [0, 0, 0, 128, 0, 0]),
}
REFUSED = {
    "grey_values": (lambda m: encoded(Image.fromarray(m // 2 + 60)), "the mask has the values"),
    "lossy": (lambda m: encoded(Image.fromarray(m), "JPEG", quality=40), "the mask has the values"),
    "coloured": (lambda m: encoded(Image.fromarray(np.stack([m, m * 0, m], 2))), "the mask has colours"),
    "transparent": (lambda m: encoded(Image.merge("LA", [Image.fromarray(m)] * 2)), "transparent parts"),
    "other_size": (lambda m: encoded(Image.fromarray(m[:30])), "60 × 30 pixels, its image 60 × 40"),
    "truncated": (lambda m: encoded(Image.fromarray(m))[:40], "truncated"),
}


@pytest.mark.parametrize("kind", READ)
def test_masks_that_are_read(kind, folders, tmp_path):
    drawn = lesion(sum(map(ord, kind))).mask
    mask = add(folders, kind, READ[kind](drawn))
    dataset = prepared(folders, tmp_path / "out")
    assert not len(dataset.quarantine)
    row = dataset.manifest.set_index("id").loc[kind]
    np.testing.assert_array_equal(dataset.mask(row), mask)
    assert row["mask.area"] == pytest.approx((mask > 0).mean())


@pytest.mark.parametrize("kind", REFUSED)
def test_masks_that_are_refused_by_name(kind, folders, tmp_path):
    make, reason = REFUSED[kind]
    add(folders, kind, make(lesion(sum(map(ord, kind))).mask), "jpg" if kind == "lossy" else "png")
    dataset = prepared(folders, tmp_path / "out")
    assert kind not in set(dataset.manifest["id"])
    (problem,) = dataset.quarantine.to_dict("records")
    assert problem["file"].startswith(f"mine/masks/{kind}.")
    assert reason in problem["reason"]


def test_a_missing_mask_is_quarantined_with_its_picture(folders, tmp_path):
    add(folders, "alone", None)
    (problem,) = prepared(folders, tmp_path / "out").quarantine.to_dict("records")
    assert problem["file"] == "mine/images/alone.png"
    assert "has no mask" in problem["reason"]


def test_an_empty_mask_is_kept_and_counted(folders, tmp_path):
    """It says that there is no lesion. One of 13 is more than chance: the rule turns red and names it."""
    add(folders, "nothing", encoded(Image.fromarray(np.zeros((40, 60), np.uint8))))
    dataset = prepared(folders, tmp_path / "out")
    assert not len(dataset.quarantine)
    finding = few_masks_are_empty(dataset)
    assert not finding.passed
    assert [row["id"] for row in finding.rows] == ["nothing"]


def test_a_mask_that_is_all_lesion_is_pointed_out(folders, tmp_path):
    add(folders, "whole", encoded(Image.fromarray(np.full((40, 60), 255, np.uint8))))
    finding = masks_leave_some_background(prepared(folders, tmp_path / "out"))
    assert not finding.passed
    assert [row["id"] for row in finding.rows] == ["whole"]


def test_a_split_without_a_lesion_stops_the_line(folders, tmp_path):
    dataset = prepared(folders, tmp_path / "out")
    assert lesions_in_every_split(dataset).passed
    dataset.manifest.loc[dataset.manifest["split"] == "test", "mask.area"] = 0.0
    finding = lesions_in_every_split(dataset)
    assert not finding.passed
    assert "in test" in finding.message


def test_a_mask_is_stored_at_its_own_size_though_its_picture_is_shrunk(folders, tmp_path):
    drawn = draw_lesion("nevus", 1, side=300, width=400)
    (folders / "images" / "large.png").write_bytes(encoded(Image.fromarray(drawn.image)))
    (folders / "masks" / "large.png").write_bytes(encoded(Image.fromarray(drawn.mask)))
    dataset = prepare(TASK, folders.parent, TASK.settings(store_side=100), tmp_path / "out")
    row = dataset.manifest.set_index("id").loc["large"]
    assert dataset.image(row).shape == (75, 100, 3)
    assert (row["image.height"], row["image.width"]) == (300, 400)
    np.testing.assert_array_equal(dataset.mask(row), drawn.mask)


def test_a_delivered_batch_takes_pictures_and_masks_together(folders, tmp_path):
    batch = tmp_path / "batch"
    shutil.copytree(folders, batch)
    for kind in ("images", "masks"):
        (batch / kind / "good0.png").rename(batch / kind / "good0_again.png")  # the same bytes under another name
    add(batch, "fresh", encoded(Image.fromarray(lesion(sum(map(ord, "fresh"))).mask)))
    add(batch, "grey", REFUSED["grey_values"][0](lesion(3).mask))
    intake = take_in(TASK, batch, folders.parent, TASK.settings())
    assert intake.taken == 1
    assert intake.folder is not None
    inside = intake.folder.relative_to(folders.parent).as_posix()
    used = [s.files for s in TASK.read(folders.parent, TASK.settings()).samples if s.source == inside]
    assert used == [{"image": f"{inside}/images/fresh.png", "mask": f"{inside}/masks/fresh.png"}]
    assert any("the mask has the values" in p.reason for p in intake.left_out)
