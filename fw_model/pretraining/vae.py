"""Training of a small causal video VAE (Wan's architecture) from scratch.

The encoder is fitted in closed form, so latents are final within a minute and models that read
them can start; the decoder is then trained against it by gradient, first on small crops of few
frames. A run can be killed and started again: random numbers are keyed by (seed, step), and the
state is saved regularly. `vae/` holds the VAE in diffusers layout from the first minute.

B samples, F frames, f latent frames, C latent channels.
"""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderKLWan
from pydantic import Field
from torch.nn import functional

from fw_model.config import StrictModel
from fw_model.diffusion.schedule import derive_seed
from fw_model.errors import CheckpointError, DataError
from fw_model.files.atomic import atomic_folder
from fw_model.files.weights import drop_private_keys
from fw_model.optim.muon import Muon, split_weights
from fw_model.pretraining.run import (
    METRICS_FILE,
    STATE_FILE,
    EmaDecay,
    LoopConfig,
    WarmupSteps,
    log_line,
    move,
    pretrain,
)
from fw_model.pretraining.shot_library import ShotLibrary, augmented, to_tensor
from fw_model.pretraining.vae_pca_encoder import fit_linear_encoder, latent_mode
from fw_model.training.metrics import MetricsFile
from fw_model.vaes.wan_whole import decode_frames


class VaeStage(StrictModel):
    """One stretch of training on clips of one shape."""

    steps: int = Field(..., ge=0, description="Optimizer steps.")
    crop_px: int = Field(
        32, ge=8, description="Side of the square crop, px; a multiple of the VAE's factor."
    )
    num_frames: int = Field(9, ge=1, description="Frames in a clip, 4n + 1.")
    batch_size: int = Field(16, ge=1, description="Clips in a step.")


class VaePretrainConfig(LoopConfig):
    """The small VAE and how it is trained."""

    start_from: str | None = Field(
        None,
        description="Folder of a VAE whose decoder is trained further, instead of a new VAE. Its "
        "encoder, latents and shape stay unchanged; the settings of the shape are ignored.",
    )
    base_dim: int = Field(64, ge=8, description="Channels of the encoder.")
    decoder_base_dim: int = Field(48, ge=2, description="Channels of the decoder; even.")
    latent_channels: int = Field(32, ge=1, description="Channels of a latent.")
    static_channels: int = Field(
        20, ge=1, description="Latent channels for the still picture; the rest are for motion."
    )
    whitening: float = Field(
        0.5, ge=0, le=1, description="1 gives all channels the same spread, 0 keeps their ratios."
    )
    num_fit_clips: int = Field(400, ge=8, description="Clips that the encoder is fitted to.")
    patch_size: int = Field(2, ge=1, description="Side of the squares folded into channels, px.")
    stages: tuple[VaeStage, ...] = Field(
        (
            VaeStage(steps=300, crop_px=32, num_frames=1, batch_size=16),
            VaeStage(steps=500, crop_px=32, num_frames=5, batch_size=8),
            VaeStage(steps=1400, crop_px=32, num_frames=9, batch_size=6),
            VaeStage(steps=350, crop_px=32, num_frames=25, batch_size=2),
            VaeStage(steps=200, crop_px=64, num_frames=17, batch_size=1),
        ),
        description="Clip shapes, one after the other.",
    )
    learning_rate: float = Field(0.02, gt=0, description="Peak rate of Muon, for kernels.")
    adam_learning_rate: float = Field(2e-3, gt=0, description="Peak rate of Adam, for the rest.")
    warmup_steps: WarmupSteps = 20
    edge_weight: float = Field(
        0.5, ge=0, description="Weight of the L1 error of differences between neighbouring pixels."
    )
    motion_weight: float = Field(
        0.0,
        ge=0,
        description="Weight of the error in how much each neighbourhood changes from frame to "
        "frame. Without it an unsure decoder blurs: too little motion within a latent, a jump from "
        "one latent to the next.",
    )
    latent_noise: float = Field(
        0.1, ge=0, description="Most noise on the latents, so that the decoder tolerates errors."
    )
    hue_augmentation: float = Field(
        0.3, ge=0, le=1, description="Chance that a clip's colour channels are permuted."
    )
    ema_decay: EmaDecay = 0.998
    num_validation_clips: int = Field(12, ge=1, description="Clips whose PSNR is measured.")

    def stage_at(self, step: int) -> VaeStage:
        """Return the stage that `step` belongs to."""
        for stage in self.stages:
            if step < stage.steps:
                return stage
            step -= stage.steps
        return self.stages[-1]


