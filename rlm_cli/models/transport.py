"""Which of two ways a model is asked: litellm, which knows a hundred providers, or plain HTTP, the lean way.

Most servers speak OpenAI's chat completions at an address that is known. litellm adds nothing there and costs 3 s and
170 MB to load and 6 ms of computing a request, of which one event loop manages 150 a second. `catalog.CHAT`
says whose API is plain; what else needs litellm's knowledge is listed here.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Literal
from urllib.parse import urlsplit, urlunsplit

from ..errors import ConfigError
from . import catalog

Transport = Literal["lean", "litellm"]

_TRANSLATED = frozenset(
    "additional_drop_params allowed_openai_params api_type api_version cache_control_injection_points"
    " custom_llm_provider default_headers drop_params extra_query headers organization thinking".split()
)
"""Options that only litellm understands: sent as they are they would be refused, or ignored."""
_EFFORT = frozenset({"openai", "openrouter", "litellm_proxy", "hosted_vllm", "lm_studio", "cerebras"})
"""Providers all of whose models that reason take `reasoning_effort`; of others litellm knows which do."""


def choose(wanted: str, name: str, needs_litellm: str) -> Transport:
    """The way for one model. `wanted`: auto, lean or litellm; `needs_litellm`: why plain HTTP will not do. Raises
    `ConfigError` where `lean` is wanted and cannot be.
    """
    if needs_litellm and wanted == "lean":
        raise ConfigError(
            f"{name}: transport lean is not possible",
            why=needs_litellm,
            hint='transport = "auto", or model = "openai/…" with the api_base of a server that speaks OpenAI\'s API',
        )
    return "litellm" if needs_litellm or wanted == "litellm" else "lean"


def chat_address(api_base: str) -> str:
    """Where chat completions are asked for, below a provider's address."""
    parts = urlsplit(api_base)
    path = parts.path.rstrip("/").removesuffix("/chat/completions")
    return urlunsplit(parts._replace(path=f"{path}/chat/completions", fragment=""))


def what_needs_litellm(
    provider: catalog.Provider,
    known: catalog.Known | None,
    *,
    api_base: str | None,
    options: Collection[str],
    effort: bool,
    tools: bool,
) -> str:
    """Why plain HTTP will not do; empty where it will. `effort`: one is sent though no table of the model's own says
    so; `tools`: functions are offered from the start."""
    if provider.name not in catalog.CHAT:
        return f"{provider.name} does not speak plain OpenAI chat completions"
    if foreign := sorted(_TRANSLATED.intersection(options)):
        return f"only litellm understands {', '.join(foreign)}"
    if known is not None and not known.chats and api_base is None:
        return "it does not take chat completions"
    if effort and provider.name not in _EFFORT:
        return f"whether it takes an effort is not known of {provider.name}"
    if effort and tools and provider.name == "openai" and api_base is None:
        return "OpenAI takes functions together with an effort at another address"
    return ""
