"""A trained model as files, and what predicts with it."""
