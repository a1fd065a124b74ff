"""The DeepSpeed TrainEngine: ZeRO-0 to 3 over the ranks of torch.distributed.

Its configuration is derived from TrainingConfig. Weights stay float32; bfloat16 is autocast, so
that the norms and time embeddings that Wan pins to float32 stay in float32.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from fw_model.errors import CheckpointError
from fw_model.training.config import TrainingConfig
from fw_model.training.data.batch import Batch
from fw_model.training.distributed import rank_and_world_size
from fw_model.training.step import StepOutput, TrainingModel

_TAG = "deepspeed"


def deepspeed_config(config: TrainingConfig, world_size: int) -> dict[str, Any]:
    """Return DeepSpeed's dictionary for `config` on `world_size` workers."""
    share = config.group_size // world_size
    micro_batches = -(-share // config.micro_batch)  # of one group, on one worker
    optimizer = config.optimizer
    return {
        "train_micro_batch_size_per_gpu": min(share, config.micro_batch),
        "gradient_accumulation_steps": micro_batches * config.groups_per_step,
        "gradient_clipping": optimizer.max_grad_norm,
        "optimizer": {
            "type": "AdamW",
            "params": {
                "torch_adam": True,  # DeepSpeed's own would be compiled at first use
                "lr": optimizer.learning_rate,
                "betas": list(optimizer.betas),
                "eps": optimizer.eps,
                "weight_decay": optimizer.weight_decay,
            },
        },
        "zero_optimization": {
            "stage": config.zero_stage,
            "contiguous_gradients": True,
            "overlap_comm": config.use_gpu,
        },
        "steps_per_print": 2**31,
        "wall_clock_breakdown": False,
    }


class DeepSpeedEngine:
    """One rank of a data-parallel training whose state ZeRO shards."""

    name = "deepspeed"

    def __init__(self, model: TrainingModel, config: TrainingConfig) -> None:
        if not config.use_gpu:
            os.environ.setdefault("DS_ACCELERATOR", "cpu")
        import deepspeed

        self.rank, self.world_size = rank_and_world_size()
        self._stage = config.zero_stage
        self._trained = [n for n, p in model.named_parameters() if p.requires_grad]
        # DeepSpeed would compile a kernel for CPU inference here: minutes, a C++ compiler, and a
        # lock file that hangs every later run if a build is killed. Training never calls it.
        deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False
        deepspeed.init_distributed(dist_backend="nccl" if config.use_gpu else "gloo", verbose=False)
        self._engine, *_ = deepspeed.initialize(
            model=model.train(),
            model_parameters=[p for p in model.parameters() if p.requires_grad],
            config=deepspeed_config(config, self.world_size),
        )
        self.device = torch.device(self._engine.device)
        if config.zero_stage == 3:
            _register_parameters_of_bypassed_modules(model)
        self._step_pending = False

    def forward(self, batch: Batch) -> StepOutput:
        """Run the model on a micro-batch."""
        if self._step_pending:
            self._engine.step()  # between micro-batches: counts them, updates nothing
            self._step_pending = False
        return StepOutput(*self._engine(batch))

    def backward(self, loss: Tensor) -> None:
        """Add the gradients of `loss`."""
        self._engine.backward(loss, scale_wrt_gas=False)
        self._step_pending = True

    def step(self, learning_rate: float) -> float:
        """Average gradients over ranks, clip, update, and return their norm before clipping."""
        if not self._engine.is_gradient_accumulation_boundary():
            raise AssertionError("a step had fewer micro-batches than its configuration says")
        for group in self._engine.optimizer.param_groups:
            group["lr"] = learning_rate
        self._engine.step()
        self._step_pending = False
        norm = self._engine.get_global_grad_norm()
        return float("nan") if norm is None else float(norm)

    def parameter_names(self) -> list[str]:
        """Return the names of all trained parameters."""
        return list(self._trained)

    def weights(self) -> Iterator[tuple[str, Tensor]]:
        """Yield every trained parameter, whole; under ZeRO-3 one at a time is gathered."""
        import deepspeed

        parameters = dict(self._engine.module.named_parameters())
        for name in self._trained:
            parameter = parameters[name]
            with deepspeed.zero.GatheredParameters([parameter], enabled=self._stage == 3):
                yield name, parameter.data

    def save(self, folder: Path) -> None:
        """Write this rank's shards; the shards of all ranks make the checkpoint."""
        self._engine.save_checkpoint(str(folder), tag=_TAG, exclude_frozen_parameters=True)

    def load(self, folder: Path) -> None:
        """Read what `save` wrote on the same number of ranks."""
        shards = len(list((folder / _TAG).glob("*_optim_states.pt")))
        if shards and shards != self.world_size and self._stage > 0:
            raise CheckpointError(
                f"{folder} was saved by {shards} workers and this run has {self.world_size}; "
                f"set training.num_workers={shards} to continue it."
            )
        loaded, _ = self._engine.load_checkpoint(
            str(folder), tag=_TAG, load_module_strict=False, load_lr_scheduler_states=False
        )
        if loaded is None:
            raise CheckpointError(f"DeepSpeed finds no state in {folder}; remove that folder.")


def _register_parameters_of_bypassed_modules(model: TrainingModel) -> None:
    """Have ZeRO-3 gather the parameters of modules whose own forward is not run.

    The backbone calls the transformer's parts one by one, so nothing would gather what the
    transformer itself owns.
    """
    from deepspeed.runtime.zero import register_external_parameter

    for parameter in model.backbone.transformer.parameters(recurse=False):
        register_external_parameter(model, parameter)
