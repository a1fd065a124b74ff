"""The log of a story as server-sent events; any ingress can continue a stream."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator

from starlette.concurrency import run_in_threadpool

from serve.http.dependencies import ServerContext
from serve.stores import events
from serve.stores.tables import Event, Story


async def stream(
    context: ServerContext, story_id: str, *, after: int, follow: bool
) -> AsyncIterator[str]:
    """Yield events numbered above `after`; ends after event_stream_s, and the client reconnects."""
    limits = context.config.limits
    ends_at = time.monotonic() + limits.event_stream_s
    quiet_since = time.monotonic()
    yield "retry: 1000\n\n"
    while True:
        batch, exists = await run_in_threadpool(_read, context, story_id, after)
        for event in batch:
            after = event.seq
            yield _message(event)
        if batch:
            quiet_since = time.monotonic()
            continue
        if not exists or not follow or time.monotonic() >= ends_at:
            return
        if time.monotonic() - quiet_since >= limits.event_comment_s:
            quiet_since = time.monotonic()
            yield ": still here\n\n"
        await asyncio.sleep(limits.event_poll_s)


def _read(context: ServerContext, story_id: str, after: int) -> tuple[list[Event], bool]:
    with context.database.reading() as session:
        batch = events.after(session, story_id, after)
        return batch, bool(batch) or session.get(Story, story_id) is not None


def _message(event: Event) -> str:
    data = json.dumps(event.data | {"at": event.created_at}, separators=(",", ":"))
    return f"id: {event.seq}\nevent: {event.kind}\ndata: {data}\n\n"
