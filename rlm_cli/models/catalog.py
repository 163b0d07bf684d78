"""What is known of providers and models without asking anybody: addresses, key variables, windows, prices.

Two tables. `PROVIDERS` is ours and short, in the order in which a key in the environment chooses the model; litellm's
own answer to "which key does this need" covers a third of its providers and says *present* for the rest. `known` reads
litellm's price map, a JSON file in its package, without importing litellm (25 ms against 3 s) and without the network:
prices are as old as the installed litellm, and `[models.NAME]` in the configuration overrides them.

Rejected: prices of our own (stale within weeks), downloading the map (the tool talks to nobody but the model).
"""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

from ..ledger import Price

DEFAULT_WINDOW = 32_768
"""Tokens, for a model nobody has described. Too small costs a few more sub-calls; too large makes providers refuse and
local servers cut the text in silence."""
DEFAULT_MAX_OUTPUT = 4_096
"""Tokens, for the same: every server accepts that much."""
OLLAMA_WINDOW = 8_192
"""Tokens. Ollama cuts prompts in silence at its `num_ctx`, so we send this one; a larger one takes memory."""


@dataclass(frozen=True, slots=True)
class Provider:
    """A provider in litellm's spelling.

    `variables`: where its key may be, first wins. `host`: where texts go by default, None = not known here. `root`,
    `sub`: the models that a key in the environment stands for. `needs_key`: no request without one. `own_address`:
    it has no address but the user's.
    """

    name: str
    variables: tuple[str, ...]
    host: str | None = None
    root: str | None = None
    sub: str | None = None
    needs_key: bool = True
    own_address: bool = False


PROVIDERS = (
    Provider("anthropic", ("ANTHROPIC_API_KEY",), "api.anthropic.com", "claude-sonnet-5-5", "claude-haiku-5-5"),
    Provider("openai", ("OPENAI_API_KEY",), "api.openai.com", "gpt-6-sol", "gpt-6-luna"),
    Provider(
        "gemini",
        ("GEMINI_API_KEY", "GOOGLE_API_KEY"),
        "generativelanguage.googleapis.com",
        "gemini-3.8-flash",
        "gemini-3.5-flash-lite",
    ),
    Provider("openrouter", ("OPENROUTER_API_KEY",), "openrouter.ai", "openai/gpt-6-sol", "openai/gpt-6-luna"),
    Provider("groq", ("GROQ_API_KEY",), "api.groq.com", "openai/gpt-oss-120b", "openai/gpt-oss-20b"),
    Provider("deepseek", ("DEEPSEEK_API_KEY",), "api.deepseek.com", "deepseek-v4-pro", "deepseek-v4-flash"),
    Provider("mistral", ("MISTRAL_API_KEY",), "api.mistral.ai", "mistral-large-latest", "mistral-small-latest"),
    Provider("xai", ("XAI_API_KEY",), "api.x.ai", "grok-4.20", "grok-4.20"),
    Provider("cerebras", ("CEREBRAS_API_KEY",), "api.cerebras.ai", "gpt-oss-120b", "gpt-oss-120b"),
    # Usable when named, never chosen by a key alone.
    Provider("together_ai", ("TOGETHERAI_API_KEY", "TOGETHER_API_KEY", "TOGETHER_AI_API_KEY"), "api.together.xyz"),
    Provider("fireworks_ai", ("FIREWORKS_AI_API_KEY", "FIREWORKS_API_KEY"), "api.fireworks.ai"),
    Provider("cohere", ("COHERE_API_KEY", "CO_API_KEY"), "api.cohere.ai"),
    Provider("cohere_chat", ("COHERE_API_KEY", "CO_API_KEY"), "api.cohere.ai"),
    Provider("azure", ("AZURE_API_KEY",), needs_key=False, own_address=True),
    Provider("azure_ai", ("AZURE_AI_API_KEY",), needs_key=False, own_address=True),
    Provider("litellm_proxy", ("LITELLM_PROXY_API_KEY",), needs_key=False, own_address=True),
    # Without an address litellm would send these two to api.openai.com.
    Provider("lm_studio", ("LM_STUDIO_API_KEY",), needs_key=False, own_address=True),
    Provider("hosted_vllm", ("HOSTED_VLLM_API_KEY",), needs_key=False, own_address=True),
    Provider("ollama", ("OLLAMA_API_KEY",), "localhost:11434", needs_key=False),
    Provider("ollama_chat", ("OLLAMA_API_KEY",), "localhost:11434", needs_key=False),
    Provider("llamafile", ("LLAMAFILE_API_KEY",), "127.0.0.1:8080", needs_key=False),
)

