"""A client of OpenAI-compatible chat endpoints: requests, rate limit, budget and usage."""
