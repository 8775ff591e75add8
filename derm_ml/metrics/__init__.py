"""Numbers with intervals: ranking, decisions, calibration, operating points, subgroups, the official ISIC score."""
