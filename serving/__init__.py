"""Serving: one hardened BentoML service per task, all from one factory. No torch, dagster, mlflow or dvc in here.

python -m serving lesion_classification        # serve the released Bento on 127.0.0.1:3000
"""

import derm_ml  # noqa: F401  before any framework: it turns their telemetry off
