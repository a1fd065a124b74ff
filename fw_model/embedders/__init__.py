"""Embedders of pictures and prompts into one space. One file an implementation."""
