"""`derm fetch list`: what there is, how large and under which licence, on any terminal."""

from __future__ import annotations

from derm_ml.data.catalogue import catalogue


def test_the_list_fits_80_columns_and_tells_models_from_data_sets(derm):
    code, out, _ = derm("fetch", "list")
    assert code == 0
    assert max(map(len, out.splitlines())) <= 80
    images, _, models = out.partition("models, no images")
    for entry in catalogue().values():
        group = models if entry.is_model else images
        assert entry.name in group
        assert entry.licence.split()[0] in group
        assert entry.is_model or f"{entry.images:,}" in group or entry.images == 0


def test_one_entry_is_described_in_full(derm):
    code, out, _ = derm("fetch", "list", "idrid")
    assert code == 0
    assert max(map(len, out.splitlines())) <= 80
    said = " ".join(out.split())
    assert "licence: CC-BY-4.0. Its publisher asks for an account. cite: Porwal" in said
    assert "size: 516 images, about 0.4 GB (516 images of about 800 KB each, on its page)" in said
    assert "in its paper: images, gigabytes page: https://doi.org/10.21227/H25W98" in said
