"""A scripted model: a loopback server that speaks OpenAI's chat completions and answers as a test says.

    with ScriptedServer(["first reply", Reply(status=429, headers={"Retry-After": "1"}), "second reply"]) as server:
        ...  # server.base_url, server.env for the installed command, server.requests afterwards

    with ScriptedServer(lambda request: request["messages"][-1]["content"].upper()) as server: ...

It is a real server on a real socket, so the code under test is the code that runs in production: nothing is patched.
Threads and the standard library only; connections are kept alive, and 64 requests in flight are no trouble. A script
that fails (an assertion in its function, a list that has run out) answers 400 and is raised again when the block ends.
"""

from __future__ import annotations

import json
import os
import socket
import ssl
import struct
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Literal

SENTINEL_KEY = "sk-sentinel-7f3a9c51e2d84b60-must-never-be-seen"
"""The API key of every test; one that shows up in an output or a file is a leak."""

COUNTED: dict[str, Any] = {"prompt_tokens": -1}
"""`Reply.usage` by default: tokens are counted as characters / 4."""


@dataclass(frozen=True, slots=True)
class Reply:
    """What the server does with one request.

    `delay_s` passes before the first byte. `usage` None leaves it out; a dict is sent as it is. `body` replaces the
    whole JSON by these bytes. `message` and `top` add keys to the reply's message (or error) and to the object.
    `cut`: `"closed"` hangs up without a word, `"reset"` with a TCP reset, `"body"` in the middle of the body. `drip_s`:
    the body takes this long, a few bytes at a time.
    """

    text: str | None = ""
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    delay_s: float = 0.0
    finish_reason: str | None = "stop"
    usage: Mapping[str, Any] | None = field(default_factory=lambda: COUNTED)
    body: bytes | None = None
    message: Mapping[str, Any] = field(default_factory=dict)
    top: Mapping[str, Any] = field(default_factory=dict)
    cut: Literal["closed", "reset", "body"] | None = None
    drip_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Received:
    """One request as it came in. `headers` have lower-case names; `at` is `time.monotonic` of its arrival."""

    path: str
    headers: dict[str, str]
    body: dict[str, Any]
    at: float

    @property
    def messages(self) -> list[dict[str, Any]]:
        messages: list[dict[str, Any]] = self.body["messages"]
        return messages

    @property
    def prompt(self) -> str:
        """The last message's text."""
        return str(self.messages[-1]["content"])


Script = Callable[[dict[str, Any]], Reply | str] | Sequence[Reply | str]


def conversation(*root: Reply | str, sub: Callable[[str], Reply | str]) -> Script:
    """A script: `root` in turn for requests with a system message, what `sub` makes of its prompt for every other."""
    left = list(root)

    def answer(request: dict[str, Any]) -> Reply | str:
        if request["messages"][0]["role"] == "system":
            return left.pop(0)
        return sub(str(request["messages"][-1]["content"]))

    return answer


