"""Training of a small CLIP from scratch on captioned shots.

A picture is matched with every text of the batch that is true of it, not only with its own: many
shots look the same, and short texts ("a bear", "at night") are true of many. So the towers learn
both whole captions and single facts, and retrieval and zero-shot tagging both work.

B pairs in a batch, E embedding width, T tokens.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import open_clip
import torch
from pydantic import Field
from safetensors.torch import save_file
from torch.nn import functional
from transformers import PreTrainedTokenizerFast

from fw_model.diffusion.schedule import derive_seed
from fw_model.embedders.clip import OpenClipEmbedder
from fw_model.embedders.open_clip_folder import CONFIG_FILE, WEIGHTS_FILE, load_clip, load_tokenizer
from fw_model.errors import DataError
from fw_model.files.atomic import atomic_folder
from fw_model.optim.muon import Muon, split_weights
from fw_model.pretraining.run import LoopConfig, Parts, SaveEvery, move, pretrain
from fw_model.pretraining.shot_library import ShotLibrary, ShotSource, augmented, to_tensor
from fw_model.pretraining.tokenizer import train_tokenizer

_PIXEL_MEAN = _PIXEL_STD = (0.5, 0.5, 0.5)


class EmbedderPretrainConfig(LoopConfig):
    """The small CLIP and how it is trained."""

    image_size: int = Field(64, ge=16, description="Side of a picture in pixels.")
    image_tower: Literal["vit", "resnet"] = Field(
        "vit", description="Kind of the picture tower; a resnet learns shapes from fewer pictures."
    )
    patch_size: int = Field(16, ge=4, description="Side of a patch in pixels (vit).")
    embed_dim: int = Field(96, ge=8, description="Width of the common space.")
    image_width: int = Field(128, ge=16, description="Width of the picture tower.")
    image_layers: int = Field(
        3, ge=1, description="Layers of the picture tower (vit), or blocks of each level (resnet)."
    )
    text_width: int = Field(128, ge=16, description="Width of the text tower.")
    text_layers: int = Field(2, ge=1, description="Layers of the text tower.")
    head_width: int = Field(32, ge=8, description="Width of an attention head.")
    context_length: int = Field(36, ge=8, description="Most tokens of a text.")
    vocab_size: int = Field(1024, ge=300, description="Entries of the tokenizer.")
    batch_size: int = Field(48, ge=2, description="Pairs in a step.")
    steps: int = Field(700, ge=1, description="Optimizer steps.")
    learning_rate: float = Field(0.02, gt=0, description="Peak rate of Muon, for matrices.")
    adam_learning_rate: float = Field(1.5e-3, gt=0, description="Peak rate of Adam, for the rest.")
    short_text_probability: float = Field(
        0.5, ge=0, le=1, description="Chance that a text names only one to three facts."
    )
    hue_augmentation: float = Field(
        0.3, ge=0, le=1, description="Chance that a picture's colour channels are permuted."
    )
    text_from: str | None = Field(
        None,
        description="A CLIP folder whose text tower and tokenizer stay unchanged, so that a model "
        "that reads its text stays valid. Only the projection and the picture tower are trained; "
        "the tower starts from the folder's weights if it has the same shape.",
    )
    save_every: SaveEvery = 150

    def _picture_tree(self) -> dict[str, Any]:
        tree: dict[str, Any] = {
            "image_size": self.image_size,
            "width": self.image_width,
            "head_width": self.head_width,
        }
        if self.image_tower == "resnet":
            return tree | {"layers": [self.image_layers] * 4}
        return tree | {"layers": self.image_layers, "patch_size": self.patch_size}

    def model_config_tree(self) -> dict[str, Any]:
        """Return the model_cfg part of open_clip's config file."""
        return {
            "embed_dim": self.embed_dim,
            "vision_cfg": self._picture_tree(),
            "text_cfg": {
                "context_length": self.context_length,
                "vocab_size": self.vocab_size,
                "hf_tokenizer_name": "local",
                "width": self.text_width,
                "heads": self.text_width // self.head_width,
                "layers": self.text_layers,
            },
        }


