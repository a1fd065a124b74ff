"""Codecs between frames and latents. One file an implementation, chosen by `kind`."""
