"""The client of chat endpoints, against a server on loopback."""

import asyncio
import logging
import time
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import httpx
import pytest

from fw_model.endpoint import EndpointConfig
from pipelines.llm.endpoint import Endpoint, Failure, NoAnswer, _retry_after_s
from pipelines.llm.messages import image_part, message_token_bound, text_part
from pipelines.llm.rate_limit import RateLimit
from tests.pipelines.chat_server import ChatServer, answer

MESSAGES = [{"role": "user", "content": "Say yes."}]
SCHEMA = {"title": "Yes", "type": "object"}


@pytest.fixture
def server():
    served = ChatServer(lambda n: answer("yes"))
    yield served
    served.close()


def ask(server, *, share=1.0, **settings):
    config = EndpointConfig(base_url=server.base_url, **{"max_retry_wait_s": 0.01, **settings})
    return asyncio.run(Endpoint(config, share=share).ask(MESSAGES, SCHEMA))


@pytest.mark.parametrize(
    ("reply", "failure", "requests"),
    [
        ((500, {}, {}), Failure.EXHAUSTED, 2),
        ((429, {"Retry-After": "9"}, {}), Failure.EXHAUSTED, 1),
        ((401, {}, {}), Failure.NO_ACCESS, 1),
        ((400, {}, {}), Failure.REQUEST_REFUSED, 1),
        ((200, {}, {"choices": [{"message": {"refusal": "No."}}]}), Failure.MODEL_REFUSED, 1),
        ((200, {}, {"choices": [{"message": {"content": ""}}]}), Failure.MODEL_REFUSED, 1),
        ((200, {}, {"choices": []}), Failure.INVALID, 1),
    ],
)
def test_a_request_without_an_answer_says_why(server, reply, failure, requests):
    server.script = lambda n: reply
    with pytest.raises(NoAnswer) as raised:
        ask(server, max_attempts=2)
    assert (raised.value.failure, raised.value.usage.requests) == (failure, requests)
    assert len(server.requests) == requests


def test_a_client_spends_its_share_of_the_budget(server):
    prices = {"usd_per_million_output_tokens": 1000.0, "max_output_tokens": 100}
    assert ask(server, budget_usd=0.2, share=0.5, **prices)[1].cost_usd == pytest.approx(0.1)
    with pytest.raises(NoAnswer) as raised:
        ask(server, budget_usd=0.2, share=0.4, **prices)
    assert raised.value.failure is Failure.OVER_BUDGET
    assert len(server.requests) == 1


def test_more_tokens_than_expected_are_reported_and_reserved_from_then_on(server, caplog):
    server.script = lambda n: answer("yes", tokens=(1000, 0))
    config = EndpointConfig(
        base_url=server.base_url, budget_usd=0.0015, usd_per_million_input_tokens=1.0
    )
    endpoint = Endpoint(config)
    with caplog.at_level(logging.WARNING):
        asyncio.run(endpoint.ask(MESSAGES, SCHEMA))
    assert "counts 1000 input tokens" in caplog.text
    with pytest.raises(NoAnswer) as raised:
        asyncio.run(endpoint.ask(MESSAGES, SCHEMA))
    assert raised.value.failure is Failure.OVER_BUDGET


def test_the_token_bound_counts_bytes_images_and_the_schema():
    messages = [{"role": "user", "content": [text_part("äb"), image_part(b"jpeg")]}]
    plain = message_token_bound(messages, None, 100)
    assert plain == message_token_bound([{"role": "user", "content": "abc"}], None, 0) + 108
    assert message_token_bound(messages, {"a": 1}, 100) == plain + len('{"a": 1}')


@pytest.mark.parametrize(
    ("header", "seconds"), [("3", 3.0), ("-1", 0.0), ("soon", None), ("", None)]
)
def test_retry_after_is_a_number_of_seconds(header, seconds):
    assert _retry_after_s(httpx.Response(429, headers={"Retry-After": header})) == seconds


def test_retry_after_may_be_a_date():
    header = format_datetime(datetime.now(UTC) + timedelta(seconds=60))
    found = _retry_after_s(httpx.Response(429, headers={"Retry-After": header}))
    assert found == pytest.approx(60, abs=2)


def test_a_rate_limit_spaces_requests_across_event_loops():
    rate = RateLimit(60 / 0.05)
    started = time.monotonic()
    for _ in range(3):
        asyncio.run(rate.wait())
    assert time.monotonic() - started >= 0.1
    rate.pause(0.1)
    asyncio.run(rate.wait())
    assert time.monotonic() - started >= 0.2
