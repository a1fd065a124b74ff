"""Films, shots as video, and images."""

from __future__ import annotations

from collections.abc import Sequence

from fastapi import APIRouter
from fastapi.responses import FileResponse, Response

from serve.errors import ConflictError
from serve.http.dependencies import Context, ServerContext
from serve.http.problems import declare
from serve.stores import rows, shots, stories
from serve.stores.tables import Chunk, Keyframe, Reference

router = APIRouter(prefix="/v1", tags=["media"], responses=declare(404, 503))


class Mp4Response(FileResponse):
    """A video file, of which clients may request ranges of bytes."""

    media_type = "video/mp4"


class PngResponse(Response):
    """An image."""

    media_type = "image/png"


FILM = declare(409, 507) | {206: {"description": "The requested range of bytes."}}


@router.get("/stories/{story_id}/video.mp4", response_class=Mp4Response, responses=FILM)
def story_video(story_id: str, context: Context) -> Mp4Response:
    """Download the film: all finished chunks of the story, in order."""
    with context.database.reading() as session:
        story = stories.get(session, story_id)
        chunks = shots.film_chunks(session, story_id)
    return _film(context, chunks, name=story.id)


@router.get("/shots/{shot_id}/video.mp4", response_class=Mp4Response, responses=FILM)
def shot_video(shot_id: str, context: Context) -> Mp4Response:
    """Download the finished chunks of one shot."""
    with context.database.reading() as session:
        shot = shots.get(session, shot_id)
        chunks = shots.committed_chunks(session, shot, shot.version)
    return _film(context, chunks, name=shot.id)


@router.get("/keyframes/{keyframe_id}/image", response_class=PngResponse)
def keyframe_image(keyframe_id: str, context: Context) -> PngResponse:
    """Download the image of a keyframe."""
    with context.database.reading() as session:
        keyframe = rows.get(session, Keyframe, keyframe_id)
    return _image(context, keyframe.image_blob)


@router.get("/references/{reference_id}/image", response_class=PngResponse)
def reference_image(reference_id: str, context: Context) -> PngResponse:
    """Download a reference image, re-encoded as PNG."""
    with context.database.reading() as session:
        reference = rows.get(session, Reference, reference_id)
    return _image(context, reference.image_blob)


def _image(context: ServerContext, key: str) -> PngResponse:
    headers = {"Cache-Control": "private, max-age=31536000, immutable"}
    return PngResponse(context.blobs.get(key), headers=headers)


def _film(context: ServerContext, chunks: Sequence[Chunk], *, name: str) -> Mp4Response:
    keys = [chunk.fragment_blob for chunk in chunks if chunk.fragment_blob is not None]
    if not keys:
        raise ConflictError("No chunk is finished yet; wait for the first one.")
    return Mp4Response(
        context.films.film(keys),
        filename=f"{name}.mp4",
        content_disposition_type="inline",
        headers={"Cache-Control": "no-cache"},  # the next chunk changes the film
    )
