"""A request to a service as bytes, and the numbers its answer must hold: how a built service is checked.

Evaluation said something of each held-out case; the service, asked with the same bytes, must say the same.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from derm_ml.asking.answers import Fitness
from derm_ml.asking.kinds import IMAGE, Asking
from derm_ml.asking.pair import FIRST, SECOND

if TYPE_CHECKING:
    import pandas as pd

    from derm_ml.data.dataset import Dataset
    from derm_ml.evaluation.record import Evaluation

TEST = "test"


@dataclass(frozen=True, slots=True)
class Upload:
    """One case as it is sent to `path`, and what the evaluation said of it: name → number."""

    id: str
    body: bytes
    expected: Mapping[str, float]
    path: str = "/predict"
    content_type: str = "application/octet-stream"
    query: Mapping[str, str | float] = field(default_factory=dict)


def image_uploads(asking: Asking, dataset: Dataset, evaluation: Evaluation, n: int) -> Iterator[Upload]:
    """At most `n` test images as they would be uploaded, with what the evaluation said of them.

    These are the columns `p.<label>` of its predictions, or `answer.<name>` of a task that answers no probabilities.
    Where the task takes the photo of the fellow eye and the split has it, it is sent along.
    """
    rows = dataset.split(TEST)
    said = evaluation.predictions.set_index("id")
    answered = [column for column in said.columns if column.startswith(("p.", "answer."))]
    fellows = dict(zip(rows["id"], asking.fellows(dataset, rows), strict=True))
    for _, row in evenly_spaced(rows, n).iterrows():
        other = fellows[row["id"]]
        image = dataset.read(row)
        parts = {IMAGE: image} if other < 0 else {FIRST: image, SECOND: dataset.read(rows.iloc[other])}
        body, content_type = asking.request(parts)
        expected = {column.partition(".")[2]: float(said.at[row["id"], column]) for column in answered}
        query = asking.facts(dataset.attributes(row)) | asking.whole
        yield Upload(str(row["id"]), body, expected, asking.path, content_type, query)


def numbers_of(answer: Mapping[str, Any]) -> Mapping[str, float]:
    """The probabilities of an answer or, without any, its bare numbers."""
    bare = {n: v for n, v in answer.items() if isinstance(v, float) and n not in Fitness.model_fields}
    return answer.get("probabilities") or bare


def evenly_spaced(rows: pd.DataFrame, n: int) -> pd.DataFrame:
    """At most `n` rows, evenly spaced."""
    count = min(n, len(rows))
    return rows.take([i * len(rows) // count for i in range(count)])
