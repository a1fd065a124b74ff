"""The log of a story: what happened, numbered, so that any ingress can resume any stream."""

from __future__ import annotations

from typing import Any

from sqlalchemy import select, update
from sqlalchemy.orm import Session

from serve.stores.tables import Event, Story


def append(session: Session, story_id: str, kind: str, data: dict[str, Any], *, now: float) -> int:
    """Log an event in the transaction that makes it true; returns its number."""
    seq = session.execute(
        update(Story)
        .where(Story.id == story_id)
        .values(num_events=Story.num_events + 1)
        .returning(Story.num_events)
        .execution_options(synchronize_session=False)
    ).scalar_one()
    session.add(Event(story_id=story_id, seq=seq, kind=kind, data=data, created_at=now))
    return int(seq)


def after(session: Session, story_id: str, seq: int, *, limit: int = 500) -> list[Event]:
    """Events of a story numbered above `seq`, oldest first."""
    query = (
        select(Event)
        .where(Event.story_id == story_id, Event.seq > seq)
        .order_by(Event.seq)
        .limit(limit)
    )
    return list(session.scalars(query))