CHAT: dict[str, str | None] = {
    "openai": "https://api.openai.com/v1",
    "openrouter": "https://openrouter.ai/api/v1",
    "groq": "https://api.groq.com/openai/v1",
    "deepseek": "https://api.deepseek.com/v1",
    "xai": "https://api.x.ai/v1",
    "cerebras": "https://api.cerebras.ai/v1",
    "together_ai": "https://api.together.xyz/v1",
    "llamafile": "http://127.0.0.1:8080/v1",
    "lm_studio": None,
    "hosted_vllm": None,
    "litellm_proxy": None,
}
"""Providers whose API is OpenAI's chat completions as they are, and where they have it; None: at the user's address. To
speak to them litellm is not needed. Not among them: mistral (ids of calls in its own form), fireworks_ai (names that
litellm completes), azure (other addresses and headers), ollama (its own API, which takes `num_ctx`)."""

_DEARER_ABOVE = re.compile(r"input_cost_per_token_above_(\d+)k_tokens")

_PRICES = "model_prices_and_context_window_backup.json"
_LONGEST_ENTRY = 100_000
"""Bytes of one model in it, and more: the longest there is has 15,000."""

CALLS_ANYWAY = re.compile(r"groq/openai/gpt-oss-")
"""Models that call functions nobody offered, at a provider that refuses such replies: they are offered one at once."""

LOCAL_SERVERS = frozenset({"ollama", "ollama_chat", "llamafile", "lm_studio", "hosted_vllm"})
"""Servers people run themselves: on loopback their tokens cost nothing."""


@dataclass(frozen=True, slots=True)
class Known:
    """What the price map says of a model; `price` None = it does not. `structured`: it takes a JSON Schema. `reasons`:
    it thinks before it writes. `chats`: it takes chat completions, not OpenAI's newer requests only.
    `tools`: it calls functions."""

    window: int
    max_output: int
    price: Price | None
    structured: bool = False
    reasons: bool = False
    chats: bool = True
    tools: bool = False


def provider(name: str) -> Provider | None:
    """A provider by its prefix; one that only litellm knows gets the usual variable and no address; None = nobody
    knows it."""
    for known_provider in PROVIDERS:
        if known_provider.name == name:
            return known_provider
    if name in _litellm_providers():
        return Provider(name, (f"{name.upper().replace('-', '_')}_API_KEY",), needs_key=False)
    return None


def near_providers(name: str) -> list[str]:
    """Providers that a misspelled name may mean, the likeliest first."""
    return _near(name, {p.name for p in PROVIDERS} | _litellm_providers())


def near_models(name: str) -> list[str]:
    """Names in full spelling that a bare or misspelled name may mean, the likeliest first."""
    bare = name.rpartition("/")[2].lower()
    chat = {key: entry for key, entry in _map().items() if key.count("/") <= 1 and entry.get("mode") == "chat"}
    full = {key.rpartition("/")[2]: _full(key, entry) for key, entry in chat.items()}
    exact = sorted({_full(key, entry) for key, entry in _map().items() if key.lower() == bare})
    return list(dict.fromkeys(exact + [full[key] for key in _near(bare, full)]))[:3]


def known(provider_name: str, model: str, tier: str = "") -> Known | None:
    """Window, output limit and price of `provider/model` by the packaged map; None when it has no such model.

    Where a provider charges more beyond a number of input tokens, the window ends there: no request is so long that it
    costs double. A `window` in the configuration may reach beyond, and the price knows what it is there. `tier`: as the
    option `service_tier` has it; where it has prices of its own, those hold.
    """
    entry = next(filter(None, map(_entry, _spellings(provider_name, model))), None)
    if entry is None:
        return None
    window = _whole(entry.get("max_input_tokens")) or _whole(entry.get("max_tokens")) or DEFAULT_WINDOW
    steps = _steps(entry)
    output = _whole(entry.get("max_output_tokens")) or DEFAULT_MAX_OUTPUT
    structured, reasons = bool(entry.get("supports_response_schema")), bool(entry.get("supports_reasoning"))
    tools = bool(entry.get("supports_function_calling"))
    chats = entry.get("mode") != "responses"
    return Known(
        min([window, *steps]), output, _price(entry, f"_{tier}" if tier else ""), structured, reasons, chats, tools
    )


def _steps(entry: dict[str, Any]) -> list[int]:
    """Input tokens above which everything of a request costs more."""
    return sorted(int(step[1]) * 1000 for step in map(_DEARER_ABOVE.fullmatch, entry) if step)


