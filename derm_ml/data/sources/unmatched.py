"""Settings that name labels of the data: what they name and nothing carries is said, for a setting that does nothing
looks like one that was followed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace

from derm_ml.data.diagnoses import meant_by, same_name
from derm_ml.records import Reading


def with_unmatched(reading: Reading, given: Mapping[str, Sequence[str]]) -> Reading:
    """The reading, saying which names of which setting (setting → names) are the label of no image.

    Names are compared as diagnoses: `bcc` is carried where an image is called `Basal cell carcinoma`. `prepare` makes
    an error of it; a single delivery may hold one class alone.
    """
    carried = Counter(sample.named or sample.label for sample in reading.samples)
    carried.update({name: count for origin in reading.origins for name, count in origin.left_out.items()})
    there = {same_name(name) for name in carried}
    missed = {
        setting: missing
        for setting, names in given.items()
        if (missing := tuple(name for name in names if not meant_by(name) & there))
    }
    present = tuple(f"{name} ({count})" for name, count in sorted(carried.items()))
    return replace(
        reading,
        unmatched={**reading.unmatched, **missed},
        present={**reading.present, **dict.fromkeys(missed, present)},
    )
