"""Curated scenes to latents and embeddings."""
