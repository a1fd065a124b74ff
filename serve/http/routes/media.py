"""Films, shots as video, and images."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from fastapi import APIRouter
from fastapi.responses import FileResponse, Response

from serve.errors import ConflictError, NotFoundError
from serve.http.dependencies import Context, ServerContext
from serve.stores import keyframes, shots, stories
from serve.stores.tables import Chunk, Reference

Responses = dict[int | str, dict[str, Any]]
router = APIRouter(prefix="/v1", tags=["media"])
FILM: Responses = {200: {"description": "The film.", "content": {"video/mp4": {}}}}
IMAGE: Responses = {200: {"description": "The image.", "content": {"image/png": {}}}}
FOREVER = {"Cache-Control": "private, max-age=31536000, immutable"}


@router.get("/stories/{story_id}/video.mp4", response_class=FileResponse, responses=FILM)
def story_video(story_id: str, context: Context) -> FileResponse:
    """The film of all committed chunks, in order."""
    with context.database.reading() as session:
        story = stories.get(session, story_id)
        chunks = shots.film_chunks(session, story_id)
    return _film(context, chunks, name=story.id)


@router.get("/shots/{shot_id}/video.mp4", response_class=FileResponse, responses=FILM)
def shot_video(shot_id: str, context: Context) -> FileResponse:
    """The committed chunks of one shot."""
    with context.database.reading() as session:
        shot = shots.get(session, shot_id)
        chunks = shots.chunks(session, shot.id, shot.version)
    return _film(context, chunks, name=shot.id)


@router.get("/keyframes/{keyframe_id}/image", response_class=Response, responses=IMAGE)
def keyframe_image(keyframe_id: str, context: Context) -> Response:
    """The picture of a keyframe."""
    with context.database.reading() as session:
        key = keyframes.get(session, keyframe_id).image_blob
    return Response(context.blobs.get(key), media_type="image/png", headers=FOREVER)


@router.get("/references/{reference_id}/image", response_class=Response, responses=IMAGE)
def reference_image(reference_id: str, context: Context) -> Response:
    """A reference image as it was given, re-encoded."""
    with context.database.reading() as session:
        reference = session.get(Reference, reference_id)
    if reference is None:
        raise NotFoundError(f"No reference {reference_id!r}.")
    return Response(
        context.blobs.get(reference.image_blob), media_type="image/png", headers=FOREVER
    )


def _film(context: ServerContext, chunks: Sequence[Chunk], *, name: str) -> FileResponse:
    keys = [chunk.fragment_blob for chunk in chunks if chunk.fragment_blob is not None]
    if not keys:
        raise ConflictError("Nothing is finished yet; wait for the first chunk.")
    return FileResponse(
        context.films.film(keys),
        media_type="video/mp4",
        filename=f"{name}.mp4",
        content_disposition_type="inline",
        headers={"Cache-Control": "no-cache"},  # the next chunk makes another film
    )
