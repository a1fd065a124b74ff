"""The plan: which samples every optimizer step trains on, as a pure function of seed and data.

A step has groups. All samples of a group share their mode, history length and number of keyframes,
so they form one batch and every rank does the same work. Every random choice is keyed by (seed,
purpose, index of the sample in the whole run), so the plan does not depend on workers, engines or
restarts: the position in a run is one number, the step. Knows nothing about torch or Ray.
"""

from __future__ import annotations

import hashlib
import json
import logging
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate

import numpy as np
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


@dataclass(frozen=True)
class PlanRow:
    """One sample: latents [start, stop) of a shot, and the keyframes in its shot cache.

    `sample_index` counts over the whole run. `shot` and `keyframes` are rows of the encoded
    dataset; `negatives` says which keyframes were replaced by one of another video.
    """

    sample_index: int
    shot: int
    start: int
    stop: int
    keyframes: tuple[int, ...]
    negatives: tuple[bool, ...]
    drop_text: bool


@dataclass(frozen=True)
class PlanGroup:
    """Samples that share their mode, start, length and number of keyframes."""

    mode: Mode
    rows: tuple[PlanRow, ...]

    def share(self, rank: int, world_size: int) -> tuple[PlanRow, ...]:
        """Return the rows of `rank`: an equal, contiguous slice."""
        count, rest = divmod(len(self.rows), world_size)
        if rest:
            raise DataError(
                f"A group of {len(self.rows)} samples cannot be split over {world_size} workers; "
                "set training.group_size to a multiple of training.num_workers."
            )
        return self.rows[rank * count : (rank + 1) * count]


