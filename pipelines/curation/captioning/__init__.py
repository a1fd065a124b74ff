"""Phase caption: each scene's shots are described together, then checked."""
