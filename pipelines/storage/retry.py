"""Retries for object stores that refuse a request for a moment.

A disk's errors carry a number and are final. Those of an object store carry words: `503`, a reset
connection or an unknown state is temporary, a missing key or permission is not. Knows nothing about
what is read or written.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable
from typing import TypeVar

from tenacity import (
    Retrying,
    before_sleep_log,
    retry_if_exception,
    stop_after_attempt,
    wait_random_exponential,
)

logger = logging.getLogger(__name__)
Result = TypeVar("Result")

ATTEMPTS = 10
FIRST_WAIT_S = 0.5  # at most; each later wait may be twice as long
LONGEST_WAIT_S = 30.0

_LASTING = re.compile(
    r"ACCESS_DENIED|PERMISSION_DENIED|UNAUTHENTICATED|NO_SUCH_|NOT.FOUND|INVALID_ARGUMENT"
    r"|INVALID_ACCESS_KEY|SIGNATURE_DOES_NOT_MATCH|HTTP status 4(?!08|29)",
    re.IGNORECASE,
)


def retry(action: Callable[[], Result]) -> Result:
    """Return the result of `action`, called up to ATTEMPTS times; then raise its last error."""
    attempts = Retrying(
        stop=stop_after_attempt(ATTEMPTS),
        wait=wait_random_exponential(multiplier=FIRST_WAIT_S, max=LONGEST_WAIT_S),
        retry=retry_if_exception(is_temporary),
        before_sleep=before_sleep_log(logger, logging.DEBUG),
        reraise=True,
    )
    return attempts(action)


def is_temporary(error: BaseException) -> bool:
    """Return whether the same call may succeed a little later."""
    if not isinstance(error, OSError) or error.errno is not None:
        return False
    return not _LASTING.search(str(error))
