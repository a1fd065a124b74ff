"""The plan: which samples every optimizer step trains on, as a pure function of seed and data.

A step has groups; all samples of a group share mode, history length and number of keyframes, so
they make one batch and every rank does the same work. Sample g (counted over the whole run) is
keyed by (seed, purpose, g), so the plan does not depend on workers, engines or restarts: the
position in a run is one number, the step. Knows nothing of torch or Ray.
"""

from __future__ import annotations

import hashlib
import json
import logging
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from fw_model.cache.config import CacheConfig
from fw_model.cache.context import MODES, Mode
from fw_model.diffusion.schedule import derive_seed
from fw_model.errors import DataError
from fw_model.similarity import top_k
from fw_model.training.config import StageConfig, TrainingConfig
from fw_model.training.data.dataset import EncodedDataset

Ints = NDArray[np.int64]
_HARD_NEGATIVE_POOL = 32
_log = logging.getLogger(__name__)

PLAN_SCHEMA = pa.schema(
    [
        ("step", pa.int64()),
        ("group", pa.int32()),
        ("g", pa.int64()),
        ("stage", pa.string()),
        ("mode", pa.string()),
        ("shot_id", pa.string()),
        ("start", pa.int32()),
        ("stop", pa.int32()),
        ("keyframe_ids", pa.list_(pa.string())),
        ("negatives", pa.list_(pa.bool_())),
        ("drop_text", pa.bool_()),
    ]
)


@dataclass(frozen=True)
class PlanRow:
    """One sample: latents [start, stop) of a shot, and the keyframes that are shown with it.

    `shot` and `keyframes` are rows of the encoded dataset; `negatives` says which keyframes were
    swapped for a stranger's.
    """

    g: int
    shot: int
    start: int
    stop: int
    keyframes: tuple[int, ...]
    negatives: tuple[bool, ...]
    drop_text: bool


@dataclass(frozen=True)
class PlanGroup:
    """Samples of one mode and context shape. `weight` is its share of the step's loss."""

    step: int
    group: int
    stage: str
    mode: Mode
    start: int
    num_keyframes: int
    rows: tuple[PlanRow, ...]
    weight: float

    def share(self, rank: int, world_size: int) -> tuple[PlanRow, ...]:
        """Return the rows of `rank`: an equal, contiguous slice."""
        count, rest = divmod(len(self.rows), world_size)
        if rest:
            raise DataError(
                f"A group of {len(self.rows)} samples cannot be shared by {world_size} workers; "
                "set training.group_size to a multiple of training.num_workers."
            )
        return self.rows[rank * count : (rank + 1) * count]