class TrainingPlan:
    """`groups(step)` for every step of the run."""

    def __init__(self, config: TrainingConfig, cache: CacheConfig, dataset: EncodedDataset) -> None:
        self._config = config
        self._sampling = config.sampling
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
        """A hash of everything that determines the samples of each step."""
        settings = {
            "seed": self._config.seed,
            "stages": [stage.model_dump() for stage in self._config.stages],
            "sampling": self._sampling.model_dump(),
            "group_size": self._config.group_size,
            "groups_per_step": self._config.groups_per_step,
            "cache": self._cache.model_dump(include={"chunk_latents", "levels", "top_k"}),
            "data": self._dataset.fingerprint,
        }
        text = json.dumps(settings, sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    def groups(self, step: int) -> list[PlanGroup]:
        """Return the groups of `step` (from 0); they have equal weight in its loss."""
        count = self._config.groups_per_step
        stage = self._config.stage_at(step)
        return [self._group(step * count + group, stage) for group in range(count)]

    def _group(self, number: int, stage: StageConfig) -> PlanGroup:
        """Return group `number`, counted over the whole run."""
        modes, weights = self._stage_modes[stage.name]
        mode = modes[_weighted(self._uniform("mode", number), weights)]
        has_history, has_keyframes = _needs(mode)
        chunk = self._chunk(stage)
        shortest = int(has_history) + chunk
        num_keyframes = self._num_keyframes(number, shortest) if has_keyframes else 0
        start = self._start(number, num_keyframes, chunk) if has_history else 0
        eligible = self._eligible_shots(num_keyframes, start + chunk)
        first = number * self._config.group_size
        rows = tuple(
            self._row(index, eligible, start, start + chunk, num_keyframes)
            for index in range(first, first + self._config.group_size)
        )
        return PlanGroup(mode, rows)

    def _chunk(self, stage: StageConfig) -> int:
        return stage.chunk_latents or self._cache.chunk_latents

    def _row(self, index: int, eligible: Ints, start: int, stop: int, count: int) -> PlanRow:
        """Return sample `index`, from one of the `eligible` shots and with `count` keyframes."""
        shot = int(eligible[self._integer("shot", index, below=len(eligible))])
        keyframes = self._keyframes(index, shot, count)
        negatives = [False] * count
        for slot in range(count):
            swap = self._uniform("negative", index, slot) < self._sampling.negative_fraction
            negative = self._negative(index, slot, shot) if swap else None
            if negative is not None:
                keyframes[slot], negatives[slot] = negative, True
        return PlanRow(
            sample_index=index,
            shot=shot,
            start=start,
            stop=stop,
            keyframes=tuple(keyframes),
            negatives=tuple(negatives),
            drop_text=self._uniform("drop_text", index) < self._sampling.text_dropout,
        )

    def _num_keyframes(self, number: int, shortest: int) -> int:
        """Choose how many keyframes a group has; its shots have at least `shortest` latents."""
        most = min(self._cache.top_k, self._pools.most)
        while not len(self._eligible_shots(most, shortest)):
            most -= 1
        full = self._uniform("full_bank", number) < self._sampling.full_bank_fraction
        if full or most == 1:
            return most
        return 1 + self._integer("num_keyframes", number, below=most - 1)

    def _start(self, number: int, num_keyframes: int, chunk: int) -> int:
        """Choose where an extension starts: a random place in a random shot that is long enough."""
        shots = self._eligible_shots(num_keyframes, 1 + chunk)
        shot = shots[self._integer("start_shot", number, below=len(shots))]
        last = int(self._dataset.num_latents[shot]) - chunk
        aligned = self._uniform("aligned", number) < self._sampling.aligned_fraction
        if aligned and last >= chunk:
            return chunk * (1 + self._integer("start", number, below=last // chunk))
        return 1 + self._integer("start", number, below=last)

    def _keyframes(self, index: int, shot: int, count: int) -> list[int]:
        """Choose keyframes of other shots, those before `shot` if there are enough."""
        if count == 0:
            return []
        pool = self._pools.earlier(shot)
        if len(pool) < count or self._uniform("earlier", index) >= self._sampling.earlier_fraction:
            pool = self._pools.others(shot)
        if self._uniform("retrieved", index) < self._sampling.retrieved_fraction:
            return self._most_like_the_prompt(shot, pool, count)
        order = sorted(pool.tolist(), key=lambda k: self._uniform("keyframe", index, k))
        return order[:count]

    def _negative(self, index: int, slot: int, shot: int) -> int | None:
        """Choose a keyframe of another video; None if all candidates are of the same video."""
        hard = self._uniform("hard_negative", index, slot) < self._sampling.hard_negative_fraction
        candidates = (
            # Seeds derive from the word "stranger"; another word would change every plan.
            self._integer("stranger", index, slot, attempt, below=len(self._keyframe_videos))
            for attempt in range(_HARD_NEGATIVE_POOL)
        )
        own = self._dataset.videos[shot]
        negatives = [k for k in candidates if self._keyframe_videos[k] != own]
        if not negatives:
            return None
        pool = np.array(sorted(set(negatives[: None if hard else 1])))
        return self._most_like_the_prompt(shot, pool, 1)[0]

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
        """Return the modes of the stage that the data has samples for, with weights of sum 1."""
        weights = zip(MODES, stage.mode_weights.as_tuple(), strict=True)
        wanted = {mode: weight for mode, weight in weights if weight > 0}
        chunk = self._chunk(stage)
        possible = {m: weight for m, weight in wanted.items() if self._has_samples(m, chunk)}
        if not possible:
            raise DataError(
                f"Stage {stage.name!r} trains {', '.join(wanted)}, but {self._dataset.folder} has "
                f"no sample of these: a shot needs at least {chunk} latents (more to be extended), "
                f"and a new shot needs another shot in the same {self._sampling.keyframe_scope}."
            )
        for mode in [mode for mode in wanted if mode not in possible]:
            _log.warning("stage %s: the data has no sample of mode %s", stage.name, mode)
        total = sum(possible.values())
        return list(possible), [weight / total for weight in possible.values()]

    def _has_samples(self, mode: Mode, chunk: int) -> bool:
        has_history, has_keyframes = _needs(mode)
        if has_keyframes and self._cache.top_k == 0:
            return False
        return len(self._eligible_shots(int(has_keyframes), int(has_history) + chunk)) > 0

    def _uniform(self, purpose: str, *index: int) -> float:
        return derive_seed(self._config.seed, f"plan/{purpose}", *index) / 2.0**63

    def _integer(self, purpose: str, *index: int, below: int) -> int:
        return derive_seed(self._config.seed, f"plan/{purpose}", *index) % below


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
    """Return an index with the probability of its weight; `uniform` is in [0, 1)."""
    for index, edge in enumerate(accumulate(weights)):
        if uniform < edge:
            return index
    return len(weights) - 1
