"""Phase cut: each kept shot as a video file of its own, if asked for."""
