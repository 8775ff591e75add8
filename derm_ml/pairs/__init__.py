"""Two photos of one person: faces, registration, matching, training and evaluation."""
