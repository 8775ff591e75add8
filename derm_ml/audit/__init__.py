"""What in a dataset deserves a look before anything is trained on it."""