def pretrain_embedder(
    config: EmbedderPretrainConfig, library: ShotLibrary, validation: ShotLibrary, output: Path
) -> dict[str, float]:
    """Train, resuming the run in `output`; return the final measurements.

    Leaves `clip/` (open_clip layout, half precision), `metrics.jsonl` and `state.pt`.
    """
    captioned = [i for i, shot in enumerate(library.shots) if shot.caption and shot.tags]
    if not captioned:
        raise DataError("No shot has a caption; train CLIP on films with captions.")
    model, tokenizer, tree = _new_clip(config, [library.shots[i] for i in captioned])
    matrices, others = split_weights(model)
    muon = Muon(matrices, lr=config.learning_rate)
    adam = torch.optim.AdamW(others, lr=config.adam_learning_rate, betas=(0.9, 0.98))

    def step(number: int, fraction: float) -> dict[str, torch.Tensor]:
        pixels, texts, truth = sample_pairs(config, library, captioned, number)
        tokens = _tokenize(tokenizer, texts, config.context_length)
        loss = matching_loss(model, pixels, tokens, truth)
        move((muon, adam), loss, fraction)
        with torch.no_grad():
            model.logit_scale.clamp_(0, math.log(100))
        return {"loss": loss}

    def export() -> dict[str, float]:
        with atomic_folder(output / "clip") as folder:
            save_clip(model, tree, folder)
            tokenizer.save_pretrained(str(folder))
        return measure_retrieval(OpenClipEmbedder.load(output / "clip"), validation)

    parts: Parts = {"clip": model, "muon": muon, "adam": adam}
    return pretrain(
        config,
        parts,
        output,
        num_steps=config.steps,
        data=library.identity,
        step=step,
        export=export,
    )


def _new_clip(
    config: EmbedderPretrainConfig, shots: Sequence[ShotSource]
) -> tuple[open_clip.CLIP, PreTrainedTokenizerFast, dict[str, Any]]:
    """Return a new model with its tokenizer and its part of the config file."""
    torch.manual_seed(derive_seed(config.seed, "clip-weights"))
    tree = config.model_config_tree()
    if config.text_from is not None:
        path = Path(config.text_from)
        kept = load_clip(path, "cpu")
        saved = json.loads((path / CONFIG_FILE).read_text(encoding="utf-8"))["model_cfg"]
        tree |= {"text_cfg": saved["text_cfg"], "embed_dim": saved["embed_dim"]}
        model = open_clip.CLIP(**tree)
        same_pictures = tree["vision_cfg"] == saved["vision_cfg"]
        weights = {
            name: value
            for name, value in kept.state_dict().items()
            if same_pictures or not name.startswith("visual.")
        }
        model.load_state_dict(weights, strict=same_pictures)
        for name, parameter in model.named_parameters():
            trained = name.startswith("visual.") or name in ("text_projection", "logit_scale")
            parameter.requires_grad_(trained)
        return model, load_tokenizer(path).tokenizer, tree
    texts = [text for shot in shots for text in (shot.caption, *shot.tags)]
    tokenizer = train_tokenizer([*texts, *GENERAL_ENGLISH], vocab_size=config.vocab_size)
    tree["text_cfg"]["vocab_size"] = len(tokenizer)
    return open_clip.CLIP(**tree), tokenizer, tree


def sample_pairs(
    config: EmbedderPretrainConfig, library: ShotLibrary, captioned: list[int], step: int
) -> tuple[torch.Tensor, list[str], torch.Tensor]:
    """Return pictures [B, 3, S, S], texts [B], and which text is true of which picture [B, B]."""
    rng = np.random.default_rng(derive_seed(config.seed, "pairs", step))
    pictures, texts, facts, stated = [], [], [], []
    for _ in range(config.batch_size):
        index, frame = library.random_clip(captioned, 1, rng)
        shot = library.shots[index]
        picture = library.clip(index, frame, 1)[0]
        pictures.append(augmented(picture, config.hue_augmentation, rng))
        text, said = _text_of(shot, config, rng)
        texts.append(text)
        facts.append(set(shot.tags))
        stated.append(said)
    truth = torch.tensor([[said <= known for said in stated] for known in facts])
    return to_tensor(pictures), texts, truth


def matching_loss(
    model: open_clip.CLIP, pixels: torch.Tensor, tokens: torch.Tensor, truth: torch.Tensor
) -> torch.Tensor:
    """Return the contrastive loss, both ways; the target is uniform over all true matches."""
    images = model.encode_image(pixels, normalize=True)  # [B, E]
    texts = model.encode_text(tokens, normalize=True)  # [B, E]
    logits = model.logit_scale.exp() * images @ texts.T  # [B, B]
    matches = truth.float()
    to_texts = matches / matches.sum(1, keepdim=True)
    to_images = matches.T / matches.T.sum(1, keepdim=True)
    loss: torch.Tensor = functional.cross_entropy(logits, to_texts)
    return (loss + functional.cross_entropy(logits.T, to_images)) / 2


