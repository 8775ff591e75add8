"""The service BentoML imports. Which task and which model are arguments, baked into each Bento when it is built.

bentoml serve lesion_classification:<version>                                       # a Bento: nothing to add
bentoml serve serving.service:svc --arg task=lesion_classification --arg bundle=out/…/bundle   # from source
"""

from __future__ import annotations

from pathlib import Path

import bentoml
from pydantic import BaseModel, ConfigDict

from derm_ml.entrance import enter
from derm_ml.registry import get_task
from serving.factory import make_service


class Arguments(BaseModel):
    """`model` is a tag of the BentoML store, `bundle` a folder; with neither the service is live but not ready."""

    model_config = ConfigDict(extra="forbid")

    task: str
    model: str = ""
    bundle: str = ""


enter()  # this is the worker's process
_given = bentoml.use_arguments(Arguments)
svc = make_service(get_task(_given.task), _given.model or (Path(_given.bundle) if _given.bundle else None))
