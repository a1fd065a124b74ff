"""Identities of curation: hashes of content, so that a rerun agrees with the first run."""

from __future__ import annotations

import hashlib


def video_id(uri: str, content_sha256: str) -> str:
    """Return the identity of a source: the same bytes at the same address."""
    return hashlib.sha256(f"{uri}\0{content_sha256}".encode()).hexdigest()[:32]


def shot_id(video: str, start_frame: int, end_frame: int, detector_hash: str) -> str:
    """Return the identity of a shot: its video, its span and its detector."""
    key = f"{video}\0{start_frame}\0{end_frame}\0{detector_hash}"
    return hashlib.sha256(key.encode()).hexdigest()[:32]


def keyframe_uri(sha256: str) -> str:
    """Return where a keyframe is, relative to the output folder."""
    return f"media/{sha256[:2]}/{sha256}.jpg"


def shot_file_uri(sha256: str) -> str:
    """Return where a shot file is, relative to the output folder."""
    return f"media/{sha256[:2]}/{sha256}.mp4"
