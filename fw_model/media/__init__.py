"""Video and image files: the only place where uint8 pixels meet tensors in [-1, 1]."""
