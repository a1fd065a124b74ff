"""/v1/stories: create, list, read, delete, give references, follow events, add shots."""

from __future__ import annotations

import math
from typing import Annotated, Any

from fastapi import APIRouter, File, Form, Header, Query, Request, UploadFile
from fastapi.responses import StreamingResponse

from fw_model.errors import InputError
from fw_model.media.images import read_image
from fw_model.media.keyframes import encode_png
from serve.errors import TooLargeError
from serve.http import presenters, schemas
from serve.http.dependencies import Context, KeyHeader, ServerContext, idempotency_key
from serve.http.sse import stream
from serve.stores import idempotency, server_binding, shots, stories
from serve.stores.shots import ShotSettings

router = APIRouter(prefix="/v1", tags=["stories"])


@router.post("/stories", status_code=201, response_model=schemas.StoryResponse)
def create_story(
    body: schemas.StoryRequest, request: Request, context: Context, key: KeyHeader = None
) -> Any:
    """Begin an empty story."""
    width, height = _frame_size(body, context)
    once = idempotency_key(request, key, body.model_dump_json().encode())
    with context.database.writing() as session:
        now = context.database.clock()

        def make() -> dict[str, Any]:
            story = stories.create(
                session, title=body.title, seed=body.seed, width=width, height=height, now=now
            )
            return presenters.story_response(session, story).model_dump()

        return idempotency.once(session, once, make, now=now)


@router.get("/stories")
def list_stories(
    context: Context,
    limit: Annotated[int, Query(ge=1, le=200)] = 50,
    after: Annotated[str | None, Query(max_length=200)] = None,
) -> schemas.StoryPage:
    """Stories, newest first, in pages."""
    with context.database.reading() as session:
        page = stories.page(session, limit=limit + 1, after=after)
    shown = page[:limit]
    return schemas.StoryPage(
        stories=[presenters.story_summary(story) for story in shown],
        next=shown[-1].id if len(page) > limit else None,
    )


@router.get("/stories/{story_id}")
def get_story(story_id: str, context: Context) -> schemas.StoryResponse:
    """A story with its shots, references and unfinished jobs."""
    with context.database.reading() as session:
        return presenters.story_response(session, stories.get(session, story_id))


@router.delete("/stories/{story_id}", status_code=204)
def delete_story(story_id: str, context: Context) -> None:
    """Delete a story and everything in it; work on it stops."""
    with context.database.writing() as session:
        stories.remove(session, story_id)


@router.post("/stories/{story_id}/shots", status_code=202, response_model=schemas.JobResponse)
def create_shot(
    story_id: str,
    body: schemas.ShotRequest,
    request: Request,
    context: Context,
    key: KeyHeader = None,
) -> Any:
    """Add a shot at the end of the story; answers with the job that makes it."""
    once = idempotency_key(request, key, body.model_dump_json().encode())
    with context.database.writing() as session:
        now = context.database.clock()

        def make() -> dict[str, Any]:
            stories.get(session, story_id)
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
                    references=[
                        {
                            "reference_id": stories.find_reference(session, story_id, r.key).id,
                            "weight": r.weight,
                        }
                        for r in body.references
                    ],
                ),
                max_queued_jobs=context.config.limits.max_queued_jobs,
                now=now,
            )
            return presenters.job_response(session, job).model_dump()

        return idempotency.once(session, once, make, now=now)


@router.post(
    "/stories/{story_id}/references", status_code=201, response_model=schemas.ReferenceResponse
)
def add_reference(
    story_id: str,
    request: Request,
    context: Context,
    image: Annotated[UploadFile, File()],
    form: Annotated[schemas.ReferenceForm, Form()],
    key: KeyHeader = None,
) -> Any:
    """Give the story an image (PNG, JPEG or WebP) that its shots can draw on."""
    limit = context.config.limits.max_image_bytes
    content = image.file.read(limit + 1)
    if len(content) > limit:
        raise TooLargeError(f"The image is heavier than {limit} bytes; scale it down.")
    once = idempotency_key(request, key, form.model_dump_json().encode() + content)
    with context.database.reading() as session:
        stories.get(session, story_id)
    # Stored as PNG of its plain pixels: nothing else that the file carried is kept or served.
    stored = context.blobs.put(encode_png(read_image(content)), "image/png")
    with context.database.writing() as session:
        now = context.database.clock()

        def make() -> dict[str, Any]:
            reference = stories.add_reference(
                session, story_id, image=stored, now=now, **form.model_dump()
            )
            return presenters.reference_response(reference).model_dump()

        return idempotency.once(session, once, make, now=now)


@router.get("/stories/{story_id}/references")
def list_references(story_id: str, context: Context) -> list[schemas.ReferenceResponse]:
    """References of a story, oldest first."""
    with context.database.reading() as session:
        stories.get(session, story_id)
        return [presenters.reference_response(r) for r in stories.references(session, story_id)]


@router.get("/stories/{story_id}/jobs")
def list_jobs(story_id: str, context: Context) -> list[schemas.JobResponse]:
    """All jobs of a story, in the order in which they run."""
    with context.database.reading() as session:
        stories.get(session, story_id)
        return [presenters.job_response(session, job) for job in stories.jobs(session, story_id)]


@router.get(
    "/stories/{story_id}/events",
    response_class=StreamingResponse,
    responses={200: {"description": "The events.", "content": {"text/event-stream": {}}}},
)
def follow_events(
    story_id: str,
    context: Context,
    last_event_id: Annotated[str | None, Header(alias="Last-Event-ID")] = None,
    follow: bool = True,
) -> StreamingResponse:
    """The story's log as server-sent events, from behind Last-Event-ID; `follow=false` ends it."""
    with context.database.reading() as session:
        stories.get(session, story_id)
    after = last_event_id if last_event_id is not None else "0"
    if not after.isdecimal() or len(after) > 18:
        raise InputError(
            f"Last-Event-ID must be a number that this stream gave, not {after[:40]!r}."
        )
    return StreamingResponse(
        stream(context, story_id, after=int(after), follow=follow),
        media_type="text/event-stream",
        headers={"Cache-Control": "no-cache", "X-Accel-Buffering": "no"},
    )


def _frame_size(body: schemas.StoryRequest, context: ServerContext) -> tuple[int, int]:
    width = body.width or context.format.width
    height = body.height or context.format.height
    limit = context.config.limits.max_frame_px
    if max(width, height) > limit:
        raise InputError(
            f"Frames of {width}x{height} px are too large; a side has at most {limit}."
        )
    with context.database.reading() as session:  # unknown until the first generator has started
        multiple = math.lcm(
            2, int(server_binding.read(session, server_binding.FRAME_MULTIPLE) or 2)
        )
    if width % multiple or height % multiple:
        raise InputError(
            f"Frames of {width}x{height} px cannot be drawn; both must be multiples of {multiple}."
        )
    return width, height
