"""Dagster: the order, the checks, the schedules and the picture. The work itself is done by derm_ml."""
