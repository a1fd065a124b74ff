"""The learning rate of each step."""

from __future__ import annotations

import math

from fw_model.training.config import OptimizerConfig


def learning_rate(config: OptimizerConfig, step: int, num_steps: int) -> float:
    """Return the learning rate of `step` (from 0) of `num_steps`.

    Linear warm-up to the peak, flat until `decay_start`, then down to the final fraction.
    """
    if step < config.warmup_steps:
        return config.learning_rate * (step + 1) / config.warmup_steps
    start = max(config.warmup_steps, config.decay_start * num_steps)
    if config.decay == "constant" or step < start:
        return config.learning_rate
    done = min(1.0, (step - start) / max(1.0, num_steps - start))
    left = 1 - done if config.decay == "linear" else 0.5 * (1 + math.cos(math.pi * done))
    return config.learning_rate * (config.final_fraction + (1 - config.final_fraction) * left)


def warm_cosine(step: int, num_steps: int, *, warmup_steps: int, final_fraction: float) -> float:
    """Return the fraction of the peak: linear warm-up, times a cosine over all steps."""
    warm = min(1.0, (step + 1) / max(1, warmup_steps))
    cosine = 0.5 * (1 + math.cos(math.pi * step / max(1, num_steps)))
    return warm * (final_fraction + (1 - final_fraction) * cosine)
