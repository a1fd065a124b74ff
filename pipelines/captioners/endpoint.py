"""Requests to an OpenAI-compatible chat endpoint (vLLM, SGLang, Gemini, OpenAI).

The budget is reserved before a request is sent, so it is never exceeded; a busy endpoint is waited
for as long as it asks. Knows nothing of what is asked: the body comes from the caller, the text of
the answer goes back to it.
"""

from __future__ import annotations

import asyncio
import os
import random
from collections.abc import Mapping
from typing import Any, Protocol

import httpx

from fw_model.errors import ConfigError
from fw_model.schema import CaptionReason
from pipelines.captioners.base import Usage
from pipelines.captioners.limits import Budget, RateLimit

TOKENS_PER_CHARACTER = 0.5  # an overestimate: a reservation must never be too small
RETRIED_STATUS = frozenset({408, 409, 425, 429, 500, 502, 503, 504})


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


class Endpoint:
    """Asks within a rate and a budget, None for no limit; a missing key is a ConfigError."""

    def __init__(
        self,
        settings: EndpointSettings,
        *,
        requests_per_minute: float | None = None,
        budget_usd: float | None = None,
    ) -> None:
        self._settings = settings
        self._budget = Budget(budget_usd)
        self._rate = RateLimit(requests_per_minute)
        self._headers = _headers(settings.api_key_env, settings.base_url)

    async def ask(self, body: Mapping[str, Any], input_tokens: float) -> tuple[str, Usage]:
        """Return the answer's text and its price; GivenUp after the last attempt.

        `input_tokens` is an upper bound on what the body costs.
        """
        settings = self._settings
        reserved = self._price(input_tokens, settings.max_output_tokens)
        last = "no attempt was made"
        async with httpx.AsyncClient(timeout=settings.timeout_s, headers=self._headers) as client:
            for attempt in range(1, settings.max_attempts + 1):
                if not self._budget.reserve(reserved):
                    raise GivenUp(
                        CaptionReason.BUDGET_EXHAUSTED, f"a request may cost {reserved:.4f} USD"
                    )
                await self._rate.wait()
                wait_s: float | None = None
                spent = 0.0
                try:
                    url = f"{settings.base_url.rstrip('/')}/chat/completions"
                    response = await client.post(url, json=body)
                    if response.status_code == 200:
                        content, usage = self._read(response, attempt)
                        spent = usage.cost_usd
                        return content, usage
                    last = f"HTTP {response.status_code}: {response.text[:200]}"
                    if response.status_code not in RETRIED_STATUS:
                        raise GivenUp(CaptionReason.REFUSED, last, Usage(requests=attempt))
                    wait_s = _retry_after_s(response)
                except httpx.TransportError as fault:
                    # Whether the endpoint worked on it is unknown; charge it, to stay below.
                    last, spent = f"{type(fault).__name__}: {fault}", reserved
                except GivenUp as fault:
                    spent = fault.usage.cost_usd
                    raise
                finally:
                    self._budget.settle(reserved, spent)
                if attempt < settings.max_attempts:
                    await asyncio.sleep(self._pause_s(attempt, wait_s))
        raise GivenUp(
            CaptionReason.ENDPOINT_EXHAUSTED,
            f"{settings.max_attempts} attempts failed, last {last}",
            Usage(requests=settings.max_attempts),
        )

    def _read(self, response: httpx.Response, attempt: int) -> tuple[str, Usage]:
        try:
            tree = response.json()
            message = tree["choices"][0]["message"]
            told = tree.get("usage") or {}
            prompt_tokens = int(told.get("prompt_tokens", 0))
            output_tokens = int(told.get("completion_tokens", 0))
        except (ValueError, LookupError, TypeError) as fault:
            detail = f"the endpoint's answer has no message: {response.text[:200]}"
            raise GivenUp(CaptionReason.INVALID, detail, Usage(requests=attempt)) from fault
        usage = Usage(
            attempt, prompt_tokens, output_tokens, self._price(prompt_tokens, output_tokens)
        )
        if message.get("refusal") or not message.get("content"):
            refusal = message.get("refusal") or "the endpoint said nothing"
            raise ModelRefused(CaptionReason.REFUSED, str(refusal)[:500], usage)
        return str(message["content"]), usage

    def _price(self, input_tokens: float, output_tokens: float) -> float:
        settings = self._settings
        return (
            input_tokens * settings.usd_per_million_input_tokens
            + output_tokens * settings.usd_per_million_output_tokens
        ) / 1e6

    def _pause_s(self, attempt: int, wait_s: float | None) -> float:
        """Return what the endpoint asked for, else a doubling pause with some chance in it."""
        if wait_s is None:
            wait_s = 0.5 * 2 ** (attempt - 1) * random.uniform(0.75, 1.25)
        return min(wait_s, self._settings.max_retry_wait_s)


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
    try:
        return max(0.0, float(response.headers["Retry-After"]))
    except (KeyError, ValueError):
        return None
