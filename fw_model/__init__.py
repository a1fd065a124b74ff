"""The model: caches, backbone, vae, generator, training step. Runs without a cluster."""