class ScriptedServer:
    """Start with `with`; `script` is a function of the request's JSON or the replies in order. `tls`: it speaks HTTPS."""

    def __init__(self, script: Script, tls: ssl.SSLContext | None = None) -> None:
        self._script = script
        self._tls = tls
        self._lock = threading.Lock()
        self._stopped = threading.Event()
        self._in_flight = 0
        self.most_in_flight = 0
        self.requests: list[Received] = []
        self.failures: list[Exception] = []

    def __enter__(self) -> ScriptedServer:
        self._server = _Server(("127.0.0.1", 0), _Handler)
        self._server.scripted = self
        if self._tls is not None:
            self._server.socket = self._tls.wrap_socket(self._server.socket, server_side=True)
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._stopped.set()
        self._server.shutdown()
        self._server.server_close()
        self._server.hang_up()
        self._thread.join()
        if error is None and self.failures:
            raise self.failures[0]

    @property
    def port(self) -> int:
        return int(self._server.server_address[1])

    @property
    def connections(self) -> int:
        """That were opened, so far."""
        return self._server.accepted

    @property
    def base_url(self) -> str:
        """With `/v1`, as OpenAI's clients want it."""
        return f"http://127.0.0.1:{self.port}/v1"

    @property
    def env(self) -> dict[str, str]:
        """A whole environment for the installed command: no key but the sentinel, no configuration, this endpoint."""
        kept = ("PATH", "HOME", "LANG", "LC_ALL", "TMPDIR", "XDG_STATE_HOME", "XDG_CACHE_HOME")
        environ = {name: os.environ[name] for name in kept if name in os.environ}
        return environ | {
            "OPENAI_API_KEY": SENTINEL_KEY,
            "OPENAI_API_BASE": self.base_url,
            "RLM_NO_CONFIG": "1",
            "NO_PROXY": "127.0.0.1,localhost",
        }

    def answer(self, received: Received) -> Reply:
        with self._lock:
            self.requests.append(received)
            number = len(self.requests)
            self._in_flight += 1
            self.most_in_flight = max(self.most_in_flight, self._in_flight)
        try:
            if callable(self._script):
                reply = self._script(received.body)
            elif number <= len(self._script):
                reply = self._script[number - 1]
            else:
                raise AssertionError(f"the script has {len(self._script)} replies and this is request {number}")
        except Exception as failure:  # of the test's own function: shown to the client now, to the test at the end
            self.failures.append(failure)
            reply = Reply(status=400, body=json.dumps({"error": {"message": f"script: {failure}"}}).encode())
        reply = Reply(reply) if isinstance(reply, str) else reply
        self._stopped.wait(reply.delay_s)
        return reply

    def answered(self) -> None:
        with self._lock:
            self._in_flight -= 1

    def pause(self, seconds: float) -> None:
        self._stopped.wait(seconds)


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 256
    scripted: ScriptedServer

    def __init__(self, *arguments: Any) -> None:
        self._open: set[socket.socket] = set()
        self.accepted = 0
        super().__init__(*arguments)

    def process_request(self, request: Any, client_address: Any) -> None:
        self._open.add(request)
        self.accepted += 1
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        self._open.discard(request)
        super().shutdown_request(request)

    def hang_up(self) -> None:
        """End connections that are kept alive, and the threads that read from them."""
        for connection in list(self._open):
            try:
                connection.shutdown(socket.SHUT_RDWR)
            except OSError:  # the client was faster
                pass

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that hangs up is what some tests are about: no traceback."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: _Server

    def do_GET(self) -> None:
        """`/v1/models`, which clients ask to see who is there."""
        self._send(200, {}, json.dumps({"object": "list", "data": [{"id": "scripted", "object": "model"}]}).encode())

    def do_POST(self) -> None:
        at = time.monotonic()
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        headers = {name.lower(): value for name, value in self.headers.items()}
        received = Received(self.path, headers, body, at)
        try:
            self._reply(received, self.server.scripted.answer(received))
        finally:
            self.server.scripted.answered()

    def _reply(self, received: Received, reply: Reply) -> None:
        if reply.cut in ("closed", "reset"):
            if reply.cut == "reset":  # lingering for zero seconds makes close() send RST
                self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.close_connection = True
            return
        content = reply.body if reply.body is not None else _content(received, reply)
        if reply.cut == "body":
            self._send(reply.status, reply.headers, content[: len(content) // 2], length=len(content))
            self.close_connection = True
            return
        if reply.drip_s:
            self._send(reply.status, reply.headers, b"", length=len(content))
            size = max(len(content) // 20, 1)
            for start in range(0, len(content), size):
                self.server.scripted.pause(reply.drip_s / 20)
                self.wfile.write(content[start : start + size])
            return
        self._send(reply.status, reply.headers, content)

    def _send(self, status: int, headers: Mapping[str, str], content: bytes, length: int | None = None) -> None:
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content) if length is None else length))
        for name, value in headers.items():
            self.send_header(name, value)
        self._headers_buffer.append(b"\r\n" + content)  # type: ignore[attr-defined]  # one packet, not two
        self.flush_headers()

    def log_message(self, format: str, *arguments: Any) -> None:
        """Silent."""


def _content(received: Received, reply: Reply) -> bytes:
    """The JSON of a reply, or OpenAI's error object when its status is an error."""
    if reply.status >= 400:
        error = {"message": reply.text or f"scripted {reply.status}", "type": "scripted", "code": None}
        return json.dumps({"error": error | dict(reply.message)} | dict(reply.top)).encode()
    usage = reply.usage
    if usage is COUNTED:
        sent = sum(len(str(message.get("content"))) for message in received.messages) // 4 + 1
        written = len(reply.text or "") // 4 + 1
        usage = {"prompt_tokens": sent, "completion_tokens": written, "total_tokens": sent + written}
    message = {"role": "assistant", "content": reply.text} | dict(reply.message)
    choice = {"index": 0, "message": message, "finish_reason": reply.finish_reason}
    whole = {"id": "scripted", "object": "chat.completion", "created": 0, "model": received.body.get("model")}
    whole |= {"choices": [choice]} | ({} if usage is None else {"usage": usage}) | dict(reply.top)
    return json.dumps(whole).encode()