def _price(entry: dict[str, Any], tier: str) -> Price | None:
    """USD per million. Zero for both input and output is how the map says that it does not know."""
    price = _price_at(entry, "", None)
    if price is None:
        return None
    price = (_price_at(entry, tier, price) if tier else None) or price
    above: list[tuple[int, Price]] = []
    for step in _steps(entry):
        here = f"_above_{step // 1000}k_tokens"
        dearer = _price_at(entry, here, above[-1][1] if above else price)
        dearer = _price_at(entry, here + tier, dearer) if tier else dearer
        assert dearer is not None
        above.append((step, dearer))
    return replace(price, above=tuple(above))


def _price_at(entry: dict[str, Any], step: str, below: Price | None) -> Price | None:
    """The prices whose names end in `step`; those that are not there stay as they are `below`."""

    def per_million(key: str) -> float | None:
        value = entry.get(f"{key}{step}")
        return round(value * 1e6, 9) if isinstance(value, (int, float)) and value else None

    given, written = per_million("input_cost_per_token"), per_million("output_cost_per_token")
    if given is None and written is None and below is None:
        return None
    return Price(
        input=given or (below.input if below else 0.0),
        output=written or (below.output if below else 0.0),
        cached=per_million("cache_read_input_token_cost") or (below.cached if below else None),
        cache_write=per_million("cache_creation_input_token_cost") or (below.cache_write if below else None),
        reasoning=per_million("output_cost_per_reasoning_token") or (below.reasoning if below else None),
    )


def _spellings(provider_name: str, model: str) -> Iterable[str]:
    """Keys under which the map may have it; OpenRouter passes on other providers' models and prices."""
    yield f"{provider_name}/{model}"
    if provider_name in ("openrouter", "litellm_proxy"):
        yield model
        yield model.rpartition("/")[2]
        yield model.rpartition("/")[2].replace(".", "-")
    elif provider_name in ("openai", "anthropic", "cohere", "cohere_chat", "azure", "bedrock", "vertex_ai"):
        yield model


def _full(key: str, entry: dict[str, Any]) -> str:
    owner = str(entry.get("litellm_provider"))
    return key if key.startswith(f"{owner}/") else f"{owner}/{key}"


def _near(name: str, names: Iterable[str]) -> list[str]:
    return difflib.get_close_matches(name, sorted(names), n=3, cutoff=0.6)


def _whole(value: object) -> int | None:
    try:
        return int(value) or None  # type: ignore[call-overload]  # a few entries have texts or floats
    except (TypeError, ValueError):
        return None


def _entry(key: str) -> dict[str, Any] | None:
    """One model of the map. Two megabytes of JSON take 25 ms to read whole, 10 as text, and 2 to look for a name in."""
    written = _packaged_bytes(_PRICES)
    start = written.rfind(f"{json.dumps(key)}: {{".encode())  # the last, where there are two, as in JSON
    if key == "sample_spec" or (start < 0 and b": {" in written[:1_000]):
        return None
    try:
        text = written[start : start + _LONGEST_ENTRY].decode("utf-8", "ignore")
        entry, _ = json.JSONDecoder().raw_decode(text, text.index("{", len(key)))
    except ValueError:  # written in another way by now
        return _map().get(key)
    return entry if start >= 0 and isinstance(entry, dict) else _map().get(key)


@cache
def _map() -> dict[str, dict[str, Any]]:
    entries = _packaged(_PRICES)
    return {key: entry for key, entry in entries.items() if isinstance(entry, dict) and key != "sample_spec"}


@cache
def _litellm_providers() -> frozenset[str]:
    listed = _packaged("provider_endpoints_support_backup.json").get("providers", {})
    priced = {str(entry.get("litellm_provider")) for entry in _map().values()}
    return frozenset(listed) | priced | {key.partition("/")[0] for key in _map() if "/" in key}


def _packaged(name: str) -> dict[str, Any]:
    """A JSON file of the installed litellm; empty when it is not there: then prices are unknown, and we say so."""
    try:
        loaded = json.loads(_packaged_bytes(name))
    except ValueError:
        return {}
    return loaded if isinstance(loaded, dict) else {}


@cache
def _packaged_bytes(name: str) -> bytes:
    import importlib.util

    spec = importlib.util.find_spec("litellm")  # finds the package, does not run it
    for folder in (spec.submodule_search_locations if spec else None) or ():
        try:
            return (Path(folder) / name).read_bytes()
        except OSError:
            continue
    return b""
