"""/v1/stories: create, list, read, delete; add references and shots; follow events."""

from __future__ import annotations

import math
from typing import Annotated

from fastapi import APIRouter, File, Form, Header, Query, UploadFile
from fastapi.responses import StreamingResponse
from sqlalchemy.orm import Session

from fw_model.errors import InputError
from fw_model.media.images import read_image
from fw_model.media.keyframes import encode_png
from serve.errors import TooLargeError
from serve.http import presenters, schemas
from serve.http.dependencies import Context, Idempotent, ServerContext
from serve.http.problems import declare
from serve.http.sse import stream
from serve.stores import server_binding, shots, stories
from serve.stores.shots import ShotSettings
from serve.stores.tables import ReferenceUse

router = APIRouter(prefix="/v1", tags=["stories"], responses=declare(503))
LAST_SEQ = 10**18 - 1


class EventStreamResponse(StreamingResponse):
    """Server-sent events."""

    media_type = "text/event-stream"


@router.post("/stories", status_code=201, responses=declare(413, 422, 507))
def create_story(
    body: schemas.StoryRequest, context: Context, request: Idempotent
) -> schemas.StoryResponse:
    """Create an empty story."""
    width, height = _frame_size(body, context)

    def create(session: Session, now: float) -> schemas.StoryResponse:
        story = stories.create(
            session, title=body.title, seed=body.seed, width=width, height=height, now=now
        )
        return presenters.story_response(session, story)

    return request.once(body.model_dump_json().encode(), schemas.StoryResponse, create)


@router.get("/stories", responses=declare(404, 422))
def list_stories(
    context: Context,
    limit: Annotated[int, Query(ge=1, le=200, description="Stories in one page.")] = 50,
    after: Annotated[
        str | None, Query(max_length=200, description="`next` of the previous page.")
    ] = None,
) -> schemas.StoryPage:
    """List stories, newest first, in pages."""
    with context.database.reading() as session:
        page = stories.page(session, limit=limit + 1, after=after)
    shown = page[:limit]
    return schemas.StoryPage(
        stories=[presenters.story_summary(story) for story in shown],
        next=shown[-1].id if len(page) > limit else None,
    )


@router.get("/stories/{story_id}", responses=declare(404))
def get_story(story_id: str, context: Context) -> schemas.StoryResponse:
    """Read a story with its shots, references and unfinished jobs."""
    with context.database.reading() as session:
        return presenters.story_response(session, stories.get(session, story_id))


@router.delete("/stories/{story_id}", status_code=204, responses=declare(404, 507))
def delete_story(story_id: str, context: Context) -> None:
    """Delete a story and everything in it. Work on it stops."""
    with context.database.writing() as session:
        stories.remove(session, story_id)


@router.post(
    "/stories/{story_id}/shots", status_code=202, responses=declare(404, 413, 422, 429, 507)
)
def create_shot(
    story_id: str, body: schemas.ShotRequest, context: Context, request: Idempotent
) -> schemas.JobResponse:
    """Add a shot at the end of the story. Returns the job that makes it."""

    def create(session: Session, now: float) -> schemas.JobResponse:
        stories.get(session, story_id)
        references = [
            ReferenceUse(
                reference_id=stories.find_reference(session, story_id, reference.key).id,
                weight=reference.weight,
            )
            for reference in body.references
        ]
        job = shots.create(
            session,
            story_id,
            prompt=body.prompt,
            num_chunks=body.num_chunks,
            settings=ShotSettings(
                top_k=body.top_k,
                negative_prompt=body.negative_prompt,
                num_inference_steps=body.num_inference_steps,
                guidance_scale=body.guidance_scale,
                references=references,
            ),
            max_queued_jobs=context.config.limits.max_queued_jobs,
            now=now,
        )
        return presenters.job_response(session, job)

    return request.once(body.model_dump_json().encode(), schemas.JobResponse, create)


@router.post(
    "/stories/{story_id}/references", status_code=201, responses=declare(404, 409, 413, 422, 507)
)
def add_reference(
    story_id: str,
    image: Annotated[UploadFile, File(description="PNG, JPEG or WebP.")],
    form: Annotated[schemas.ReferenceForm, Form()],
    context: Context,
    request: Idempotent,
) -> schemas.ReferenceResponse:
    """Add a reference image to the story, which its shots can then use."""
    limit = context.config.limits.max_image_bytes
    content = image.file.read(limit + 1)
    if len(content) > limit:
        raise TooLargeError(f"The image is larger than the limit of {limit} bytes; scale it down.")
    with context.database.reading() as session:
        stories.get(session, story_id)
    # Only its pixels are stored, so nothing else that the file contained is ever served.
    stored = context.blobs.put(encode_png(read_image(content)), "image/png")

    def add(session: Session, now: float) -> schemas.ReferenceResponse:
        reference = stories.add_reference(
            session, story_id, image=stored, now=now, **form.model_dump()
        )
        return presenters.reference_response(reference)

    wanted = form.model_dump_json().encode() + content
    return request.once(wanted, schemas.ReferenceResponse, add)


@router.get("/stories/{story_id}/references", responses=declare(404))
def list_references(story_id: str, context: Context) -> list[schemas.ReferenceResponse]:
    """List the references of a story, oldest first."""
    with context.database.reading() as session:
        stories.get(session, story_id)
        return [presenters.reference_response(r) for r in stories.references(session, story_id)]


@router.get("/stories/{story_id}/jobs", responses=declare(404))
def list_jobs(story_id: str, context: Context) -> list[schemas.JobResponse]:
    """List all jobs of a story, in the order in which they run."""
    with context.database.reading() as session:
        stories.get(session, story_id)
        return [presenters.job_response(session, job) for job in stories.jobs(session, story_id)]


@router.get(
    "/stories/{story_id}/events", response_class=EventStreamResponse, responses=declare(404, 422)
)
def follow_events(
    story_id: str,
    context: Context,
    last_event_id: Annotated[
        int,
        Header(
            alias="Last-Event-ID",
            ge=0,
            le=LAST_SEQ,
            description="The `id` of the last event that the client received.",
        ),
    ] = 0,
    follow: Annotated[
        bool, Query(description="Wait for new events instead of ending the stream.")
    ] = True,
) -> EventStreamResponse:
    """Follow the log of a story as server-sent events, starting after `Last-Event-ID`."""
    with context.database.reading() as session:
        stories.get(session, story_id)
    return EventStreamResponse(
        stream(context, story_id, after=last_event_id, follow=follow),
        headers={"Cache-Control": "no-cache", "X-Accel-Buffering": "no"},
    )


def _frame_size(body: schemas.StoryRequest, context: ServerContext) -> tuple[int, int]:
    width = body.width or context.default_size.width
    height = body.height or context.default_size.height
    limit = context.config.limits.max_frame_px
    if max(width, height) > limit:
        raise InputError(
            f"Frames of {width}x{height} px are too large; the limit for each side is {limit} px."
        )
    with context.database.reading() as session:
        multiple = math.lcm(2, server_binding.read_frame_multiple(session))
    if width % multiple or height % multiple:
        raise InputError(
            f"Frames of {width}x{height} px cannot be generated; width and height must be"
            f" multiples of {multiple}."
        )
    return width, height