@torch.no_grad()
def measure_retrieval(embedder: OpenClipEmbedder, library: ShotLibrary) -> dict[str, float]:
    """Return how well held-out captions and single facts find pictures.

    `caption_top1_fact_<n>`: the best picture of another shot shares the n-th fact of the caption's
    shot; `tag_accuracy_fact_<n>`: the right word scores best among all n-th facts. Facts are in the
    order of `ShotSource.tags`; only the first four are measured.
    """
    shots = [i for i, shot in enumerate(library.shots) if shot.caption and shot.tags]
    if len(shots) < 2:
        raise DataError("Fewer than two held-out shots have captions; give more films.")
    frames = [library.clip(i, library.shots[i].num_frames // 2, 1)[0] for i in shots]
    pictures = embedder.embed_images(frames)  # [N, E]
    captions = embedder.embed_text([library.shots[i].caption for i in shots])  # [N, E]
    scores = captions @ pictures.T  # [N, N]
    own = scores.argmax(1) == torch.arange(len(shots))
    others = scores.masked_fill(torch.eye(len(shots), dtype=torch.bool), -math.inf).argmax(1)
    result = {"caption_finds_own_shot": float(own.float().mean())}
    tags = [library.shots[i].tags for i in shots]
    for n in range(min(4, *(len(t) for t in tags))):
        truth = [t[n] for t in tags]
        hits = [truth[row] == truth[int(others[row])] for row in range(len(shots))]
        result[f"caption_top1_fact_{n}"] = float(np.mean(hits))
        words = sorted(set(truth))
        best = (pictures @ embedder.embed_text(words).T).argmax(1).tolist()
        right = [words[b] == t for b, t in zip(best, truth, strict=True)]
        result[f"tag_accuracy_fact_{n}"] = float(np.mean(right))
    return result


def save_clip(model: torch.nn.Module, tree: dict[str, Any], folder: Path) -> None:
    """Write model and config in open_clip's layout, half precision."""
    folder.mkdir(parents=True, exist_ok=True)
    weights = {
        name: (value.to(torch.float16) if value.is_floating_point() else value).contiguous()
        for name, value in model.state_dict().items()
    }
    save_file(weights, folder / WEIGHTS_FILE)
    preprocess = {"mean": _PIXEL_MEAN, "std": _PIXEL_STD, "interpolation": "bicubic"}
    preprocess["resize_mode"] = "squash"
    text = json.dumps({"model_cfg": tree, "preprocess_cfg": preprocess}, indent=2)
    (folder / CONFIG_FILE).write_text(text + "\n", encoding="utf-8")


def _tokenize(
    tokenizer: PreTrainedTokenizerFast, texts: list[str], context_length: int
) -> torch.Tensor:
    tokens: torch.Tensor = tokenizer(
        texts, max_length=context_length, padding="max_length", truncation=True, return_tensors="pt"
    ).input_ids
    return tokens


def _text_of(
    shot: ShotSource, config: EmbedderPretrainConfig, rng: np.random.Generator
) -> tuple[str, set[str]]:
    """Return a text that is true of the shot, and the facts it states."""
    if rng.random() >= config.short_text_probability:
        return shot.caption, set(shot.caption_tags or shot.tags)
    count = min(int(rng.integers(1, 4)), len(shot.tags))
    chosen = [shot.tags[i] for i in rng.permutation(len(shot.tags))[:count]]
    separator = (", ", " ", " and ", ": ")[int(rng.integers(4))]
    frame = ("{}", "a {}", "a picture of {}", "in a {}", "at {}", "the {}")[int(rng.integers(6))]
    return frame.format(separator.join(chosen)), set(chosen)


GENERAL_ENGLISH = (
    "a photograph of a man and a woman talking in a kitchen while it rains outside",
    "the camera follows children running through the forest towards an old bridge",
    "an aerial view of ships at sea, mountains and a church in the background",
    "she looks up, smiles and walks away from the window; he sits at the table and eats",
    "close-up of hands holding a letter, slow motion, shallow depth of field, warm light",
    "a dog and a horse stand in the garden next to a red car, blue sky, white clouds",
    "people dancing on a stage, colourful lights, film still, computer animation, cartoon",
    "low angle tracking shot, the astronaut opens the door of the laboratory in space",
    "blurry, low quality, distorted, watermark, text, static picture, bad anatomy",
)
