"""A server that speaks the protocol of OpenAI's chat completions, as a section of a config."""

from __future__ import annotations

import os
from importlib.util import find_spec
from typing import Any

from pydantic import Field

from trainer.config.section import section

_OURS = ("model", "messages", "stream", "n")  # of a request


@section
class EndpointSection:
    """url: where its API begins, such as http://localhost:8000/v1. model: what the server calls the model.
    api_key_env: the name of the environment variable that holds the key; null where the server asks for none.
    concurrency: requests at a time. timeout: seconds for one of them. retries: how often one is repeated that the server
        refused for now (429, 5xx), that was cut off, or whose reply is none; after 1 s, 2 s, 4 s, ... or what the server asks.
    options: further fields of every request; null leaves one out that is sent otherwise (temperature: 0, max_tokens).
    price_in, price_out: dollars per million tokens of prompts and of replies, for the estimate and the costs.
    """

    url: str = Field(pattern=r"^https?://[^\s?#@]+$")  # nor a password in it
    model: str = Field(min_length=1)
    api_key_env: str | None = Field("OPENAI_API_KEY", pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")
    concurrency: int = Field(8, gt=0)
    timeout: float = Field(120.0, gt=0)
    retries: int = Field(6, ge=0)
    options: dict[str, Any] = Field(default_factory=dict)
    price_in: float | None = Field(None, ge=0)
    price_out: float | None = Field(None, ge=0)

    def endpoint_problems(self, key: str) -> list[str]:
        """What cannot work. key: where this section stands."""
        problems = []
        if find_spec("openai") is None:
            problems.append(f"{key}: an endpoint needs the package openai; pip install 'keel[endpoint]'.")
        if self.api_key_env is not None and not os.environ.get(self.api_key_env):
            problems.append(
                f"{key}.api_key_env: the environment variable {self.api_key_env} is not set; export the key in it, or set this "
                "to null where the server asks for none."
            )
        if taken := sorted(set(self.options) & set(_OURS)):
            problems.append(f"{key}.options: {', '.join(taken)} cannot be set there; remove it.")
        if (self.price_in is None) != (self.price_out is None):
            problems.append(f"{key}.price_in: costs need the prices of prompts and of replies; set both, or neither.")
        return problems
