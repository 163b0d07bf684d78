"""OpenAI's chat completions by plain HTTP, the lean way: for servers whose API is just that, at a known address.

litellm speaks to these too, for 3 s of import, 170 MB, and thirty times the computing a request. What it adds there is
little and is here: one request and one reply as JSON, through aiohttp, which litellm brings. Failures are read by the
same code, so whoever asks does not see which way it went.

What comes from the other side is not trusted: no redirect is followed, no cookie kept, a body is read up to a limit,
unpacked up to the same limit, and a reply that is not what was asked for is refused in words. The environment's proxies
are passed to other machines only; `--local` looks at the address again at the moment of connecting.

Rejected: httpx (ten times the computing), an HTTP client of our own (proxies and TLS alone are more than this file).
"""

from __future__ import annotations

import asyncio
import io
import json
import socket
import zlib
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from .. import __version__
from ..call import Completion, Dialect, Message
from ..errors import ModelError, RlmError
from ..ledger import Price
from ..schema import Schema
from ..trust import proxy_for, trusted
from . import caching, chat_format
from .addresses import leads_here
from .background import AIOHTTP
from .connection import NO_KEY, Connection

if TYPE_CHECKING:
    import aiohttp

MOST_BYTES = 32 << 20
"""Of a reply, unpacked. The longest a model writes is a hundredth of it."""
MOST_ERROR_BYTES = 1 << 20
"""Of what a server says of a failure; the rest is not read."""
CONNECT_S = 30.0
"""Seconds for a connection; what else takes long is the caller's affair."""
LARGE_BYTES = 64 << 10
"""From this size on, JSON is written one prompt at a time, and sent in pieces: 64 at once would hold up the loop."""


class Answered(Exception):
    """A server's answer that is no reply, as `failures` reads it: its words, status, headers and parsed error."""

    def __init__(self, words: str, status: int, headers: Mapping[str, str], body: object = None) -> None:
        super().__init__(words)
        self.status_code = status
        self.headers = headers
        self.body = body


class NoReply(Exception):
    """What came broke off, or is none."""


class ChatModel:
    """A model at an address that speaks OpenAI's chat completions. See `Model` for the attributes."""

    transport: str | None = "lean"

    def __init__(self, connection: Connection) -> None:
        self.name = connection.name
        self.endpoint: str | None = connection.endpoint
        self.window = connection.window
        self.max_output = connection.max_output
        self.price: Price | None = connection.price
        self.protocol: Dialect = connection.protocol
        self.reasons = connection.reasons
        self.rpm, self.tpm = connection.rpm, connection.tpm
        self.structured = connection.structured
        self._connection = connection
        self._proxy = None if connection.loopback or connection.local else proxy_for(connection.chat)
        self._session: aiohttp.ClientSession | None = None
        self._writing: asyncio.Lock | None = None

    def __repr__(self) -> str:
        return f"ChatModel({self.name!r})"

    @property
    def secret(self) -> str | None:
        """The key, so that others can keep it out of what they write."""
        return None if self._connection.key == NO_KEY else self._connection.key

    async def ready(self) -> None:
        """Wait for aiohttp, and for certificates. Raises `ConfigError` when these cannot be read."""
        if self._session is not None:
            return
        library = await asyncio.wrap_future(AIOHTTP.start())
        https = self._connection.chat.startswith("https:")
        certificates = await asyncio.to_thread(trusted) if https else True
        if self._session is not None:  # another request came first
            return
        resolver = only_this_machine() if self._connection.local else library.ThreadedResolver()
        connector = library.TCPConnector(limit=0, ssl=certificates, resolver=resolver)
        self._session = library.ClientSession(
            connector=connector,
            cookie_jar=library.DummyCookieJar(),
            timeout=library.ClientTimeout(total=None, sock_connect=CONNECT_S),
            auto_decompress=False,
            headers=self._headers(),
        )
        self._writing = asyncio.Lock()

    async def complete(
        self, messages: Sequence[Message], *, max_output_tokens: int, sub: bool, schema: Schema | None = None
    ) -> Completion:
        """One request by HTTP. Raises as the protocol says; no failure keeps a reference to the request."""
        await self.ready()
        failure: RlmError
        written: str | None = None
        try:
            body, headers = await self._written(messages, max_output_tokens, sub, schema)
            reply = await self._exchange(body, headers)
        except RlmError as error:
            failure = error
        except Exception as error:  # whatever aiohttp raises, a wrong option too
            from .failures import failed_generation, of_request

            failure, written = of_request(error, self._connection, schema), failed_generation(error)
        else:
            return chat_format.completion(reply, self._connection)
        if written is not None:
            return chat_format.refused_call(written, self._connection.key)
        raise failure  # outside the handlers: what was raised there may hold the request, and with it the key

    async def close(self) -> None:
        """Close the connections; they belong to an event loop that ends with the run."""
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    def _headers(self) -> dict[str, str]:
        headers = {
            "Content-Type": "application/json",
            "Accept": "application/json",
            "Accept-Encoding": "gzip",
            "User-Agent": f"rlm/{__version__}",
        }
        if self._connection.key is not None:
            headers["Authorization"] = f"Bearer {self._connection.key}"
        return headers

    async def _written(
        self, messages: Sequence[Message], limit: int, sub: bool, schema: Schema | None
    ) -> tuple[bytes, dict[str, str]]:
        """The body of a request and its own headers."""
        if sum(len(message.content) for message in messages) < LARGE_BYTES:
            return self._request(messages, limit, sub, schema)
        assert self._writing is not None
        async with self._writing:
            await asyncio.sleep(0)
            return self._request(messages, limit, sub, schema)

    def _request(
        self, messages: Sequence[Message], limit: int, sub: bool, schema: Schema | None
    ) -> tuple[bytes, dict[str, str]]:
        here = self._connection
        request: dict[str, Any] = {
            "model": here.model.partition("/")[2],
            "messages": [caching.marked(chat_format.wire(message), message, here.least_cached) for message in messages],
            here.output_limit: limit,
        }
        if tools := chat_format.offers(messages):
            request["tools"] = tools
        if here.effort is not None:
            request["reasoning_effort"] = here.effort
        if schema is not None:
            request["response_format"] = chat_format.form_of(schema)
        if here.provider == "openrouter":
            request["usage"] = {"include": True}  # what it costs, by its own account
        request |= dict(here.options) | (dict(here.sub_options) if sub else {})
        headers = {str(name): str(value) for name, value in _table(request.pop("extra_headers", None)).items()}
        request |= _table(request.pop("extra_body", None))
        return json.dumps(request, ensure_ascii=False).encode("utf-8", "replace"), headers

    async def _exchange(self, body: bytes, headers: dict[str, str]) -> Any:
        """The reply, parsed. Raises `Answered` for any other, and what aiohttp raises."""
        assert self._session is not None
        data = body if len(body) < LARGE_BYTES else io.BytesIO(body)
        async with self._session.post(
            self._connection.chat, data=data, headers=headers, allow_redirects=False, proxy=self._proxy
        ) as response:
            good = 200 <= response.status < 300
            raw = await self._read(response, None if good else MOST_ERROR_BYTES)
            if not good:
                raise _answered(raw, response.status, response.headers)
            streamed = "event-stream" in response.headers.get("Content-Type", "") or raw[:64].lstrip().startswith(
                b"data:"
            )
            answered = response.headers
        if streamed:
            why = "it sent a stream of events, which nobody asked for"
            raise ModelError(
                f"{self.name}: its reply is of no use", why=why, hint="look at its options", cut_short=True
            )
        return _parsed(raw, answered)

    async def _read(self, response: aiohttp.ClientResponse, cut: int | None) -> bytes:
        """The body, unpacked, or its first `cut` bytes. Raises `ModelError` for a reply that is too large."""
        pieces, size, most = [], 0, cut or MOST_BYTES
        unpacked = _unpacking(response.headers.get("Content-Encoding", ""))
        async for piece in response.content.iter_any():
            if unpacked is not None:
                try:
                    piece = unpacked.decompress(piece, most - size + 1)
                except zlib.error:
                    raise NoReply("it is not packed as it says") from None
            pieces.append(piece)
            size += len(piece)
            if size > most:
                break
        if size <= most:
            return b"".join(pieces)
        response.close()
        if cut is not None:
            return b"".join(pieces)[:most]
        raise ModelError(
            f"{self.name}: its reply is too large",
            why=f"more than {most >> 20} MB; no model writes that much",
            hint=f"is {self.endpoint} the server that was meant?",
            cut_short=True,
        )


