"""Requests that may be sent twice: the answer is stored in the transaction that earns it.

So a key is never "in flight": a second request waits for the first one's transaction and then
reads its answer (IETF draft idempotency-key-header-07: same body replays, another body is 422).
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from sqlalchemy import delete, text
from sqlalchemy.orm import Session

from fw_model.errors import InputError
from serve.stores.tables import Idempotency


@dataclass(frozen=True)
class IdempotencyKey:
    """The client's key and the hash of what it asked for."""

    key: str
    fingerprint: str


def once(
    session: Session,
    key: IdempotencyKey | None,
    make: Callable[[], dict[str, Any]],
    *,
    now: float,
) -> dict[str, Any]:
    """Return `make()`, or the stored answer if `key` was used before with the same request."""
    if key is None:
        return make()
    if session.get_bind().dialect.name == "postgresql":
        number = int.from_bytes(hashlib.sha256(key.key.encode()).digest()[:8], "big", signed=True)
        session.execute(text("SELECT pg_advisory_xact_lock(:number)"), {"number": number})
    known = session.get(Idempotency, key.key)
    if known is not None:
        if known.fingerprint != key.fingerprint:
            raise InputError(
                f"Idempotency-Key {key.key!r} was used with another request; choose a new one."
            )
        return known.body
    body = make()
    session.add(Idempotency(key=key.key, fingerprint=key.fingerprint, body=body, created_at=now))
    return body


def forget(session: Session, *, before: float) -> None:
    """Drop keys older than the time `before`."""
    session.execute(delete(Idempotency).where(Idempotency.created_at < before))
