"""A trained transformer made deeper without changing what it computes.

Progressive depth: a small model is trained cheaply, then given more layers to learn with.
"""

from __future__ import annotations

import copy

from diffusers import WanTransformer3DModel
from torch import nn

from fw_model.errors import ConfigError

SILENT_AT_FIRST = ("attn1.to_out.0", "attn2.to_out.0", "ffn.net.2")


def deepen(transformer: WanTransformer3DModel, num_layers: int) -> None:
    """Make `transformer` `num_layers` blocks deep, in place; its output stays the same.

    New blocks are spread evenly among the old ones. Each is a copy of the block before it whose
    three projections into the residual stream are zero, so it contributes nothing until trained.
    ConfigError if the transformer already has more blocks.
    """
    old = list(transformer.blocks)
    num_new = num_layers - len(old)
    if num_new < 0:
        raise ConfigError(
            f"training.num_layers is {num_layers} but the transformer has {len(old)} layers; "
            "a transformer can only be made deeper."
        )
    followed = [((i + 1) * len(old) - 1) // max(num_new, 1) for i in range(num_new)]
    blocks = []
    for index, block in enumerate(old):
        blocks += [block, *(_silent_copy(block) for _ in range(followed.count(index)))]
    transformer.blocks = nn.ModuleList(blocks)
    transformer.register_to_config(num_layers=num_layers)


def _silent_copy(block: nn.Module) -> nn.Module:
    silent = copy.deepcopy(block)
    for name in SILENT_AT_FIRST:
        layer = silent.get_submodule(name)
        assert isinstance(layer, nn.Linear)
        nn.init.zeros_(layer.weight)
        nn.init.zeros_(layer.bias)
    return silent
