"""Pretrained video diffusion transformers, trained to read the caches. One file per family."""
