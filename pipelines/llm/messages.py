"""Chat messages: their parts, an upper bound on their tokens, and the JSON in a response."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping, Sequence
from typing import Any, Literal, TypedDict

TEMPLATE_TOKENS = 64  # most tokens that a chat template adds around the messages
IMAGE_TEMPLATE_TOKENS = 8  # and around each image

JsonSchema = Mapping[str, Any]
"""A JSON schema as pydantic makes it."""


class TextPart(TypedDict):
    """A piece of text in a message."""

    type: Literal["text"]
    text: str


class ImagePart(TypedDict):
    """An image in a message, as a data URL."""

    type: Literal["image_url"]
    image_url: dict[Literal["url"], str]


Part = TextPart | ImagePart


class Message(TypedDict):
    """One turn of the conversation."""

    role: Literal["system", "user", "assistant"]
    content: str | list[Part]


def text_part(text: str) -> TextPart:
    """Return a message part with this text."""
    return {"type": "text", "text": text}


def image_part(jpeg: bytes) -> ImagePart:
    """Return a message part that embeds a JPEG image."""
    data = base64.b64encode(jpeg).decode("ascii")
    return {"type": "image_url", "image_url": {"url": f"data:image/jpeg;base64,{data}"}}


def message_token_bound(
    messages: Sequence[Message], schema: JsonSchema | None, tokens_per_image: int
) -> int:
    """Return an upper bound on the input tokens of a request."""
    text, num_images = "", 0
    for message in messages:
        content = message["content"]
        for part in [text_part(content)] if isinstance(content, str) else content:
            if part["type"] == "text":
                text += part["text"]
            else:
                num_images += 1
    return text_token_bound(text, schema) + num_images * (tokens_per_image + IMAGE_TEMPLATE_TOKENS)


def text_token_bound(text: str, schema: JsonSchema | None) -> int:
    """Return an upper bound on the tokens of a text and a schema: a token is at least one byte."""
    schema_text = "" if schema is None else json.dumps(schema)
    return len(text.encode()) + len(schema_text.encode()) + TEMPLATE_TOKENS


def json_part(content: str) -> str:
    """Return the JSON object inside `content`: some models wrap it in a code fence or in words."""
    start, end = content.find("{"), content.rfind("}")
    return content[start : end + 1] if 0 <= start < end else content
