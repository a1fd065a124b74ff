"""Generating a story chunk by chunk, from a request to frames."""