def build_vae(config: VaePretrainConfig) -> AutoencoderKLWan:
    """Return a new VAE with random weights: 4x in time, 4 * patch_size in space."""
    torch.manual_seed(derive_seed(config.seed, "vae-weights"))
    return AutoencoderKLWan(
        base_dim=config.base_dim,
        decoder_base_dim=config.decoder_base_dim,
        z_dim=config.latent_channels,
        dim_mult=[1, 1, 1],
        num_res_blocks=0,
        temperal_downsample=[True, True],
        latents_mean=[0.0] * config.latent_channels,
        latents_std=[1.0] * config.latent_channels,
        in_channels=3 * config.patch_size**2,
        out_channels=3 * config.patch_size**2,
        patch_size=config.patch_size,
        scale_factor_temporal=4,
        scale_factor_spatial=4 * config.patch_size,
    )


def fit_encoder(
    config: VaePretrainConfig, vae: AutoencoderKLWan, library: ShotLibrary
) -> dict[str, float]:
    """Fit the encoder and the mean and spread of its latents; return the variance it keeps."""
    clips = sample_whole_clips(library, config.num_fit_clips, num_frames=9, seed=config.seed)
    kept = fit_linear_encoder(vae, clips, static_channels=config.static_channels)
    for parameter in (*vae.encoder.parameters(), *vae.quant_conv.parameters()):
        parameter.data = parameter.data.half().float()  # the precision it is saved in
        parameter.requires_grad_(False)
    flat = latent_mode(vae, clips).transpose(0, 1).flatten(1)  # [C, samples]
    std = flat.std(1)
    scale = std.pow(config.whitening)
    scale *= (std / scale).square().mean().sqrt()  # the latents as a whole have spread one
    vae.register_to_config(
        latents_mean=[round(v, 5) for v in flat.mean(1).tolist()],
        latents_std=[round(v, 5) for v in scale.tolist()],
    )
    return {"encoder_keeps": kept}


def pretrain_vae(
    config: VaePretrainConfig, library: ShotLibrary, validation: ShotLibrary, output: Path
) -> dict[str, float]:
    """Train, resuming the run in `output`; return the final measurements.

    Leaves `vae/` (averaged weights, diffusers layout), `metrics.jsonl` and `state.pt`. Runs on a
    GPU if torch sees one.
    """
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    vae = _opened(config, library, output).to(device).train()
    kernels, others = split_weights(vae)
    muon = Muon(kernels, lr=config.learning_rate)
    adam = torch.optim.Adam(others, lr=config.adam_learning_rate, betas=(0.9, 0.98))

    def step(number: int, fraction: float) -> dict[str, torch.Tensor]:
        frames, generator = sample_clips(config, library, number)
        losses = decoder_losses(config, vae, frames.to(device), generator)
        move((muon, adam), losses["loss"], fraction)
        return losses

    def export() -> dict[str, float]:
        save_vae(vae, output / "vae")
        return measure(vae, validation, config.num_validation_clips)

    return pretrain(
        config,
        {"vae": vae, "muon": muon, "adam": adam},
        output,
        num_steps=sum(stage.steps for stage in config.stages),
        data=library.identity,
        step=step,
        export=export,
        export_at_saves=True,
    )


def _opened(config: VaePretrainConfig, library: ShotLibrary, output: Path) -> AutoencoderKLWan:
    """Return the VAE of a stopped run, of `start_from`, or a new one with a fitted encoder."""
    if (output / STATE_FILE).is_file():
        return load_vae(output / "vae")
    metrics = MetricsFile(output / METRICS_FILE, start=0)
    if config.start_from is not None:
        vae = load_vae(Path(config.start_from))
    else:
        vae = build_vae(config)
        log_line(metrics, 0, fit_encoder(config, vae, library))
    save_vae(vae, output / "vae")
    return vae


