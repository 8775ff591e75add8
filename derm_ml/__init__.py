"""The library: reads image sets, trains, evaluates, explains and predicts. Research use only.

Every step is a plain function that runs without an orchestrator; `derm --help` lists them.
"""

import os

from derm_ml.escape import visible

# Medical images are private: no dependency tells anybody that it runs, on what, or how often. Set, not defaulted, in
# every process that imports this library, and inherited by those it starts; every entry imports it first.
TELEMETRY_OFF = {
    "DAGSTER_DISABLE_TELEMETRY": "1",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "BENTOML_DO_NOT_TRACK": "True",
    "DVC_NO_ANALYTICS": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "NO_ALBUMENTATIONS_UPDATE": "1",  # it asks a server for news at import
    "DO_NOT_TRACK": "true",  # the convention others follow (consoledonottrack.com)
}
os.environ.update(TELEMETRY_OFF)

# Threads that wait for each other sleep instead of spinning: beside other work on the same cores a training is then
# several times faster. Read by OpenMP when torch or ONNX Runtime is first imported, so it stands here.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

RESEARCH_USE = "Research use only. Not a medical device and not a diagnosis."


class DermError(Exception):
    """Something a user can act on: the message says what was wrong, where, and what to do next.

    It names files and cells as they were delivered, so what is not printable in them is written out.
    """

    def __str__(self) -> str:
        return visible(super().__str__(), keep="\n\t")
