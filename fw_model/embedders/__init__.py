"""Embedders of pictures and prompts in one space. One file per implementation."""
