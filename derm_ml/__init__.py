"""The library: reads image sets, trains, evaluates, explains and predicts. Research use only.

Every step is a plain function that runs without an orchestrator; `derm --help` lists them.
"""

import os

# Threads that wait for each other sleep instead of spinning: beside other work on the same cores a training is then
# several times faster. Read by OpenMP when torch or ONNX Runtime is first imported, so it stands here.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

RESEARCH_USE = "Research use only. Not a medical device and not a diagnosis."


class DermError(Exception):
    """Something a user can act on: the message says what was wrong, where, and what to do next."""
