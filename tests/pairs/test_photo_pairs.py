"""The map of a made pair is what version 2 is taught: where it is wrong, it teaches what is wrong."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from derm_ml.pairs import photo_pairs
from derm_ml.pairs.photo_pairs import PLACES, training_pairs


@pytest.fixture
def spotted() -> list[list[np.ndarray]]:
    """Photos that are not square, grey with one white spot off the middle."""
    photos = []
    for x, y in ((70, 40), (50, 60), (90, 55)):
        photo = np.full((110, 150, 3), 60, np.uint8)
        cv2.circle(photo, (x, y), 5, (255, 255, 255), -1)
        photos.append([photo])
    return photos


def spot(picture: np.ndarray) -> np.ndarray:
    """The middle of the white spot in -1..1 (2,)."""
    rows, columns = np.nonzero(picture[..., 0] > 150)
    return (2 * np.array([columns.mean(), rows.mean()]) + 1) / picture.shape[0] - 1


def test_the_places_of_the_first_picture_show_the_same_in_the_second(spotted, monkeypatch):
    """Tilted, bent by an expression, mirrored: what is learned to be one place is one, to half a pixel."""
    monkeypatch.setattr(photo_pairs, "_taken", lambda picture, _rng: picture)
    load, missed, bent = training_pairs(spotted, 96), [], []
    for seed in range(60):
        first, second, there = load(seed, seed)
        assert first.shape == second.shape == (96, 96, 3)
        assert there.shape == PLACES.shape
        seen = np.isfinite(there[:, 0])
        near = seen & (np.abs(PLACES - spot(first)).max(axis=1) < 0.45)
        if near.sum() < 6:
            continue
        map_ = np.linalg.lstsq(_quadratic(PLACES[near]), there[near], rcond=None)[0]  # smooth between the places
        missed.append(np.abs(_quadratic(spot(first)[None]) @ map_ - spot(second)).max())
        affine = np.linalg.lstsq(_quadratic(PLACES[seen])[:, :3], there[seen], rcond=None)[0]
        bent.append(np.abs(_quadratic(PLACES[seen])[:, :3] @ affine - there[seen]).max())
    assert len(missed) > 30
    assert np.median(missed) < 1 / 96  # half a pixel; in half sides
    assert np.max(missed) < 4 / 96
    assert np.median(bent) > 4 / 96  # and no affine map would do


def _quadratic(at: np.ndarray) -> np.ndarray:
    x, y = at.T
    return np.stack([np.ones_like(x), x, y, x * x, x * y, y * y], axis=1)


def test_a_seed_gives_one_pair(spotted):
    load = training_pairs(spotted, 96)
    for one, other in zip(load(1, 7), load(1, 7), strict=True):
        assert np.array_equal(one, other, equal_nan=one.dtype.kind == "f")
    assert (load(1, 7)[0] != load(1, 8)[0]).any()


def test_the_map_between_two_visits_is_not_claimed(spotted):
    load = training_pairs([[spotted[0][0], spotted[1][0]]], 96)
    maps = [load(0, seed)[2] for seed in range(200)]
    assert {there.dtype for there in maps} == {np.dtype("float32")}
    unknown = [np.isnan(there).all() for there in maps]
    assert 0.02 < np.mean(unknown) < 0.25
