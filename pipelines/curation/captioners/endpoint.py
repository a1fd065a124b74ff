"""Requests to an OpenAI-compatible chat endpoint (vLLM, SGLang, Gemini, OpenAI).

The price of a request is reserved before it is sent, so a budget is never exceeded; what an attempt
has cost counts whatever came of it. A busy endpoint is waited for as long as it asks. Knows nothing
of what is asked: the body comes from the caller, the text of the answer goes back to it.
"""

from __future__ import annotations

import asyncio
import logging
import os
import random
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any, Protocol

import httpx

from fw_model.errors import ConfigError
from fw_model.schemas.curated import CaptionReason
from pipelines.curation.captioners.base import Usage
from pipelines.curation.captioners.limits import Budget, OwnPurse, Purse, RateLimit

logger = logging.getLogger(__name__)

TOKENS_PER_CHARACTER = 0.5  # an overestimate: a reservation must never be too small
RETRIED_STATUS = frozenset({408, 409, 425, 429, 500, 502, 503, 504})
GATEWAY_STATUS = frozenset({502, 504})  # what stands behind may have answered, and bill it
ACCESS_STATUS = frozenset({401, 402, 403, 404})  # the key, the account or the model's name
NEVER_SENT = (httpx.ConnectError, httpx.ConnectTimeout, httpx.UnsupportedProtocol)


class EndpointSettings(Protocol):
    """What a configuration section says of its endpoint."""

    @property
    def base_url(self) -> str: ...
    @property
    def api_key_env(self) -> str: ...
    @property
    def timeout_s(self) -> float: ...
    @property
    def max_attempts(self) -> int: ...
    @property
    def max_retry_wait_s(self) -> float: ...
    @property
    def max_output_tokens(self) -> int: ...
    @property
    def usd_per_million_input_tokens(self) -> float: ...
    @property
    def usd_per_million_output_tokens(self) -> float: ...


class GivenUp(Exception):
    """There will be no answer."""

    def __init__(self, reason: CaptionReason, detail: str, usage: Usage | None = None) -> None:
        super().__init__(detail)
        self.reason = reason
        self.detail = detail
        self.usage = usage or Usage()


class ModelRefused(GivenUp):
    """The endpoint works, but its model will not say this."""


class AccessRefused(GivenUp):
    """The endpoint lets nothing through: a wrong key, an empty account, an unknown model."""


@dataclass(frozen=True)
class _Attempt:
    """What came of one request: `content`, or a `fault` and whether another try may help."""

    usage: Usage
    content: str = ""
    fault: str = ""
    final: type[GivenUp] | None = None
    reason: CaptionReason = CaptionReason.REFUSED
    wait_s: float | None = None


