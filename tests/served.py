"""A loopback web server whose answers a test says, and whose requests it sees afterwards.

    with Served({"/a.txt": b"text", "/b": Page(b"…", {"Content-Type": "application/pdf"})}) as served:
        ...  # served.url("/a.txt"), served.requests

A page may be a function that writes to the connection itself: what a hostile server does is not HTTP.
"""

from __future__ import annotations

import ssl
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType


@dataclass(frozen=True, slots=True)
class Page:
    """`length` False: the connection's end is the body's."""

    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)
    status: int = 200
    length: bool = True


Raw = Callable[[BaseHTTPRequestHandler, threading.Event], None]
"""Answers by itself; the event is set when the server is stopped."""


class Served:
    """Start with `with`. Paths that it does not have are 404."""

    def __init__(self, pages: Mapping[str, bytes | Page | Raw]) -> None:
        self.pages = dict(pages)
        self.requests: list[tuple[str, dict[str, str]]] = []
        self.stopped = threading.Event()

    def __enter__(self) -> Served:
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                outer._answer(self)

            def do_CONNECT(self) -> None:
                outer._answer(self)

            def log_message(self, *_: object) -> None:
                pass

        class Server(ThreadingHTTPServer):
            def handle_error(self, *_: object) -> None:
                pass  # a handshake that failed is the client's to tell

        self._server = Server(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stopped.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    @property
    def place(self) -> str:
        return f"127.0.0.1:{self._server.server_address[1]}"

    def wrap(self, context: ssl.SSLContext) -> None:
        """Speak TLS from now on."""
        self._server.socket = context.wrap_socket(self._server.socket, server_side=True)

    def url(self, path: str, user: str = "") -> str:
        return f"http://{user}{'@' * bool(user)}{self.place}{path}"

    def _answer(self, handler: BaseHTTPRequestHandler) -> None:
        self.requests.append((handler.path, {name.lower(): value for name, value in handler.headers.items()}))
        page = self.pages.get(handler.path, Page(b"no", status=404))
        try:
            if callable(page):
                page(handler, self.stopped)
                return
            if isinstance(page, bytes):
                page = Page(page)
            handler.send_response(page.status)
            for name, value in page.headers.items():
                handler.send_header(name, value)
            if page.length and "Content-Length" not in page.headers:
                handler.send_header("Content-Length", str(len(page.body)))
            handler.end_headers()
            handler.wfile.write(page.body)
        except OSError:
            pass  # the client hung up
