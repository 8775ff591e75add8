"""Pages for people: one frame and one style for every report, self-contained and without a script."""
