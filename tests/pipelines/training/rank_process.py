"""One rank of a DeepSpeed training without Ray: CONFIG.json MODEL.json DATASET OUTPUT STAGE...

Trains once for every ZeRO stage named, into OUTPUT/zero-STAGE; RANK, WORLD_SIZE, MASTER_ADDR and
MASTER_PORT come from the environment.
"""

import contextlib
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import torch.distributed as dist

from fw_model.loading.config import ModelConfig
from fw_model.loading.folders import load_record
from fw_model.training.build import build_training_model
from fw_model.training.config import TrainingConfig
from fw_model.training.data.dataset import EncodedDataset
from fw_model.training.data.plan import TrainingPlan
from fw_model.training.export import collect_average, export_checkpoint
from fw_model.training.loop import LocalFeed, train
from fw_model.training.run_identity import identify_run
from pipelines.training.deepspeed_engine import DeepSpeedEngine


class SharedFolderStore:
    """Both ranks write into one folder; the newest is read back."""

    def __init__(self, root: Path) -> None:
        self._root = root

    @contextlib.contextmanager
    def latest(self) -> Iterator[Path | None]:
        found = sorted(p for p in self._root.glob("step_*") if (p / "state.json").is_file())
        dist.barrier()
        yield found[-1] if found else None

    def save(self, step: int, write: Callable[[Path], None]) -> None:
        folder = self._root / f"step_{step:04d}"
        folder.mkdir(parents=True, exist_ok=True)
        write(folder)
        dist.barrier()


def run(
    config: TrainingConfig, model: ModelConfig, dataset: Path, output: Path, until: int
) -> None:
    data = EncodedDataset(dataset)
    cache = load_record(model).cache
    plan = TrainingPlan(config, cache, data)
    engine = DeepSpeedEngine(build_training_model(config, model, data.meta), config)
    feed = LocalFeed(
        data, plan, engine.rank, engine.world_size, config.micro_batch, cache.history_latents
    )
    store = SharedFolderStore(output / "train_state")
    if until:  # stop as a crash would: no state beyond the last checkpoint
        feed = Cut(feed, until)
    try:
        identity = identify_run(config, model)
        ema = train(engine, plan, feed, store, config, identity, output / "metrics.jsonl")
    except Crash:
        return
    state = collect_average(engine, ema)
    if engine.rank == 0:
        export_checkpoint(state, output / "model", config=config, model=model, meta=data.meta)
    dist.barrier()


class Crash(Exception):
    pass


class Cut:
    def __init__(self, feed: LocalFeed, until: int) -> None:
        self._feed, self._until = feed, until

    def steps(self, start: int) -> Iterator[object]:
        for step, groups in enumerate(self._feed.steps(start), start):
            if step == self._until:
                raise Crash
            yield groups


def main() -> None:
    config = TrainingConfig.model_validate_json(Path(sys.argv[1]).read_text())
    model = ModelConfig.model_validate_json(Path(sys.argv[2]).read_text())
    dataset, output = Path(sys.argv[3]), Path(sys.argv[4])
    dist.init_process_group("gloo")
    for stage in sys.argv[5:]:
        staged = config.model_copy(update={"zero_stage": int(stage.strip("c"))})
        folder = output / f"zero-{stage}"
        if stage.endswith("c"):
            run(staged, model, dataset, folder, until=7)
        run(staged, model, dataset, folder, until=0)
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
