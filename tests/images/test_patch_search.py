"""The search looks into a few cells only: what it does not see there is a leak that nobody looks at."""

from __future__ import annotations

import numpy as np

from derm_ml.images import patch_search
from derm_ml.images.changes import corner_of, turned
from derm_ml.images.duplicates import Sequenced
from derm_ml.images.fingerprints import fingerprint
from derm_ml.images.patch_search import Patches
from derm_ml.synthetic.lesions import CLASSES, draw_lesion


def test_the_cells_searched_hold_nearly_all_copies_an_exact_search_sees(monkeypatch):
    images = {f"{k:03}": draw_lesion(CLASSES[k % 3], k, 96).image for k in range(60)}
    prints = {name: fingerprint(image) for name, image in images.items()}
    prints |= {f"{name} copy": fingerprint(turned(corner_of(image, 0.7), 20)) for name, image in images.items()}
    names = sorted(prints)

    def seen() -> set[tuple[int, int]]:
        found = np.concatenate([some for _, some in Sequenced(prints, names, names).candidates()])
        pairs = {(min(a, b), max(a, b)) for a, b in zip(found["a"].tolist(), found["b"].tolist(), strict=True)}
        return {(a, b) for a, b in pairs if names[b] == f"{names[a]} copy"}

    few = seen()
    monkeypatch.setattr(patch_search, "CELLS_SEARCHED", 10_000)
    every = seen()
    assert len(every) > 50
    assert len(few & every) >= 0.95 * len(every)


def test_images_without_patches_are_nobodys_candidates():
    blank = {f"{k}": fingerprint(np.full((40, 40, 3), 40 * k, np.uint8)) for k in range(5)}
    assert all(not len(found) for _, found in Sequenced(blank, list(blank), list(blank)).candidates())
    drawn = blank | {f"d{k}": fingerprint(draw_lesion("nevus", k, 64).image) for k in range(3)}
    names = list(drawn)
    for _, found in Sequenced(drawn, names, names).candidates():
        assert all(names[k].startswith("d") for side in ("a", "b") for k in found[side].tolist())


def test_patches_that_were_kept_are_those_that_were_made():
    """Or a delivery would be searched among other images than those that are there."""
    blank = fingerprint(np.zeros((40, 40, 3), np.uint8)).features
    drawn = [fingerprint(draw_lesion("nevus", k, 64).image).features for k in range(3)]
    for features in ([blank], [blank, *drawn], [*drawn, blank, blank], drawn):
        made = Patches.of(features)
        back = Patches.frombytes(made.tobytes(), len(features))
        for name in ("counts", "codes", "turns", "sizes"):
            assert np.array_equal(getattr(made, name), getattr(back, name))
        assert np.array_equal(made.sample(range(len(features))), back.sample(range(len(features))))
        assert len(made.sample(range(len(features)))) == sum(f is not blank for f in features)
