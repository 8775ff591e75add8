"""Pictures people look at, as PNG bytes: curves, charts and contact sheets in one style."""
