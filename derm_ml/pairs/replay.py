"""Held-out pairs as uploads, and how a pair is written as the body of a request."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator

from PIL import Image

from derm_ml.asking.form import form_body
from derm_ml.asking.kinds import Asking
from derm_ml.asking.pair import FIRST, SECOND, Pair
from derm_ml.asking.replay import TEST, Upload, evenly_spaced
from derm_ml.data.dataset import Dataset
from derm_ml.evaluation.record import Evaluation
from derm_ml.pairs.cases import cases


def pair_uploads(asking: Asking, dataset: Dataset, evaluation: Evaluation, n: int) -> Iterator[Upload]:
    """At most `n` of the evaluated pairs, right and wrong ones, as the service takes them."""
    said = evaluation.predictions.set_index("id")
    of = {case.id: case for case in cases(dataset, TEST)}
    shown = evenly_spaced(evaluation.predictions.loc[evaluation.predictions["id"].isin(list(of))], n)
    for name in shown["id"]:
        body, content_type = pair_body(of[name].load()[0])
        yield Upload(name, body, json.loads(str(said.at[name, "answer"])), asking.path, content_type)


def pair_body(pair: Pair) -> tuple[bytes, str]:
    """(body, content type) of a pair as multipart/form-data: `first`, `second` (PNG) and `boxes` (JSON)."""
    boxes = {
        side: [{"label": r.label, "box": list(r.box)} for r in regions]
        for side, regions in zip((FIRST, SECOND), pair.regions, strict=True)
    }
    photos = {side: _png(picture) for side, picture in zip((FIRST, SECOND), pair.pictures, strict=True)}
    return form_body(photos, {"boxes": json.dumps(boxes)})


def _png(picture) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, "PNG")
    return buffer.getvalue()
