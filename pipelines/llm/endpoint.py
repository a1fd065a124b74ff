"""Requests to an OpenAI-compatible chat endpoint (vLLM, SGLang, Gemini, OpenAI).

The price of a request is reserved before it is sent, so a budget is never exceeded, and every
attempt that may be billed counts. When the endpoint asks for a pause, all requests wait.
Knows nothing about what is asked or who asks.
"""

from __future__ import annotations

import asyncio
import enum
import logging
import os
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

import httpx

from fw_model.endpoint import EndpointConfig
from fw_model.errors import ConfigError
from pipelines.llm.budget import Budget, BudgetAccount, LocalBudget
from pipelines.llm.messages import JsonSchema, Message, message_token_bound
from pipelines.llm.rate_limit import RateLimit
from pipelines.llm.usage import Usage

logger = logging.getLogger(__name__)

RETRIED_STATUS = frozenset({408, 409, 425, 429, 500, 502, 503, 504})
GATEWAY_STATUS = frozenset({502, 504})  # the server behind it may have answered, and bill it
ACCESS_STATUS = frozenset({401, 402, 403, 404})  # the key, the account or the model's name
NEVER_SENT = (httpx.ConnectError, httpx.ConnectTimeout, httpx.UnsupportedProtocol)


class Failure(enum.Enum):
    """Why a request has no answer."""

    EXHAUSTED = "every attempt failed"
    OVER_BUDGET = "the budget does not allow it"
    NO_ACCESS = "wrong key, empty account or unknown model"
    REQUEST_REFUSED = "the endpoint rejects the request"
    MODEL_REFUSED = "the model declines to answer"
    INVALID = "the response holds no message"


class NoAnswer(Exception):
    """A request has no answer; `usage` is what its attempts cost."""

    def __init__(self, failure: Failure, detail: str, usage: Usage | None = None) -> None:
        super().__init__(detail)
        self.failure = failure
        self.detail = detail
        self.usage = usage or Usage()


@dataclass(frozen=True)
class _Attempt:
    """One request: `content`, or a `fault`. A fault without a `failure` is worth another attempt,
    after `wait_s` if the endpoint said how long."""

    usage: Usage
    content: str = ""
    fault: str = ""
    failure: Failure | None = None
    wait_s: float | None = None