def sample_clips(
    config: VaePretrainConfig, library: ShotLibrary, step: int
) -> tuple[torch.Tensor, torch.Generator]:
    """Return the clips of a step [B, 3, F, H, W] in [-1, 1] and a generator for its noise."""
    stage = config.stage_at(step)
    shots = library.with_frames(stage.num_frames)
    height, width = library.size
    if not shots or stage.crop_px > min(height, width):
        raise DataError(
            f"No shot has {stage.num_frames} frames of {stage.crop_px} px or more; "
            "choose smaller clips or longer shots."
        )
    seed = derive_seed(config.seed, "clips", step)
    rng = np.random.default_rng(seed)
    cell = 4 * config.patch_size  # crops contain whole latents
    clips = []
    for _ in range(stage.batch_size):
        shot, start = library.random_clip(shots, stage.num_frames, rng)
        top = cell * int(rng.integers((height - stage.crop_px) // cell + 1))
        left = cell * int(rng.integers((width - stage.crop_px) // cell + 1))
        clip = library.clip(shot, start, stage.num_frames)
        clip = clip[:, top : top + stage.crop_px, left : left + stage.crop_px]
        clips.append(augmented(clip, config.hue_augmentation, rng))
    return to_tensor(clips), torch.Generator().manual_seed(seed)


def sample_whole_clips(
    library: ShotLibrary, count: int, *, num_frames: int, seed: int
) -> torch.Tensor:
    """Return `count` clips of whole pictures [B, 3, F, H, W] in [-1, 1]."""
    shots = library.with_frames(num_frames)
    if not shots:
        raise DataError(f"No shot has {num_frames} frames; give longer shots.")
    rng = np.random.default_rng(derive_seed(seed, "fit-clips"))
    places = [library.random_clip(shots, num_frames, rng) for _ in range(count)]
    return torch.cat([to_tensor([library.clip(*place, num_frames)]) for place in places])


def decoder_losses(
    config: VaePretrainConfig,
    vae: AutoencoderKLWan,
    frames: torch.Tensor,
    generator: torch.Generator,
) -> dict[str, torch.Tensor]:
    """Return the loss and its parts for frames [B, 3, F, H, W] and slightly noisy latents."""
    with torch.no_grad():
        latents = latent_mode(vae, frames)  # [B, C, f, h, w]
        level = config.latent_noise * torch.rand(len(latents), 1, 1, 1, 1, generator=generator)
        spread = torch.tensor(vae.config.latents_std).view(1, -1, 1, 1, 1)
        noise = level * spread * torch.randn(latents.shape, generator=generator)
        latents = latents + noise.to(latents)
    decoded = decode_frames(vae, latents)
    pixel = functional.l1_loss(decoded, frames)
    # Outlines, eyes and hats are few pixels, so errors in differences of neighbours count extra.
    edge = (
        functional.l1_loss(decoded.diff(dim=-1), frames.diff(dim=-1))
        + functional.l1_loss(decoded.diff(dim=-2), frames.diff(dim=-2))
    ) / 2
    losses = {"loss": pixel + config.edge_weight * edge, "l1": pixel, "edge_l1": edge}
    if config.motion_weight and frames.shape[2] > 1:
        losses["motion_l1"] = functional.l1_loss(change_of(decoded), change_of(frames))
        losses["loss"] = losses["loss"] + config.motion_weight * losses["motion_l1"]
    return losses


def change_of(frames: torch.Tensor) -> torch.Tensor:
    """Return how much each 4x4 block changes from frame to frame: [B, 3, F - 1, H / 4, W / 4]."""
    return functional.avg_pool3d(frames.diff(dim=2).abs(), (1, 4, 4))


@torch.no_grad()
def measure(vae: AutoencoderKLWan, library: ShotLibrary, num_clips: int) -> dict[str, float]:
    """Return the PSNR in dB of whole pictures over held-out clips of 13 frames (peak 255)."""
    shots = library.with_frames(13)
    if not shots:
        raise DataError("No held-out shot has 13 frames; give more films.")
    device = next(vae.parameters()).device
    errors, first_errors = [], []
    for index in np.linspace(0, len(shots) - 1, min(num_clips, len(shots))).astype(int):
        frames = to_tensor([library.clip(shots[index], 0, 13)]).to(device)
        decoded = decode_frames(vae, latent_mode(vae, frames)).clamp(-1, 1)
        squared = (decoded - frames).square() / 4
        errors.append(float(squared.mean()))
        first_errors.append(float(squared[:, :, 0].mean()))
    return {
        "psnr_db": -10 * math.log10(max(float(np.mean(errors)), 1e-10)),
        "psnr_first_frame_db": -10 * math.log10(max(float(np.mean(first_errors)), 1e-10)),
    }


def load_vae(folder: Path) -> AutoencoderKLWan:
    """Load a VAE to train its decoder further; CheckpointError if there is none."""
    if not (folder / "config.json").is_file():
        raise CheckpointError(f"There is no VAE in {folder} (no config.json); give its folder.")
    vae = AutoencoderKLWan.from_pretrained(folder, torch_dtype=torch.float32)
    vae.encoder.requires_grad_(False)
    vae.quant_conv.requires_grad_(False)
    return vae


def save_vae(vae: AutoencoderKLWan, folder: Path) -> None:
    """Write a half-precision copy of the VAE in diffusers layout."""
    half = AutoencoderKLWan.from_config(vae.config)
    half.load_state_dict(vae.state_dict())
    for parameter in half.parameters():
        parameter.data = parameter.data.to(torch.float16)
    with atomic_folder(folder) as partial:
        half.save_pretrained(partial)
        drop_private_keys(partial / "config.json")
