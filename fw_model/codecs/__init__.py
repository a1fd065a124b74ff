"""Codecs between frames and latents. One file an implementation, chosen by `kind`."""

from __future__ import annotations

from typing import Final

CODECS: Final = {"wan": "fw_model.codecs.wan:WanCodec"}
