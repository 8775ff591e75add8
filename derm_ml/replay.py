"""A request to a service as bytes, and the numbers its answer must hold: how a built service is checked.

Evaluation said something of each held-out case; the service, asked with the same bytes, must say the same.
"""

from __future__ import annotations

import math
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd

    from derm_ml.dataset import Dataset
    from derm_ml.evaluation import Evaluation

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


def picture_uploads(dataset: Dataset, evaluation: Evaluation, n: int) -> Iterator[Upload]:
    """At most `n` test pictures as they would be uploaded, with what the evaluation said of them.

    That are the columns `p.<label>` of its predictions, or `answer.<name>` of a task that answers no probabilities.
    """
    said = evaluation.predictions.set_index("id")
    answered = [column for column in said.columns if column.startswith(("p.", "answer."))]
    for _, row in spread(dataset.split(TEST), n).iterrows():
        expected = {column.partition(".")[2]: float(said.at[row["id"], column]) for column in answered}
        query = known_attributes(dataset.attributes(row))
        yield Upload(str(row["id"]), dataset.read(row), expected, query=query)


def form_body(files: Mapping[str, bytes], fields: Mapping[str, str] | None = None) -> tuple[bytes, str]:
    """(body, content type) of a multipart/form-data request with pictures and values by name."""
    mark = uuid.uuid4().hex
    parts = [
        b'Content-Disposition: form-data; name="%s"; filename="%s"\r\n\r\n%s' % (name.encode(), name.encode(), data)
        for name, data in files.items()
    ]
    for name, value in (fields or {}).items():
        parts.append(b'Content-Disposition: form-data; name="%s"\r\n\r\n%s' % (name.encode(), value.encode()))
    body = b"".join(b"--%s\r\n%s\r\n" % (mark.encode(), part) for part in parts) + b"--%s--\r\n" % mark.encode()
    return body, f"multipart/form-data; boundary={mark}"


def numbers_of(answer: Mapping[str, Any]) -> Mapping[str, float]:
    """The probabilities of an answer, or, without any, its bare numbers."""
    return answer.get("probabilities") or {name: value for name, value in answer.items() if isinstance(value, float)}


def known_attributes(attributes: Mapping[str, str | float]) -> dict[str, str | float]:
    """The attributes an endpoint takes, without what the predictor counts as missing (an age of NaN, another sex)."""
    age, sex = attributes.get("age", math.nan), attributes.get("sex")
    known: dict[str, str | float] = {"age": age} if age != "" and math.isfinite(float(age)) else {}
    return {**known, "sex": sex} if str(sex).lower() in ("male", "female") and sex else known


def spread(rows: pd.DataFrame, n: int) -> pd.DataFrame:
    """At most `n` rows, evenly spaced."""
    count = min(n, len(rows))
    return rows.take([i * len(rows) // count for i in range(count)])
