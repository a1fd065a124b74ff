"""Requests that may be sent twice: the response is stored in the transaction of its effect.

So a key is never "in flight": a second request waits for the first one's transaction and then
reads its response (IETF draft idempotency-key-header-07: the same request gets the same response,
another request with the same key is refused).
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass

from sqlalchemy import delete, text
from sqlalchemy.orm import Session

from fw_model.errors import InputError, shown
from serve.stores.tables import Idempotency


@dataclass(frozen=True)
class IdempotencyKey:
    """The client's key and the hash of the request it came with."""

    key: str
    fingerprint: str


def once(
    session: Session,
    key: IdempotencyKey | None,
    make: Callable[[], dict[str, object]],
    *,
    now: float,
) -> dict[str, object]:
    """Return `make()`, or the stored response if `key` was used before for the same request."""
    if key is None:
        return make()
    if session.get_bind().dialect.name == "postgresql":
        number = int.from_bytes(hashlib.sha256(key.key.encode()).digest()[:8], "big", signed=True)
        session.execute(text("SELECT pg_advisory_xact_lock(:number)"), {"number": number})
    known = session.get(Idempotency, key.key)
    if known is not None:
        if known.fingerprint != key.fingerprint:
            raise InputError(
                f"Idempotency-Key {shown(key.key)} was used for another request; choose a new key."
            )
        return known.body
    body = make()
    session.add(Idempotency(key=key.key, fingerprint=key.fingerprint, body=body, created_at=now))
    return body


def delete_older(session: Session, than: float) -> None:
    """Delete keys first used before the time `than`."""
    session.execute(delete(Idempotency).where(Idempotency.created_at < than))
