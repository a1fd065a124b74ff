"""Rows -> responses: how the API shows stories, shots, jobs and their memory."""

from __future__ import annotations

from sqlalchemy.orm import Session

from serve.http import schemas
from serve.stores import keyframes, shots, stories
from serve.stores.keyframes import RetrievedEntry
from serve.stores.tables import Job, Reference, Shot, Story
from serve.work import jobs

API = "/v1"


def job_response(session: Session, job: Job) -> schemas.JobResponse:
    """A job, with the denoising step of the chunk in flight."""
    chunk = jobs.running_chunk(session, job) if job.state == "running" else None
    return schemas.JobResponse(
        job_id=job.id,
        story_id=job.story_id,
        shot_id=job.shot_id,
        kind=job.kind,
        version=job.version,
        state=job.state,
        num_chunks=job.num_chunks,
        num_done=job.num_done,
        step=chunk.step if chunk else 0,
        num_steps=chunk.num_steps if chunk else 0,
        error=job.error,
        created_at=job.created_at,
        started_at=job.started_at,
        ended_at=job.ended_at,
        url=f"{API}/jobs/{job.id}",
    )


def shot_response(session: Session, shot: Shot) -> schemas.ShotResponse:
    """A shot in the version that is shown."""
    done = shots.committed_chunks(session, shot, shot.version)
    return schemas.ShotResponse(
        shot_id=shot.id,
        story_id=shot.story_id,
        index=shot.index,
        version=shot.version,
        stale=shot.stale,
        segments=[
            schemas.SegmentResponse(prompt=segment.prompt, num_chunks=segment.num_chunks)
            for segment in shots.segments(session, shot, shot.version)
        ],
        num_chunks_done=len(done),
        num_frames=sum(chunk.num_frames or 0 for chunk in done),
        video_url=f"{API}/shots/{shot.id}/video.mp4",
        memory_url=f"{API}/shots/{shot.id}/memory",
    )


def reference_response(reference: Reference) -> schemas.ReferenceResponse:
    """A reference image."""
    return schemas.ReferenceResponse(
        reference_id=reference.id,
        story_id=reference.story_id,
        name=reference.name,
        weight=reference.weight,
        pinned=reference.pinned,
        muted=reference.muted,
        image_url=f"{API}/references/{reference.id}/image",
    )


def story_response(session: Session, story: Story) -> schemas.StoryResponse:
    """A story with its shots, references and unfinished jobs."""
    url = f"{API}/stories/{story.id}"
    unfinished = stories.jobs(session, story.id, unfinished_only=True)
    return schemas.StoryResponse(
        story_id=story.id,
        title=story.title,
        seed=story.seed,
        width=story.width,
        height=story.height,
        created_at=story.created_at,
        shots=[shot_response(session, shot) for shot in stories.shots(session, story.id)],
        references=[reference_response(r) for r in stories.references(session, story.id)],
        jobs=[job_response(session, job) for job in unfinished],
        video_url=f"{url}/video.mp4",
        events_url=f"{url}/events",
    )


def story_summary(story: Story) -> schemas.StorySummary:
    """A story in a list."""
    return schemas.StorySummary(
        story_id=story.id,
        title=story.title,
        created_at=story.created_at,
        url=f"{API}/stories/{story.id}",
    )


def memory_response(session: Session, shot: Shot) -> schemas.MemoryResponse:
    """The keyframes that the shown version of a shot was made from, segment by segment."""
    done = shots.committed_chunks(session, shot, shot.version)
    segments = []
    for segment in shots.segments(session, shot, shot.version):
        modes = [chunk.mode for chunk in done if chunk.segment_id == segment.id and chunk.mode]
        segments.append(
            schemas.SegmentMemory(
                prompt=segment.prompt,
                num_chunks=segment.num_chunks,
                mode=modes[0] if modes else None,
                chunk_modes=modes,
                retrieved=[_retrieved(e) for e in keyframes.retrieved(session, segment.id)],
            )
        )
    return schemas.MemoryResponse(
        shot_id=shot.id,
        index=shot.index,
        version=shot.version,
        stale=shot.stale,
        mode=segments[0].mode,
        segments=segments,
    )


def _retrieved(item: RetrievedEntry) -> schemas.RetrievedResponse:
    keyframe, reference = item.entry.keyframe, item.entry.reference
    return schemas.RetrievedResponse(
        rank=item.retrieval.rank,
        keyframe_id=keyframe.id,
        score=item.retrieval.score,
        weight=item.retrieval.weight,
        pinned=item.retrieval.pinned,
        shot_id=keyframe.shot_id,
        shot_index=item.entry.shot_index,
        reference=reference.name if reference is not None else None,
        frame=keyframe.frame,
        caption=keyframe.caption,
        image_url=f"{API}/keyframes/{keyframe.id}/image",
    )
