"""Causal video VAEs: frames to latents and back. One file per kind."""