def _parsed(raw: bytes, headers: Mapping[str, str]) -> Any:
    """A reply's JSON. Raises `Answered` where it holds an error instead, as some gateways have it."""
    try:
        reply = json.loads(raw)
    except (ValueError, RecursionError):
        reply = None
    if not isinstance(reply, dict):
        begins = raw[:60].decode("utf-8", "replace")
        raise NoReply(f"its {len(raw):,} bytes begin with {begins!r}" if begins.strip() else "it is empty")
    choices = reply.get("choices")
    first = choices[0] if isinstance(choices, list) and choices and isinstance(choices[0], dict) else {}
    error = first.get("error") or (None if choices else reply.get("error"))
    if error:
        code = error.get("code") if isinstance(error, dict) else None
        status = code if isinstance(code, int) and 400 <= code < 600 else 502
        raise Answered(_words(error, raw), status, headers, error)
    return reply


def _answered(raw: bytes, status: int, headers: Mapping[str, str]) -> Answered:
    try:
        body = json.loads(raw)
    except (ValueError, RecursionError):
        body = None
    error = body.get("error", body) if isinstance(body, dict) else body
    return Answered(_words(error, raw) or f"status {status}", status, headers, error)


def _words(error: object, raw: bytes) -> str:
    """What a server says of a failure, for people; where no usual key has it, all that it sent."""
    for key in ("message", "detail", "error", "msg"):
        said = error.get(key) if isinstance(error, dict) else None
        if isinstance(said, str) and said.strip():
            return said
    return error if isinstance(error, str) else raw[:4_000].decode("utf-8", "replace")


def _table(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


def _unpacking(encoding: str) -> Any:
    """What unpacks a body, never more than it is asked for; None for a plain one."""
    match encoding.strip().lower():
        case "" | "identity":
            return None
        case "gzip" | "x-gzip" | "deflate":
            return zlib.decompressobj(wbits=47)  # by its first bytes
    raise Answered(f"a reply in the encoding {encoding[:40]!r}, which nobody asked for", 502, {})


def only_this_machine() -> Any:
    """Resolves names to loopback addresses, or to nothing: what a name meant a while ago may have changed."""
    library = AIOHTTP.start().result()

    class Loopback(library.ThreadedResolver):  # type: ignore[misc, name-defined]
        async def resolve(self, host: str, port: int = 0, family: Any = socket.AF_INET) -> Any:
            found = await super().resolve(host, port, family)
            if not all(leads_here(str(one["host"])) for one in found):
                raise OSError(-1, f"--local: {host} is not on this machine")
            return found

    return Loopback()
