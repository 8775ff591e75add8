"""What was measured of a model on a frozen split, its report, and two models side by side."""
