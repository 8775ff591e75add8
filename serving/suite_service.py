"""The suite that BentoML imports: from these sources, as no Bento holds several tasks. It opens the models of theirs.

bentoml serve serving.suite_service:svc            # what `python -m serving` starts
"""

from __future__ import annotations

from derm_ml.entrance import enter
from derm_ml.registry import all_tasks
from serving.factory import make_suite

enter()  # this is the worker's process
svc = make_suite(all_tasks())
