"""The model: caches, backbone, codec, generator, training step. Runs without a cluster."""
