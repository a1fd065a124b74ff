"""What draws the chunks behind the server: FilmWeaver's StoryGenerator, or code of your own."""

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
    """The part of StoryGenerator that a worker calls; a chunk is a pure function of its request."""

    def retrieve(
        self, prompt: str, bank: Sequence[Keyframe], *, top_k: int | None = None
    ) -> list[ScoredKeyframe]:
        """Choose what a chunk reads; looks at embeddings alone."""

    def admit(self, candidates: Sequence[Keyframe], bank: Sequence[Keyframe]) -> list[Keyframe]:
        """Choose which new keyframes are kept; looks at embeddings alone."""

    def reference_keyframe(
        self,
        image: Pixels,
        *,
        name: str,
        weight: float,
        width: int,
        height: int,
    ) -> Keyframe:
        """Turn an outside image [H, W, 3] into a keyframe."""

    def generate_chunk(
        self,
        request: ChunkRequest,
        *,
        on_step: Callable[[int, int], None] | None,
        should_cancel: Callable[[], bool] | None,
    ) -> ChunkResult:
        """Draw one chunk; raises Cancelled when `should_cancel` says so."""


@dataclass(frozen=True)
class LoadedGenerator:
    """A generator with the server_binding that the store records beside its work."""

    generator: ChunkGenerator
    fps: float
    embedder_id: str  # of the model that makes keyframe embeddings: they compare only among one
    frame_multiple: int = 2  # a frame's width and height must divide by it


GENERATORS = {"story": "serve.work.generators:load_story_generator"}


def find_generator(kind: str) -> Callable[[ModelConfig, GenerationConfig], LoadedGenerator]:
    """What `serving.generator` names; ConfigError if it names nothing."""
    loader: Callable[[ModelConfig, GenerationConfig], LoadedGenerator]
    loader = resolve(kind, GENERATORS, "generator")
    return loader


def bind_model(database: Database, config: ServingConfig, model: ModelConfig) -> None:
    """Bind the database to what draws its chunks; ConfigError if that is another model."""
    name = f"{config.generator} {model_fingerprint(model)}"
    with database.writing() as session:
        server_binding.bind(session, server_binding.MODEL, name, rebind=config.rebind)


def load_generator(
    database: Database, config: ServingConfig, model: ModelConfig, generation: GenerationConfig
) -> LoadedGenerator:
    """Load what draws the chunks of a database, and note there which frames it can draw."""
    bind_model(database, config, model)
    loaded = find_generator(config.generator)(model, generation)
    with database.writing() as session:
        server_binding.record(session, server_binding.FRAME_MULTIPLE, str(loaded.frame_multiple))
    return loaded


def load_story_generator(model: ModelConfig, generation: GenerationConfig) -> LoadedGenerator:
    """Load the model and put FilmWeaver's own generator on it."""
    from fw_model.generation.generator import StoryGenerator
    from fw_model.loading.load import load_model

    loaded = load_model(model)
    return LoadedGenerator(
        generator=StoryGenerator(loaded, generation),
        fps=loaded.record.fps,
        embedder_id=loaded.embedder.model_id,
        frame_multiple=loaded.vae.spatial_factor * loaded.backbone.spatial_multiple,
    )
