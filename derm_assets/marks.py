"""Numbers that Dagster plots over time are comparable only on one and the same split: here the split marks them.

metadata |= split_marks(context.instance, context.asset_key, {"split": measured.split_hash})

split_hash     which split the numbers beside it are of
split_number   the how-manieth split this asset has seen: its plot steps where the others must not be compared
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import dagster as dg

from derm_assets.display import text

_AT_ONCE = 500  # materialisations read in one go


def split_marks(
    instance: dg.DagsterInstance, key: dg.AssetKey, hashes: Mapping[str, str]
) -> dict[str, dg.MetadataValue]:
    """`<name>_hash` and `<name>_number` for each named split, counted over all materialisations of the asset."""
    from derm_ml.evaluation.trend import split_number  # beside figures

    before: dict[str, list[str]] = {name: [] for name in hashes}
    for metadata in _earlier(instance, key):
        for name, seen in before.items():
            if (value := metadata.get(f"{name}_hash")) is not None:
                seen.append(str(value.value))
    marks: dict[str, dg.MetadataValue] = {}
    for name, now in hashes.items():
        marks[f"{name}_hash"] = text(now)
        marks[f"{name}_number"] = dg.MetadataValue.int(split_number([*before[name], now]))
    return marks


def _earlier(instance: dg.DagsterInstance, key: dg.AssetKey) -> Iterator[Mapping[str, dg.MetadataValue]]:
    """The metadata of all materialisations of an asset, the first one first."""
    cursor = None
    while True:
        found = instance.fetch_materializations(key, _AT_ONCE, cursor, ascending=True)
        for record in found.records:
            if record.asset_materialization is not None:
                yield record.asset_materialization.metadata
        if not found.has_more:
            return
        cursor = found.cursor
