"""Fingerprints lie on disk while a set is searched: what is read back must be what was made."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np

from derm_ml.images.duplicates import find_duplicates
from derm_ml.images.fingerprints import fingerprint
from derm_ml.images.stored_prints import KeptPrint, StoredPrints
from derm_ml.synthetic.lesions import CLASSES, draw_lesion


def test_what_is_stored_comes_back_and_gives_the_same_pairs(tmp_path):
    made = {f"{k}": fingerprint(draw_lesion(CLASSES[k % 3], k % 9, 64).image) for k in range(12)}
    made["blank"] = fingerprint(np.zeros((20, 30, 3), np.uint8))
    stored = StoredPrints(tmp_path)
    stored.update(made)
    assert list(stored) == list(made)
    with ThreadPoolExecutor(4) as pool:
        back = dict(zip(made, pool.map(stored.__getitem__, made), strict=True))
    for name, one in made.items():
        other = back[name]
        assert (one.pixels, one.features.width, one.features.height) == (
            other.pixels, other.features.width, other.features.height
        )  # fmt: skip
        assert (one.sketch == other.sketch).all()
        assert np.array_equal(one.features.places, other.features.places)
        assert np.array_equal(one.features.descriptors, other.features.descriptors)
    assert find_duplicates(stored) == find_duplicates(made) != []
    del stored["0"]
    assert "0" not in stored
    assert not list(tmp_path.iterdir())  # nothing is left behind, whatever ends the process
    stored.close()


def test_what_a_cache_has_is_read_there_by_its_own_key(tmp_path):
    """Or an image that was delivered earlier would be compared by another one's fingerprint."""
    made = {f"{k}": fingerprint(draw_lesion(CLASSES[k % 3], k, 64).image) for k in range(4)}
    keys = {name: bytes([k]) * 32 for k, name in enumerate(made)}
    by_key = {keys[name]: one for name, one in made.items()}
    stored = StoredPrints(tmp_path, lambda name, kept: by_key[kept.key])
    for k, (name, one) in enumerate(made.items()):
        if k % 2:
            stored[name] = one
        else:
            stored.keep(name, KeptPrint(keys[name], one.pixels))
    stored["1"] = made["3"]  # replaced
    for name in made:
        expected = made["3"] if name == "1" else made[name]
        assert stored[name].pixels == stored.pixels(name) == expected.pixels
        assert (stored[name].sketch == expected.sketch).all()
    stored.close()