class Endpoint:
    """Sends requests within a rate limit and a budget; a missing key is a ConfigError.

    `share` is this client's part of the run's rate limit and budget; a `budget` given here, which
    other clients may share, replaces the configured one. The budget holds as long as the endpoint
    counts no more input tokens than `message_token_bound`; once it counts more, later requests
    reserve more.
    """

    def __init__(
        self,
        config: EndpointConfig,
        *,
        tokens_per_image: int = 0,
        share: float = 1.0,
        budget: Budget | None = None,
    ) -> None:
        self._config = config
        self._tokens_per_image = tokens_per_image
        self._budget = budget or LocalBudget(BudgetAccount(_part(config.budget_usd, share)))
        self._rate = RateLimit(_part(config.requests_per_minute, share))
        self._headers = _headers(config.api_key_env, config.base_url)
        self._url = f"{config.base_url.rstrip('/')}/chat/completions"
        self._token_ratio = 1.0
        self._no_access = ""

    async def ask(
        self, messages: Sequence[Message], schema: JsonSchema, *, temperature: float = 0.0
    ) -> tuple[str, Usage]:
        """Return the text of the response and what it cost; NoAnswer after the last attempt."""
        config = self._config
        sent_schema = schema if config.json_schema else None
        body = _body(config, messages, sent_schema, temperature)
        input_tokens = message_token_bound(messages, sent_schema, self._tokens_per_image)
        spent, fault = Usage(), ""
        async with httpx.AsyncClient(timeout=config.timeout_s, headers=self._headers) as client:
            for number in range(1, config.max_attempts + 1):
                if self._no_access:
                    raise NoAnswer(Failure.NO_ACCESS, self._no_access, spent)
                attempt = await self._attempt(client, body, input_tokens, spent)
                spent, fault = spent.plus(attempt.usage), attempt.fault
                if not fault:
                    return attempt.content, spent
                if attempt.failure is not None:
                    raise NoAnswer(attempt.failure, fault, spent)
                if number < config.max_attempts:
                    await self._pause(number, attempt, spent)
        detail = f"{config.max_attempts} attempts failed, the last with {fault}"
        raise NoAnswer(Failure.EXHAUSTED, detail, spent)

    async def _attempt(
        self, client: httpx.AsyncClient, body: Mapping[str, Any], input_tokens: int, spent: Usage
    ) -> _Attempt:
        """Send the body once, as soon as the rate limit and the budget allow it."""
        await self._rate.wait()
        config = self._config
        most_usd = config.price_usd(input_tokens * self._token_ratio, config.max_output_tokens)
        reservation = await self._budget.reserve(most_usd)
        if reservation is None:
            detail = f"a request may cost {most_usd:.4f} USD, more than the budget has left"
            raise NoAnswer(Failure.OVER_BUDGET, detail, spent)
        cost_usd = most_usd  # if this block ends early, nobody knows what the request has cost
        try:
            async with asyncio.timeout(config.timeout_s):
                response = await client.post(self._url, json=body)
            attempt = self._read(response, most_usd)
            self._check_token_bound(attempt.usage.prompt_tokens, input_tokens)
            cost_usd = attempt.usage.cost_usd
        except (httpx.RequestError, TimeoutError) as error:
            # The endpoint may have worked on it and bill it.
            cost_usd = 0.0 if isinstance(error, NEVER_SENT) else most_usd
            attempt = _Attempt(_charge(cost_usd), fault=f"{type(error).__name__}: {error}")
        finally:
            await self._budget.settle(reservation, cost_usd)
        return attempt

    def _read(self, response: httpx.Response, most_usd: float) -> _Attempt:
        """Return what a response says and costs."""
        status = response.status_code
        if status == 200:
            return self._read_message(response, most_usd)
        fault = f"HTTP {status}: {response.text[:200]}"
        usage = _charge(most_usd if status in GATEWAY_STATUS else 0.0)
        if status in RETRIED_STATUS:
            return _Attempt(usage, fault=fault, wait_s=_retry_after_s(response))
        if status in ACCESS_STATUS:
            self._no_access = fault
            return _Attempt(usage, fault=fault, failure=Failure.NO_ACCESS)
        return _Attempt(usage, fault=fault, failure=Failure.REQUEST_REFUSED)

    def _read_message(self, response: httpx.Response, most_usd: float) -> _Attempt:
        try:
            tree = response.json()
            message = tree["choices"][0]["message"]
            content, refusal = message.get("content"), message.get("refusal")
            usage = self._usage(tree.get("usage"), most_usd)
        except (ValueError, LookupError, TypeError, AttributeError):
            fault = f"the endpoint's response has no message: {response.text[:200]}"
            return _Attempt(_charge(most_usd), fault=fault, failure=Failure.INVALID)
        if refusal or not content:
            fault = str(refusal or "the endpoint returned an empty message")[:500]
            return _Attempt(usage, fault=fault, failure=Failure.MODEL_REFUSED)
        return _Attempt(usage, content=str(content))

    def _usage(self, counted: Mapping[str, Any] | None, most_usd: float) -> Usage:
        """Return what the endpoint counted; if it counts nothing, assume the highest cost."""
        if not counted:
            return _charge(most_usd)
        prompt_tokens, output_tokens = (
            int(counted["prompt_tokens"]),
            int(counted["completion_tokens"]),
        )
        price_usd = self._config.price_usd(prompt_tokens, output_tokens)
        return Usage(1, prompt_tokens, output_tokens, price_usd)

    def _check_token_bound(self, prompt_tokens: int, input_tokens: int) -> None:
        ratio = prompt_tokens / input_tokens
        if ratio > self._token_ratio:
            self._token_ratio = ratio
            logger.warning(
                "the endpoint counts %d input tokens where at most %d were expected; the budget "
                "may be exceeded by the difference; raise tokens_per_image",
                prompt_tokens,
                input_tokens,
            )

    async def _pause(self, number: int, attempt: _Attempt, spent: Usage) -> None:
        """Wait before the attempt after `number`.

        A pause that the endpoint asks for holds up all requests; NoAnswer if it is too long.
        Otherwise this request alone waits, about twice as long each time.
        """
        longest_s = self._config.max_retry_wait_s
        if attempt.wait_s is None:
            pause_s = 0.5 * 2 ** (number - 1) * random.uniform(0.75, 1.25)
            await asyncio.sleep(min(pause_s, longest_s))
        elif attempt.wait_s > longest_s:
            detail = (
                f"{attempt.fault}; the endpoint asks for a pause of {attempt.wait_s:.0f} s, "
                f"longer than max_retry_wait_s ({longest_s:g} s)"
            )
            raise NoAnswer(Failure.EXHAUSTED, detail, spent)
        else:
            self._rate.pause(attempt.wait_s)


def _body(
    config: EndpointConfig,
    messages: Sequence[Message],
    schema: JsonSchema | None,
    temperature: float,
) -> dict[str, Any]:
    body: dict[str, Any] = {
        "model": config.model,
        "temperature": temperature,
        "max_tokens": config.max_output_tokens,
        "messages": messages,
    }
    if schema is not None:
        named = {"name": schema["title"], "schema": schema}
        body["response_format"] = {"type": "json_schema", "json_schema": named}
    return body


def _charge(usd: float) -> Usage:
    return Usage(requests=1, cost_usd=usd)


def _part(limit: float | None, share: float) -> float | None:
    return None if limit is None else limit * share


def _headers(key_variable: str, base_url: str) -> dict[str, str]:
    key = os.environ.get(key_variable)
    is_local = any(host in base_url for host in ("127.0.0.1", "localhost", "[::1]"))
    if key is None and not is_local:
        raise ConfigError(
            f"{base_url} needs an API key; set the environment variable {key_variable}."
        )
    return {} if key is None else {"Authorization": f"Bearer {key}"}


def _retry_after_s(response: httpx.Response) -> float | None:
    """Return the Retry-After header in seconds, None if it is missing or unreadable."""
    header = response.headers.get("Retry-After", "")
    try:
        return max(0.0, float(header))
    except ValueError:
        pass
    try:
        until = parsedate_to_datetime(header)
    except ValueError:
        return None
    if until.tzinfo is None:
        until = until.replace(tzinfo=UTC)
    return max(0.0, (until - datetime.now(UTC)).total_seconds())
