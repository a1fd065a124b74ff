"""A story as a YAML file of shots, checked before anything is generated."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from pydantic import Field, field_validator

from fw_model.config import StrictModel, load_yaml, validate
from fw_model.errors import ConfigError, InputError

MAX_PROMPT_CHARACTERS = 4000
MAX_CHUNKS = 3600


class ReferenceSpec(StrictModel):
    """An image injected into the shot cache by hand."""

    image: str = Field(min_length=1, description="PNG, JPEG or WEBP; relative to the story file.")
    name: str = Field(min_length=1, max_length=200, description="What it shows, for the report.")
    weight: float = Field(1.0, gt=0, le=10, description="Factor on its retrieval score.")


class ExtendSpec(StrictModel):
    """More chunks of the same shot, with their own prompt."""

    prompt: str = Field(min_length=1, max_length=MAX_PROMPT_CHARACTERS, description="What happens.")
    num_chunks: int = Field(1, ge=1, le=MAX_CHUNKS, description="Chunks to add.")

    @field_validator("prompt")
    @classmethod
    def _says_something(cls, prompt: str) -> str:
        if not prompt.strip():
            raise ValueError("the prompt is blank")
        return prompt


class ShotSpec(ExtendSpec):
    """One shot: a prompt, its length, its extensions and its reference images."""

    extend: tuple[ExtendSpec, ...] = Field((), description="Extensions, in order.")
    references: tuple[ReferenceSpec, ...] = Field(
        (), description="Images to inject; they stay in the bank for later shots."
    )

    @property
    def segments(self) -> tuple[ExtendSpec, ...]:
        """The parts of the shot with one prompt each: its own, then each extension."""
        return (ExtendSpec(prompt=self.prompt, num_chunks=self.num_chunks), *self.extend)


class StoryFile(StrictModel):
    """A story: shots in order, generated from one seed."""

    title: str = Field("untitled", min_length=1, max_length=200, description="Its name.")
    seed: int = Field(0, ge=0, lt=2**63, description="Seed of all random numbers.")
    shots: tuple[ShotSpec, ...] = Field(min_length=1, max_length=1000, description="In order.")


def load_story(path: str | Path) -> StoryFile:
    """Read a story file; InputError if it is invalid.

    Paths of reference images are relative to the file; the images must exist.
    """
    path = Path(path)
    try:
        story = validate(StoryFile, load_yaml(path), str(path))
    except ConfigError as error:
        raise InputError(str(error)) from error
    for index, shot in enumerate(story.shots):
        for reference in shot.references:
            if not (path.parent / reference.image).is_file():
                raise InputError(
                    f"Shot {index + 1} of {path} refers to {reference.image!r}, "
                    f"which is not a file relative to it."
                )
    return story


def packed_references(story: StoryFile, base_dir: Path) -> tuple[StoryFile, dict[str, bytes]]:
    """Return `story` with its reference images renamed, and their content by name.

    With `unpack_references` they can be read on another machine. InputError for a missing image.
    """
    images: dict[str, bytes] = {}
    shots = []
    for shot in story.shots:
        references = []
        for reference in shot.references:
            path = base_dir / reference.image
            name = f"reference_{len(images)}{path.suffix}"
            try:
                images[name] = path.read_bytes()
            except OSError as error:
                raise InputError(
                    f"Cannot read the reference image {path}: {error.strerror}."
                ) from error
            references.append(reference.model_copy(update={"image": name}))
        shots.append(shot.model_copy(update={"references": tuple(references)}))
    return story.model_copy(update={"shots": tuple(shots)}), images


def unpack_references(images: Mapping[str, bytes], folder: Path) -> None:
    """Write images of `packed_references` to `folder`, the story's new base folder."""
    for name, content in images.items():
        (folder / name).write_bytes(content)
