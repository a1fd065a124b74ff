"""Curation: source videos to captioned multi-shot scenes."""
