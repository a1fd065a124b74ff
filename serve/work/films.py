"""Fragments and films: a chunk's frames as H.264, and fragments joined without re-encoding.

A fragment is one closed group of pictures without B-frames, so it plays alone and joins others
with nothing but new time stamps. Knows nothing of stories: a film is a list of blob keys.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import os
import threading
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from av.error import FFmpegError
from numpy.typing import NDArray

from fw_model.errors import MediaError
from fw_model.files.atomic import atomic_file
from serve.stores.blobs import BlobStore, storage_error

FORMAT = "1"  # part of each cached film's name; raise it when films are assembled differently


def encode_fragment(frames: NDArray[np.uint8], *, fps: float, crf: int) -> bytes:
    """Encode uint8 [F, H, W, 3] as one fragment; height and width must be even."""
    _, height, width, _ = frames.shape
    if height % 2 or width % 2:
        raise MediaError(
            f"Frames of {width}x{height} px cannot be encoded; width and height must be even."
        )
    sink = io.BytesIO()
    movflags = {"movflags": "frag_keyframe+empty_moov+default_base_moof"}
    with av.open(sink, "w", format="mp4", options=movflags) as container:
        options = {"crf": str(crf), "preset": "medium", "bf": "0", "g": str(len(frames)),
                   "x264-params": "scenecut=0:open-gop=0"}  # fmt: skip
        rate = Fraction(fps).limit_denominator(1001)
        stream = container.add_stream("libx264", rate=rate, options=options)
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        stream.codec_context.thread_count = 1  # with one thread, equal frames give equal bytes
        for frame in frames:
            for packet in stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")):
                container.mux(packet)
        for packet in stream.encode():
            container.mux(packet)
    return sink.getvalue()


def join_fragments(fragments: Sequence[bytes], path: Path) -> None:
    """Join fragments into an MP4 file that players can start before they have all of it."""
    with av.open(str(path), "w", format="mp4", options={"movflags": "faststart"}) as film:
        stream, number = None, 0
        for fragment in fragments:
            with av.open(io.BytesIO(fragment)) as part:
                source = part.streams.video[0]
                if stream is None:
                    stream = film.add_stream_from_template(source)
                    time_base = 1 / Fraction(source.average_rate)
                for packet in part.demux(source):
                    if packet.size == 0:  # marks the end
                        continue
                    packet.stream, packet.time_base = stream, time_base
                    packet.pts = packet.dts = number
                    packet.duration = 1
                    film.mux(packet)
                    number += 1


class FilmCache:
    """Films assembled from fragments, cached on disk under the hash of their blob keys."""

    def __init__(self, folder: Path, blobs: BlobStore, *, max_bytes: int) -> None:
        self._folder = folder
        self._blobs = blobs
        self._max_bytes = max_bytes
        self._lock = threading.Lock()

    def film(self, fragment_keys: Sequence[str]) -> Path:
        """Return an MP4 file of the fragments, assembled unless it is cached."""
        digest = hashlib.sha256("\n".join([FORMAT, *fragment_keys]).encode()).hexdigest()
        path = self._folder / f"{digest}.mp4"
        with self._lock:
            if path.exists():
                os.utime(path)
                return path
            try:
                with atomic_file(path) as file:
                    fragments = [self._blobs.get(key) for key in fragment_keys]
                    join_fragments(fragments, Path(file.name))
            except (OSError, FFmpegError) as error:
                raise storage_error("Cannot assemble the film", error) from error
            self._drop_oldest(keep=path)
        return path

    def _drop_oldest(self, *, keep: Path) -> None:
        films = sorted(self._folder.glob("*.mp4"), key=lambda film: film.stat().st_mtime)
        excess = sum(film.stat().st_size for film in films) - self._max_bytes
        for film in films:
            if excess <= 0:
                return
            if film != keep:
                excess -= film.stat().st_size
                with contextlib.suppress(FileNotFoundError):  # another ingress deleted it
                    film.unlink()