class TrainingPlan:
    """`groups(step)` for every step of the run."""

    def __init__(self, config: TrainingConfig, cache: CacheConfig, dataset: EncodedDataset) -> None:
        self._config = config
        self._cache = cache
        self._dataset = dataset
        self._pools = _KeyframePools(dataset, config.sampling.keyframe_scope)
        self._keyframe_videos = dataset.videos[dataset.keyframe_shots]  # [M]
        self._eligible: dict[tuple[int, int], Ints] = {}
        self._stage_modes = {
            stage.name: self._possible_modes(stage) for stage in config.stages if stage.steps
        }

    @property
    def num_steps(self) -> int:
        """Optimizer steps of the whole run."""
        return self._config.num_steps

    @cached_property
    def hash(self) -> str:
        """Identity of the plan: everything that decides which samples come when."""
        settings = {
            "seed": self._config.seed,
            "stages": [stage.model_dump() for stage in self._config.stages],
            "sampling": self._config.sampling.model_dump(),
            "group_size": self._config.group_size,
            "groups_per_step": self._config.groups_per_step,
            "cache": self._cache.model_dump(include={"chunk_latents", "levels", "top_k"}),
            "data": self._dataset.fingerprint,
        }
        text = json.dumps(settings, sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    def groups(self, step: int) -> list[PlanGroup]:
        """Return the groups of `step` (from 0)."""
        count = self._config.groups_per_step
        return [self._group(step, group, weight=1.0 / count) for group in range(count)]

    def table(self, start: int, stop: int) -> pa.Table:
        """Return steps [start, stop) as a table for people to read."""
        rows = [
            {
                "step": group.step,
                "group": group.group,
                "g": row.g,
                "stage": group.stage,
                "mode": group.mode,
                "shot_id": self._dataset.shot_ids[row.shot],
                "start": row.start,
                "stop": row.stop,
                "keyframe_ids": [self._dataset.keyframe_ids[k] for k in row.keyframes],
                "negatives": list(row.negatives),
                "drop_text": row.drop_text,
            }
            for step in range(start, stop)
            for group in self.groups(step)
            for row in group.rows
        ]
        return pa.Table.from_pylist(rows, schema=PLAN_SCHEMA)

    def _group(self, step: int, group: int, weight: float) -> PlanGroup:
        stage = self._config.stage_at(step)
        number = step * self._config.groups_per_step + group
        modes, weights = self._stage_modes[stage.name]
        mode = modes[_weighted(self._uniform("mode", number), weights)]
        history, keyframes = _needs(mode)
        chunk = self._chunk(stage)
        shortest = int(history) + chunk
        num_keyframes = self._draw_num_keyframes(number, shortest) if keyframes else 0
        start = self._draw_start(number, num_keyframes, chunk) if history else 0
        eligible = self._eligible_shots(num_keyframes, start + chunk)
        first = number * self._config.group_size
        rows = tuple(
            self._row(g, eligible, start, start + chunk, num_keyframes)
            for g in range(first, first + self._config.group_size)
        )
        return PlanGroup(step, group, stage.name, mode, start, num_keyframes, rows, weight)

    def _chunk(self, stage: StageConfig) -> int:
        return stage.chunk_latents or self._cache.chunk_latents

    def _row(self, g: int, eligible: Ints, start: int, stop: int, num_keyframes: int) -> PlanRow:
        shot = int(eligible[self._integer("shot", g, len(eligible))])
        keyframes = self._draw_keyframes(g, shot, num_keyframes)
        negatives = [False] * num_keyframes
        sampling = self._config.sampling
        for slot in range(num_keyframes):
            swap = self._uniform("negative", g, slot) < sampling.negative_fraction
            stranger = self._draw_negative(g, slot, shot) if swap else None
            if stranger is not None:
                keyframes[slot], negatives[slot] = stranger, True
        return PlanRow(
            g=g,
            shot=shot,
            start=start,
            stop=stop,
            keyframes=tuple(keyframes),
            negatives=tuple(negatives),
            drop_text=self._uniform("drop_text", g) < sampling.text_dropout,
        )

    def _draw_num_keyframes(self, number: int, shortest: int) -> int:
        """Draw how many keyframes a group reads, of shots of at least `shortest` latents."""
        most = min(self._cache.top_k, self._pools.most)
        while not len(self._eligible_shots(most, shortest)):
            most -= 1
        full = self._uniform("full_bank", number) < self._config.sampling.full_bank_fraction
        return most if full or most == 1 else 1 + self._integer("num_keyframes", number, most - 1)

    def _draw_start(self, number: int, num_keyframes: int, chunk: int) -> int:
        """Draw where an extension begins: a random place in a random shot long enough."""
        shots = self._eligible_shots(num_keyframes, 1 + chunk)
        shot = shots[self._integer("start_shot", number, len(shots))]
        last = int(self._dataset.num_latents[shot]) - chunk
        aligned = self._uniform("aligned", number) < self._config.sampling.aligned_fraction
        if aligned and last >= chunk:
            return chunk * (1 + self._integer("start", number, last // chunk))
        return 1 + self._integer("start", number, last)

    def _draw_keyframes(self, g: int, shot: int, count: int) -> list[int]:
        if count == 0:
            return []
        sampling = self._config.sampling
        pool = self._pools.earlier(shot)
        if len(pool) < count or self._uniform("earlier", g) >= sampling.earlier_fraction:
            pool = self._pools.others(shot)
        if self._uniform("retrieved", g) < sampling.retrieved_fraction:
            return self._most_like_the_prompt(shot, pool, count)
        order = sorted(pool.tolist(), key=lambda k: self._uniform("keyframe", g, k))
        return order[:count]

    def _draw_negative(self, g: int, slot: int, shot: int) -> int | None:
        """Draw a keyframe of another video; None if there is no other video."""
        hard = self._config.sampling.hard_negative_fraction
        count = _HARD_NEGATIVE_POOL if self._uniform("hard_negative", g, slot) < hard else 1
        drawn = (
            self._integer("stranger", g, len(self._keyframe_videos), slot, attempt)
            for attempt in range(_HARD_NEGATIVE_POOL)
        )
        own = self._dataset.videos[shot]
        strangers = [k for k in drawn if self._keyframe_videos[k] != own][:count]
        if not strangers:
            return None
        return self._most_like_the_prompt(shot, np.array(sorted(set(strangers))), 1)[0]

    def _most_like_the_prompt(self, shot: int, pool: Ints, count: int) -> list[int]:
        query = self._dataset.text_embeddings[self._dataset.shot_texts[shot]]  # [E]
        scores = self._dataset.keyframe_embeddings[pool] @ query  # [N]
        return [int(pool[best]) for best in top_k(scores, count)]

    def _eligible_shots(self, num_keyframes: int, shortest: int) -> Ints:
        """Return shots of at least `shortest` latents with enough keyframes of other shots."""
        key = (num_keyframes, shortest)
        if key not in self._eligible:
            long_enough = self._dataset.num_latents >= shortest
            enough_keyframes = self._pools.num_others >= num_keyframes
            self._eligible[key] = np.flatnonzero(long_enough & enough_keyframes)
        return self._eligible[key]

    def _possible_modes(self, stage: StageConfig) -> tuple[list[Mode], list[float]]:
        """Return the stage's modes that the data can serve; say which it cannot."""
        wanted = [
            (mode, weight)
            for mode, weight in zip(MODES, stage.mode_weights.as_tuple(), strict=True)
            if weight > 0
        ]
        chunk = self._chunk(stage)
        possible = [(mode, weight) for mode, weight in wanted if self._has_samples(mode, chunk)]
        if not possible:
            names = ", ".join(mode for mode, _ in wanted)
            raise DataError(
                f"Stage {stage.name!r} trains {names}, but {self._dataset.folder} has no sample "
                f"of these: shots need at least {chunk} latents "
                f"(more to be extended), and new shots need another shot in the same "
                f"{self._config.sampling.keyframe_scope}."
            )
        for mode, _ in wanted:
            if mode not in {m for m, _ in possible}:
                _log.warning("stage %s: the data has no sample of mode %s", stage.name, mode)
        total = sum(weight for _, weight in possible)
        return [mode for mode, _ in possible], [weight / total for _, weight in possible]

    def _has_samples(self, mode: Mode, chunk: int) -> bool:
        history, keyframes = _needs(mode)
        if keyframes and self._cache.top_k == 0:
            return False
        return len(self._eligible_shots(int(keyframes), int(history) + chunk)) > 0

    def _uniform(self, purpose: str, *index: int) -> float:
        return derive_seed(self._config.seed, f"plan/{purpose}", *index) / 2.0**63

    def _integer(self, purpose: str, index: int, below: int, *more: int) -> int:
        return derive_seed(self._config.seed, f"plan/{purpose}", index, *more) % below


class _KeyframePools:
    """For each shot, the keyframes of the other shots of its scene or video."""

    def __init__(self, dataset: EncodedDataset, scope: str) -> None:
        self._scopes = dataset.scenes if scope == "scene" else dataset.videos  # [N]
        self._shot_index = dataset.shot_index  # [N]
        self._keyframe_shots = dataset.keyframe_shots  # [M]
        self._by_scope: dict[int, list[int]] = {}
        for keyframe, shot in enumerate(self._keyframe_shots):
            self._by_scope.setdefault(int(self._scopes[shot]), []).append(keyframe)
        own = np.bincount(self._keyframe_shots, minlength=dataset.num_shots)  # [N]
        total = np.bincount(
            self._scopes[self._keyframe_shots], minlength=int(self._scopes.max()) + 1
        )
        self.num_others: Ints = total[self._scopes] - own  # [N]
        self.most = int(self.num_others.max())

    def others(self, shot: int) -> Ints:
        pool = np.array(self._by_scope.get(int(self._scopes[shot]), []), dtype=np.int64)
        others: Ints = pool[self._keyframe_shots[pool] != shot]
        return others

    def earlier(self, shot: int) -> Ints:
        pool = self.others(shot)
        before: Ints = pool[self._shot_index[self._keyframe_shots[pool]] < self._shot_index[shot]]
        return before


def _needs(mode: Mode) -> tuple[bool, bool]:
    """Return whether `mode` needs history and keyframes."""
    number = MODES.index(mode)
    return bool(number & 1), bool(number & 2)


def _weighted(uniform: float, weights: list[float]) -> int:
    """Return the index that `uniform` in [0, 1) falls on when weights sum to 1."""
    edge = 0.0
    for index, weight in enumerate(weights):
        edge += weight
        if uniform < edge:
            return index
    return len(weights) - 1
