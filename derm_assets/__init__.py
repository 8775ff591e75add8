"""Dagster: the order, the checks, the schedules and the picture. The work itself is done by derm_ml."""

import derm_ml  # noqa: F401  before any framework: it turns their telemetry off
