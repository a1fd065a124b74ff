"""Training the small parts of the packaged model from films."""
