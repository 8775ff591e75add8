"""An evaluation as a page people read."""
