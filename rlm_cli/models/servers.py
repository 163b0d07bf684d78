"""Servers for models on this machine: who answers, what they have, and the line that uses it.

The four that people run stand in a table with the ports they come with; an address that the environment names for one
of them (`OLLAMA_HOST`, `LM_STUDIO_API_BASE`, …) is asked instead of its port. All are asked at once, in threads that
are left alone when the time is over: a port that swallows packets must not cost more than one that refuses. What comes
back was written by whoever listens there, so it is bounded, and a name that no command line can hold is left out.

Only `rlm models` and `rlm doctor` ask. `rlm ask` never does: it would hand documents to whatever listens on a port.
Nothing but a GET without a key is sent, redirects are not followed, proxies are not used.

Rejected: aiohttp (250 ms to import, for four requests); more ports, or a setting for them: an address that is not the
usual one is written down anyway, in `[models.NAME]` or the environment, to be used.
"""

from __future__ import annotations

import json
import shlex
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from ..errors import ConfigError
from .addresses import address_in

PROBE_S = 0.3
"""Seconds, for all of them together."""
MOST_BYTES = 1 << 20
MOST_MODELS = 200
LONGEST_NAME = 200


@dataclass(frozen=True, slots=True)
class Kind:
    """A server people run. `address`: where it listens when nobody says otherwise, as its provider wants it."""

    name: str
    provider: str
    address: str
    path: str
    """Below the address: what lists its models."""
    named_address: bool
    """Its provider has no default address: the line to copy must say it."""


KINDS = (
    Kind("Ollama", "ollama_chat", "http://127.0.0.1:11434", "/api/tags", False),
    Kind("LM Studio", "lm_studio", "http://127.0.0.1:1234/v1", "/models", True),
    Kind("llama.cpp", "llamafile", "http://127.0.0.1:8080/v1", "/models", False),
    Kind("vLLM", "hosted_vllm", "http://127.0.0.1:8000/v1", "/models", True),
)


@dataclass(frozen=True, slots=True)
class Served:
    """A model of a server. `window` in tokens, None where the server does not say."""

    name: str
    window: int | None


@dataclass(frozen=True, slots=True)
class Server:
    """One that answered. `given`: its address is from the environment. `models` None: it wants a key to tell them."""

    kind: Kind
    address: str
    given: bool
    models: tuple[Served, ...] | None

    def full_name(self, served: Served) -> str:
        """As `--model` wants it."""
        return f"{self.kind.provider}/{served.name}"

    def words(self, served: Served) -> str:
        """What to type before the question, address included where it is not known otherwise."""
        at = "" if self.given or not self.kind.named_address else f"{_variable(self.kind)}={self.address} "
        return f"{at}rlm ask -m {shlex.quote(self.full_name(served))}"


def running(environ: Mapping[str, str], seconds: float | None = None) -> list[Server]:
    """The servers that answer within `seconds` (`PROBE_S`), in the order of the table. Never raises."""
    seconds = PROBE_S if seconds is None else seconds
    found: dict[int, Server] = {}
    asked: list[threading.Thread] = []
    places: set[str] = set()
    for number, kind in enumerate(KINDS):
        given = _given(kind, environ)
        address = (given or kind.address).rstrip("/")
        if address in places:
            continue
        places.add(address)

        def ask(number: int = number, kind: Kind = kind, address: str = address, given: bool = bool(given)) -> None:
            if (models := _models(address, kind.path, seconds)) is not NOBODY:
                found[number] = Server(kind, address, given, models)

        asked.append(threading.Thread(target=ask, name=f"ask-{kind.provider}", daemon=True))
    end = time.monotonic() + seconds
    for thread in asked:
        thread.start()
    for thread in asked:
        thread.join(max(end - time.monotonic(), 0.0))
    return [server for _, server in sorted(found.copy().items())]


NOBODY: tuple[Served, ...] = (Served("", None),)
"""Stands for: no server of this kind answered."""


def _given(kind: Kind, environ: Mapping[str, str]) -> str | None:
    """The address that the environment names for it."""
    from .catalog import provider

    known = provider(kind.provider)
    try:
        return address_in(environ, known) if known else None
    except ConfigError:
        return None


def _variable(kind: Kind) -> str:
    return f"{kind.provider.upper()}_API_BASE"


def _models(address: str, path: str, seconds: float) -> tuple[Served, ...] | None:
    """What one address lists; None when it wants a key, `NOBODY` when no such server is there."""
    status, body = _asked(address, "GET", path, None, seconds)
    if status in (401, 403):
        return None
    try:
        return read_models(json.loads(body)) if status == 200 and len(body) <= MOST_BYTES else NOBODY
    except (ValueError, RecursionError):
        return NOBODY


def _asked(address: str, method: str, path: str, body: str | None, seconds: float) -> tuple[int, bytes]:
    """Status and body (of a 200, one byte above `MOST_BYTES` at most) of one request; 0 where nobody answers it."""
    import http.client

    connection: http.client.HTTPConnection | None = None
    try:
        parts = urlsplit(address)
        kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
        connection = kind(parts.hostname or "", parts.port, timeout=seconds)
        connection.request(method, parts.path.rstrip("/") + path, body, headers={"Accept": "application/json"})
        answer = connection.getresponse()
        return answer.status, answer.read(MOST_BYTES + 1) if answer.status == 200 else b""
    except (OSError, ValueError, http.client.HTTPException):
        return 0, b""
    finally:
        if connection is not None:
            connection.close()


def read_models(listed: Any) -> tuple[Served, ...]:
    """The models of an answer of OpenAI's `/v1/models` or Ollama's `/api/tags`; `NOBODY` when it is neither."""
    rows = listed.get("data", listed.get("models")) if isinstance(listed, dict) else None
    if not isinstance(rows, list):
        return NOBODY
    found: dict[str, Served] = {}
    for row in rows:
        name = (row.get("id") or row.get("model") or row.get("name")) if isinstance(row, dict) else None
        if not isinstance(name, str) or not name.isprintable() or not 0 < len(name.strip()) <= LONGEST_NAME:
            continue
        if len(found) < MOST_MODELS:
            found.setdefault(name, Served(name, _window(row)))
    return tuple(found.values())


def _window(row: dict[str, Any]) -> int | None:
    """vLLM, LM Studio and llama.cpp each have their own word for it."""
    meta = row.get("meta")
    said = (
        row.get("max_model_len"),
        row.get("loaded_context_length"),
        meta.get("n_ctx") if isinstance(meta, dict) else 0,
    )
    return next((value for value in said if isinstance(value, int) and not isinstance(value, bool) and value > 0), None)


def ollama_window(address: str, name: str) -> int | None:
    """Tokens that a model of an Ollama at `address` was made for; None when it does not say. Never raises."""
    _, body = _asked(address, "POST", "/api/show", json.dumps({"model": name}), PROBE_S)
    try:
        info = json.loads(body)["model_info"]
        said = [value for key, value in info.items() if str(key).endswith(".context_length")]
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return None
    return next((value for value in said if isinstance(value, int) and value > 0), None)
