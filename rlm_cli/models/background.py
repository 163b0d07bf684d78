"""A heavy import beside other work: begun once, in a daemon thread, waited for by who needs it.

An exit in mid-import from a non-daemon thread prints `can't register atexit after shutdown`, hence no executor.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future
from importlib import import_module
from typing import Any


class Background:
    """What `load` returns, computed at most once a process."""

    def __init__(self, load: Callable[[], Any], name: str) -> None:
        self._load, self._name = load, name
        self._lock = threading.Lock()
        self._future: Future[Any] | None = None

    def start(self) -> Future[Any]:
        """Begin unless it has begun; the future holds the result, or what `load` raised."""
        with self._lock:
            if self._future is None:
                self._future = Future()
                # Running futures cannot be cancelled: a request that is cancelled while it waits ends nothing here.
                self._future.set_running_or_notify_cancel()
                threading.Thread(target=self._run, args=(self._future,), name=self._name, daemon=True).start()
        return self._future

    @property
    def loaded(self) -> Any:
        """The result, None as long as there is none."""
        future = self._future
        return future.result() if future is not None and future.done() and future.exception() is None else None

    def _run(self, future: Future[Any]) -> None:
        try:
            future.set_result(self._load())
        except Exception as error:
            future.set_exception(error)


AIOHTTP = Background(lambda: import_module("aiohttp"), "aiohttp-import")
"""What the lean way sends requests with: 0.1 s, part of it beside other computing."""
