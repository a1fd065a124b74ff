"""Any open_clip model as an embedder of pictures and prompts.

N inputs, E embedding width, S the side of CLIP's pictures in pixels.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import open_clip
import torch
from numpy.typing import NDArray
from open_clip.tokenizer import HFTokenizer
from open_clip.transform import PreprocessCfg, image_transform_v2
from PIL import Image
from torch.nn import functional

from fw_model.embedders.open_clip_folder import clip_id, load_clip, load_tokenizer
from fw_model.errors import InputError

_BATCH_SIZE = 64


class OpenClipEmbedder:
    """CLIP from a local folder; see `Embedder` for what the methods promise."""

    def __init__(self, model: open_clip.CLIP, tokenizer: HFTokenizer, *, model_id: str) -> None:
        self._model = model
        self._tokenizer = tokenizer
        self.model_id = model_id
        preprocess = dict(open_clip.get_model_preprocess_cfg(model))
        size = preprocess["size"]
        self.image_size = int(size if isinstance(size, int) else max(size))
        self._preprocess = image_transform_v2(PreprocessCfg(**preprocess), is_train=False)
        self.width = int(self.embed_text(["a"]).shape[1])

    @classmethod
    def load(cls, folder: str | Path, *, device: torch.device | str = "cpu") -> OpenClipEmbedder:
        """Load a folder in open_clip's layout; CheckpointError for any other folder."""
        return cls(load_clip(folder, device), load_tokenizer(folder), model_id=clip_id(folder))

    @torch.no_grad()
    def embed_images(self, images: Sequence[NDArray[np.uint8]]) -> torch.Tensor:
        rows = []
        for start in range(0, len(images), _BATCH_SIZE):
            batch = [self._prepared(image) for image in images[start : start + _BATCH_SIZE]]
            pixels = torch.stack(batch).to(self._device)  # [n, 3, S, S]
            rows.append(functional.normalize(self._model.encode_image(pixels).float(), dim=-1))
        return torch.cat(rows).cpu() if rows else torch.empty(0, self.width)

    @torch.no_grad()
    def embed_text(self, prompts: Sequence[str]) -> torch.Tensor:
        rows = []
        for start in range(0, len(prompts), _BATCH_SIZE):  # CLIP cuts off text past its context
            tokens = self._tokenizer(list(prompts[start : start + _BATCH_SIZE]))  # [n, T]
            features = self._model.encode_text(tokens.to(self._device))
            rows.append(functional.normalize(features.float(), dim=-1))
        return torch.cat(rows).cpu() if rows else torch.empty(0, self.width)

    @property
    def _device(self) -> torch.device:
        device: torch.device = next(self._model.parameters()).device
        return device

    def _prepared(self, image: NDArray[np.uint8]) -> torch.Tensor:
        if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8:
            raise InputError(
                f"A picture must be uint8 [H, W, 3], got {image.dtype} {list(image.shape)}."
            )
        prepared: torch.Tensor = self._preprocess(Image.fromarray(image))
        return prepared
