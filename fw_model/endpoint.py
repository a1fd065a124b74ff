"""Settings of an OpenAI-compatible chat endpoint. Every section that uses one inherits them.

They are in fw_model because evaluation's settings include them. Knows nothing about requests:
`pipelines.llm` sends them.
"""

from __future__ import annotations

from pydantic import Field

from fw_model.config import StrictModel


class EndpointConfig(StrictModel):
    """Where the endpoint is, how it is used, and what it may cost."""

    base_url: str = Field(
        "http://127.0.0.1:8000/v1", description="URL of the OpenAI-compatible endpoint."
    )
    model: str = Field("default", description="Model name sent to the endpoint.")
    api_key_env: str = Field(
        "OPENAI_API_KEY", description="Environment variable that holds the API key."
    )
    requests_per_minute: float | None = Field(
        None, gt=0, description="Most requests per minute of the whole run. Null: no limit."
    )
    timeout_s: float = Field(120.0, gt=0, description="Longest wait for one response, seconds.")
    max_attempts: int = Field(
        6, ge=1, le=100, description="Attempts per request, including the first."
    )
    max_retry_wait_s: float = Field(
        60.0,
        ge=0,
        description="Longest pause before another attempt, seconds. A request fails if the "
        "endpoint asks for a longer one.",
    )
    budget_usd: float | None = Field(
        None, ge=0, description="Most that one run may spend, USD. Null: no limit."
    )
    usd_per_million_input_tokens: float = Field(
        0.0, ge=0, description="Price of input tokens, for the budget."
    )
    usd_per_million_output_tokens: float = Field(
        0.0, ge=0, description="Price of output tokens, for the budget."
    )
    max_output_tokens: int = Field(2048, ge=64, description="Most tokens in one response.")
    json_schema: bool = Field(
        True,
        description="Send the JSON schema as response_format. False: only the prompt describes it.",
    )

    def price_usd(self, input_tokens: float, output_tokens: float) -> float:
        """Return what these tokens cost."""
        return (
            input_tokens * self.usd_per_million_input_tokens
            + output_tokens * self.usd_per_million_output_tokens
        ) / 1e6
