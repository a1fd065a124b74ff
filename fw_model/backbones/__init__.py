"""Pretrained video diffusion transformers, taught to read the caches. One file a family."""