class Endpoint:
    """Asks within a rate and a budget, None for no limit; a missing key is a ConfigError.

    A `purse` that others share replaces the budget of its own. The cap holds as far as
    `input_tokens` bounds what the endpoint counts; where it counts more, later requests reserve
    more.
    """

    def __init__(
        self,
        settings: EndpointSettings,
        *,
        requests_per_minute: float | None = None,
        budget_usd: float | None = None,
        purse: Purse | None = None,
    ) -> None:
        self._settings = settings
        self._purse = purse or OwnPurse(Budget(budget_usd))
        self._rate = RateLimit(requests_per_minute)
        self._headers = _headers(settings.api_key_env, settings.base_url)
        self._url = f"{settings.base_url.rstrip('/')}/chat/completions"
        self._token_ratio = 1.0
        self._closed = ""

    async def ask(self, body: Mapping[str, Any], input_tokens: float) -> tuple[str, Usage]:
        """Return the answer's text and its price; GivenUp after the last attempt.

        `input_tokens` is an upper bound on what the body costs.
        """
        settings = self._settings
        spent, last = Usage(), "no attempt was made"
        async with httpx.AsyncClient(timeout=settings.timeout_s, headers=self._headers) as client:
            for attempt in range(1, settings.max_attempts + 1):
                if self._closed:
                    raise AccessRefused(CaptionReason.REFUSED, self._closed, spent)
                came = await self._attempt(client, body, input_tokens, spent)
                spent, last = spent.plus(came.usage), came.fault
                if not came.fault:
                    return came.content, spent
                if came.final is not None:
                    raise came.final(came.reason, came.fault, spent)
                if attempt < settings.max_attempts:
                    await self._pause(attempt, came, spent)
        raise GivenUp(
            CaptionReason.ENDPOINT_EXHAUSTED,
            f"{settings.max_attempts} attempts failed, last {last}",
            spent,
        )

    async def _attempt(
        self, client: httpx.AsyncClient, body: Mapping[str, Any], input_tokens: float, spent: Usage
    ) -> _Attempt:
        """Send the body once, when rate and budget allow it."""
        await self._rate.wait()
        reserved = self._price(input_tokens * self._token_ratio, self._settings.max_output_tokens)
        hold = await self._purse.reserve(reserved)
        if hold is None:
            detail = f"a request may cost {reserved:.4f} USD"
            raise GivenUp(CaptionReason.BUDGET_EXHAUSTED, detail, spent)
        cost = reserved  # whatever ends this block early: what it has cost is not known
        try:
            async with asyncio.timeout(self._settings.timeout_s):
                response = await client.post(self._url, json=body)
            came = self._read(response, reserved)
            self._learn(came.usage.prompt_tokens, input_tokens)
            cost = came.usage.cost_usd
        except (httpx.RequestError, TimeoutError) as fault:
            # Whether the endpoint worked on it is unknown; charge it, to stay below.
            cost = 0.0 if isinstance(fault, NEVER_SENT) else reserved
            came = _Attempt(_charged(cost), fault=f"{type(fault).__name__}: {fault}")
        finally:
            await self._purse.settle(hold, cost)
        return came

    def _read(self, response: httpx.Response, reserved: float) -> _Attempt:
        """Tell an answer from a fault, and what either costs."""
        status = response.status_code
        if status == 200:
            return self._read_answer(response, reserved)
        fault = f"HTTP {status}: {response.text[:200]}"
        usage = _charged(reserved if status in GATEWAY_STATUS else 0.0)
        if status in RETRIED_STATUS:
            return _Attempt(usage, fault=fault, wait_s=_retry_after_s(response))
        if status in ACCESS_STATUS:
            self._closed = fault
            return _Attempt(usage, fault=fault, final=AccessRefused)
        return _Attempt(usage, fault=fault, final=GivenUp)

    def _read_answer(self, response: httpx.Response, reserved: float) -> _Attempt:
        try:
            tree = response.json()
            message = tree["choices"][0]["message"]
            said, refusal = message.get("content"), message.get("refusal")
            usage = self._usage(tree.get("usage"), reserved)
        except (ValueError, LookupError, TypeError, AttributeError):
            fault = f"the endpoint's answer has no message: {response.text[:200]}"
            reason = CaptionReason.INVALID
            return _Attempt(_charged(reserved), fault=fault, final=GivenUp, reason=reason)
        if refusal or not said:
            fault = str(refusal or "the endpoint said nothing")[:500]
            return _Attempt(usage, fault=fault, final=ModelRefused)
        return _Attempt(usage, content=str(said))

    def _usage(self, told: Mapping[str, Any] | None, reserved: float) -> Usage:
        """Return what the endpoint counted; one that does not count costs all that it may."""
        if not told:
            return _charged(reserved)
        prompt_tokens, output_tokens = int(told["prompt_tokens"]), int(told["completion_tokens"])
        price = self._price(prompt_tokens, output_tokens)
        return Usage(1, prompt_tokens, output_tokens, price)

    def _learn(self, prompt_tokens: int, input_tokens: float) -> None:
        ratio = prompt_tokens / input_tokens if input_tokens else 1.0
        if ratio > self._token_ratio:
            self._token_ratio = ratio
            logger.warning(
                "the endpoint counts %d input tokens where at most %.0f were expected; set "
                "tokens_per_image higher, the budget may be exceeded by the difference",
                prompt_tokens,
                input_tokens,
            )

    def _price(self, input_tokens: float, output_tokens: float) -> float:
        settings = self._settings
        return (
            input_tokens * settings.usd_per_million_input_tokens
            + output_tokens * settings.usd_per_million_output_tokens
        ) / 1e6

    async def _pause(self, attempt: int, came: _Attempt, spent: Usage) -> None:
        """Wait as the endpoint asked, and let no other request through until then; else a doubling
        pause with some chance in it. GivenUp if it asks for longer than is allowed."""
        longest_s = self._settings.max_retry_wait_s
        if came.wait_s is None:
            pause_s = 0.5 * 2 ** (attempt - 1) * random.uniform(0.75, 1.25)
            return await asyncio.sleep(min(pause_s, longest_s))
        if came.wait_s > longest_s:
            detail = f"{came.fault}; asks to wait {came.wait_s:.0f} s, max_retry_wait_s is less"
            raise GivenUp(CaptionReason.ENDPOINT_EXHAUSTED, detail, spent)
        self._rate.hold(came.wait_s)


def _charged(usd: float) -> Usage:
    return Usage(requests=1, cost_usd=usd)


def json_part(content: str) -> str:
    """Return the object inside `content`: some models wrap it in a code fence or in words."""
    start, end = content.find("{"), content.rfind("}")
    return content[start : end + 1] if 0 <= start < end else content


def _headers(key_variable: str, base_url: str) -> dict[str, str]:
    key = os.environ.get(key_variable)
    is_local = any(host in base_url for host in ("127.0.0.1", "localhost", "[::1]"))
    if key is None and not is_local:
        raise ConfigError(
            f"{base_url} needs a key; put it into the environment variable {key_variable}."
        )
    return {} if key is None else {"Authorization": f"Bearer {key}"}


def _retry_after_s(response: httpx.Response) -> float | None:
    """Return the Retry-After header in seconds, None if there is none that can be read."""
    told = response.headers.get("Retry-After", "")
    try:
        return max(0.0, float(told))
    except ValueError:
        pass
    try:
        until = parsedate_to_datetime(told)
    except ValueError:
        return None
    if until.tzinfo is None:
        until = until.replace(tzinfo=UTC)
    return max(0.0, (until - datetime.now(UTC)).total_seconds())
