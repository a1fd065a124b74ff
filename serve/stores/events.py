"""The numbered log of a story, from which any ingress can continue any event stream."""

from __future__ import annotations

from collections.abc import Mapping

from sqlalchemy import select, update
from sqlalchemy.orm import Session

from serve.stores.tables import Event, Story


def append(
    session: Session, story_id: str, kind: str, data: Mapping[str, str | int], *, now: float
) -> None:
    """Log an event in the transaction that makes it true."""
    seq = session.execute(
        update(Story)
        .where(Story.id == story_id)
        .values(num_events=Story.num_events + 1)
        .returning(Story.num_events)
        .execution_options(synchronize_session=False)
    ).scalar_one()
    session.add(Event(story_id=story_id, seq=seq, kind=kind, data=dict(data), created_at=now))


def after(session: Session, story_id: str, seq: int, *, limit: int = 500) -> list[Event]:
    """Events of a story numbered above `seq`, oldest first."""
    query = (
        select(Event)
        .where(Event.story_id == story_id, Event.seq > seq)
        .order_by(Event.seq)
        .limit(limit)
    )
    return list(session.scalars(query))
