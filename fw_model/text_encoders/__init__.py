"""Encoders of prompts into the tokens that a backbone attends to. One file per implementation."""
