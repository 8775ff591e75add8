"""The library: reads image sets, trains, evaluates, explains and predicts. Research use only.

Every step is a plain function that runs without an orchestrator; `derm --help` lists them.
"""

RESEARCH_USE = "Research use only. Not a medical device and not a diagnosis."


class DermError(Exception):
    """Something a user can act on: the message says what was wrong, where, and what to do next."""
