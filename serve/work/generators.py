"""The generator behind the server: FilmWeaver's StoryGenerator, or your own code.

Knows nothing of HTTP or jobs; reads only the server binding from the database.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from fw_model.cache.shot import Keyframe, ScoredKeyframe
from fw_model.generation.request import ChunkRequest, ChunkResult, GenerationConfig, Pixels
from fw_model.loading.fingerprints import model_fingerprint
from fw_model.registry import resolve
from serve.stores import server_binding

if TYPE_CHECKING:
    from fw_model.loading.config import ModelConfig
    from serve.config import ServingConfig
    from serve.stores.database import Database


class ChunkGenerator(Protocol):
    """The methods that a worker calls; a chunk must be a pure function of its request."""

    def retrieve(
        self, prompt: str, bank: Sequence[Keyframe], *, top_k: int | None = None
    ) -> list[ScoredKeyframe]:
        """Choose the keyframes that a chunk reads, by their embeddings alone."""

    def admit(self, candidates: Sequence[Keyframe], bank: Sequence[Keyframe]) -> list[Keyframe]:
        """Choose which new keyframes to keep, by their embeddings alone."""

    def reference_keyframe(
        self, image: Pixels, *, name: str, weight: float, width: int, height: int
    ) -> Keyframe:
        """Turn a user's image [H, W, 3] into a keyframe."""

    def generate_chunk(
        self,
        request: ChunkRequest,
        *,
        on_step: Callable[[int, int], None] | None,
        should_cancel: Callable[[], bool] | None,
    ) -> ChunkResult:
        """Generate one chunk; raises Cancelled when `should_cancel` returns True."""


@dataclass(frozen=True)
class LoadedGenerator:
    """A generator, and the properties that the stores record with its work."""

    generator: ChunkGenerator
    fps: float
    embedder_id: str  # only embeddings of the same model can be compared
    frame_multiple: int = 2  # of width and height, in pixels


GENERATORS = {"story": "serve.work.generators:load_story_generator"}


def find_generator(kind: str) -> Callable[[ModelConfig, GenerationConfig], LoadedGenerator]:
    """The loader that `serving.generator` names; ConfigError if there is none."""
    loader: Callable[[ModelConfig, GenerationConfig], LoadedGenerator]
    loader = resolve(kind, GENERATORS, "generator")
    return loader


def bind_model(database: Database, config: ServingConfig, model: ModelConfig) -> None:
    """Bind the database to its generator and model; ConfigError if it belongs to another model."""
    name = f"{config.generator} {model_fingerprint(model)}"
    with database.writing() as session:
        server_binding.bind(session, server_binding.MODEL, name, rebind=config.rebind)


def load_generator(
    database: Database, config: ServingConfig, model: ModelConfig, generation: GenerationConfig
) -> LoadedGenerator:
    """Load the generator of a database, and record there which frame sizes it supports."""
    bind_model(database, config, model)
    loaded = find_generator(config.generator)(model, generation)
    with database.writing() as session:
        server_binding.record(session, server_binding.FRAME_MULTIPLE, str(loaded.frame_multiple))
    return loaded


def load_story_generator(model: ModelConfig, generation: GenerationConfig) -> LoadedGenerator:
    """Load the model into FilmWeaver's own generator."""
    from fw_model.generation.generator import StoryGenerator
    from fw_model.loading.load import load_model

    loaded = load_model(model)
    return LoadedGenerator(
        generator=StoryGenerator(loaded, generation),
        fps=loaded.record.fps,
        embedder_id=loaded.embedder.model_id,
        frame_multiple=loaded.vae.spatial_factor * loaded.backbone.spatial_multiple,
    )
