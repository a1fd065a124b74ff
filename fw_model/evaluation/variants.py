"""The full method, its ablations and baselines, all generated from the same seeds.

The paper's Table 2 leaves out one cache at a time; its Table 1 compares with pipelines that first
generate keyframes and then animate each separately.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from fw_model.cache.shot import Keyframe, ScoredKeyframe
from fw_model.evaluation.stories.truth import CachedFrame, FilmedShot
from fw_model.generation.generator import StoryGenerator
from fw_model.generation.request import ChunkRequest, ChunkResult, HistoryChunk
from fw_model.media.keyframes import select_keyframe_indices


@dataclass(frozen=True)
class Variant:
    """Which caches are read. `needs_checkpoint`: it differs in training, not in the caches."""

    shot_cache: bool = True
    temporal_cache: bool = True
    two_stages: bool = False
    needs_checkpoint: bool = False


VARIANTS = {
    "full": Variant(),
    "without_shot_cache": Variant(shot_cache=False),
    "without_temporal_cache": Variant(temporal_cache=False),
    "without_augmentation": Variant(needs_checkpoint=True),
    "without_negatives": Variant(needs_checkpoint=True),
    "independent": Variant(shot_cache=False, temporal_cache=False),
    "keyframe_then_animate": Variant(two_stages=True),
}

OnChunk = Callable[[int, int], None]


def film_story(
    generator: StoryGenerator,
    prompts: Sequence[str],
    *,
    seed: int,
    num_chunks: int,
    variant: Variant,
    on_chunk: OnChunk | None = None,
) -> list[FilmedShot]:
    """Generate a shot of `num_chunks` chunks for each prompt."""
    camera = _Camera(generator, seed, num_chunks, on_chunk)
    if variant.two_stages:
        return camera.film_in_two_stages(prompts)
    bank: list[Keyframe] = []
    shots = []
    for index, prompt in enumerate(prompts):
        found = tuple(generator.retrieve(prompt, bank)) if variant.shot_cache else ()
        shot, keyframes = camera.film_shot(
            index, prompt, found, reads_history=variant.temporal_cache
        )
        shots.append(shot)
        bank.extend(keyframes)
    return shots


def cached_frames(found: Iterable[ScoredKeyframe]) -> tuple[CachedFrame, ...]:
    """Return retrieved keyframes in the form that metrics read."""
    return tuple(
        CachedFrame(s.keyframe.shot, s.keyframe.frame, s.score, s.keyframe.image) for s in found
    )


class _Camera:
    """Films shots of one story."""

    def __init__(
        self, generator: StoryGenerator, seed: int, num_chunks: int, on_chunk: OnChunk | None
    ) -> None:
        self._generator = generator
        self._seed = seed
        self._num_chunks = num_chunks
        self._on_chunk = on_chunk

    def film_shot(
        self,
        index: int,
        prompt: str,
        found: tuple[ScoredKeyframe, ...],
        *,
        reads_history: bool,
        opening: tuple[HistoryChunk, ...] = (),
    ) -> tuple[FilmedShot, list[Keyframe]]:
        """Return the shot and the keyframes that it offers to later shots.

        `opening` is history before the first chunk; its frames are not part of the shot.
        """
        history, parts, starts = opening, [], [0]
        keyframes: list[Keyframe] = []
        for chunk in range(self._num_chunks):
            result = self._chunk(
                index, chunk + len(opening), prompt, found, history if reads_history else ()
            )
            parts.append(result.frames)
            history = (*history, HistoryChunk(result.latents, prompt))
            # Without history the generator would count each chunk's frames from zero.
            indices = select_keyframe_indices(len(result.frames), len(result.keyframes))
            offered = [
                replace(keyframe, frame=starts[-1] + index)
                for keyframe, index in zip(result.keyframes, indices, strict=True)
            ]
            keyframes.extend(self._generator.admit(offered, keyframes))
            starts.append(starts[-1] + len(result.frames))
            if self._on_chunk is not None:
                self._on_chunk(index, chunk)
        filmed = FilmedShot(np.concatenate(parts), tuple(starts[:-1]), cached_frames(found))
        return filmed, keyframes

    def film_in_two_stages(self, prompts: Sequence[str]) -> list[FilmedShot]:
        """Generate a keyframe for every shot from the earlier ones, then animate each alone."""
        stills: list[Keyframe] = []
        for index, prompt in enumerate(prompts):
            found = tuple(self._generator.retrieve(prompt, stills))
            first = self._chunk(index, 0, prompt, found, ())
            image = first.frames[len(first.frames) // 2]
            still = self._generator.reference_keyframe(
                image, name=f"shot {index}", caption=prompt, pinned=False
            )
            stills.append(replace(still, shot=index))
        shots = []
        for index, (prompt, still) in enumerate(zip(prompts, stills, strict=True)):
            opening = (HistoryChunk(still.latents, prompt),)
            shot, _ = self.film_shot(index, prompt, (), reads_history=True, opening=opening)
            shots.append(shot)
        return shots

    def _chunk(
        self,
        shot: int,
        chunk: int,
        prompt: str,
        found: tuple[ScoredKeyframe, ...],
        history: tuple[HistoryChunk, ...],
    ) -> ChunkResult:
        record = self._generator.model.record
        return self._generator.generate_chunk(
            ChunkRequest(
                story_seed=self._seed,
                shot=shot,
                chunk=chunk,
                prompt=prompt,
                width=record.width,
                height=record.height,
                history=history,
                keyframes=found,
            )
        )
