"""The child's end of the wire: a thread that reads frames, and requests that wait for their reply.

A thread reads because signals are handled in the main thread only: an interrupt can never tear a frame that comes in.
An interrupt while the main thread sends is kept until the frame is out. The end of the stream means the host is gone:
leave at once.

Standard library only: this file is loaded in the child.
"""

from __future__ import annotations

import itertools
import os
import signal
import socket
import threading
from collections.abc import Sequence
from queue import SimpleQueue
from typing import Any

from . import weight, wire


class Link:
    """Frames to and from the host. `cells` receives every `cell` frame; replies go to whoever asked."""

    def __init__(self, connection: socket.socket) -> None:
        self.cells: SimpleQueue[wire.Frame] = SimpleQueue()
        self.interruptible = False
        """Model code is running: an interrupt is meant for it."""
        self._socket = connection
        self._ids = itertools.count(1)
        self._waiting: dict[int, SimpleQueue[wire.Frame]] = {}
        self._outstanding = 0
        self._ahead = 0, 0
        """Texts and bytes."""
        self._lock = threading.Lock()
        self._sending = False
        self._deferred = False
        self._main = threading.get_ident()

    def start(self) -> None:
        """Start reading, and take interrupts from now on."""
        self.take_interrupts()
        threading.Thread(target=self._read, daemon=True, name="wire").start()

    def take_interrupts(self) -> None:
        """Again before each cell: the last one may have seen to it that none comes."""
        signal.signal(signal.SIGINT, self._interrupt)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})

    def send(self, kind: str, fields: dict[str, Any] | None = None, texts: Sequence[str | bytes] = ()) -> None:
        """Send one frame. Raises `wire.Violation` when it is too large, before anything went out."""
        self._send(wire.encode(kind, fields, texts))

    def request(self, kind: str, fields: dict[str, Any], texts: Sequence[str | bytes] = ()) -> wire.Frame:
        """Send a frame and wait for the reply that carries its id. Raises `wire.Violation` when it is too large, or
        with others in flight would be."""
        number = next(self._ids)
        blobs = [text if isinstance(text, bytes) else text.encode("utf-8", "replace") for text in texts]
        data = wire.encode(kind, {**fields, "id": number}, blobs)
        size = weight.query(wire.PREFIX.unpack_from(data)[0], map(weight.text, blobs))
        with self._lock:
            if self._outstanding + size > wire.MAX_BODY:
                raise wire.Violation(
                    f"{(self._outstanding + size) // 10**6} MB of prompts and contexts at once; at most"
                    f" {wire.MAX_BODY // 10**6} MB: ask in smaller batches"
                )
            self._outstanding += size
        slot: SimpleQueue[wire.Frame] = SimpleQueue()
        self._waiting[number] = slot
        try:
            self._send(data)
            return slot.get()
        finally:
            self._waiting.pop(number, None)
            with self._lock:
                self._outstanding -= size

    def number(self) -> int:
        """One that nothing else in this REPL has."""
        return next(self._ids)

    def room(self, texts: int, size: int) -> bool:
        """Take so much of what may be sent ahead of queries, if there is room; give it back where negative."""
        with self._lock:
            texts, size = self._ahead[0] + texts, self._ahead[1] + size
            if texts > wire.MOST_LONG or size > wire.MAX_LONG:
                return False
            self._ahead = texts, size
            return True

    def receive(self) -> wire.Frame:
        """The next frame. Leaves the process when the host is gone."""
        header, body = wire.lengths(self._exactly(wire.PREFIX.size))
        return wire.decode(self._exactly(header), self._exactly(body))

    def _send(self, data: bytes) -> None:
        main = threading.get_ident() == self._main
        self._sending = self._sending or main
        try:
            with self._lock:
                self._socket.sendall(data)
        except OSError:
            os._exit(0)
        finally:
            if main:
                self._sending = False
        if main and self._deferred:
            self._deferred = False
            raise KeyboardInterrupt

    def _interrupt(self, number: int, frame: Any) -> None:
        if not self.interruptible:
            return
        if self._sending:
            self._deferred = True
            return
        raise KeyboardInterrupt

    def _read(self) -> None:
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        while True:
            try:
                frame = self.receive()
            except:  # noqa: E722 (no memory, or a cell took the builtins away: without a reader there is no REPL)
                os._exit(3)
            if frame.kind == "cell":
                self.cells.put(frame)
            elif slot := self._waiting.get(frame.fields.get("id", 0)):
                slot.put(frame)

    def _exactly(self, size: int) -> bytes:
        data = bytearray(size)
        view = memoryview(data)
        while view:
            try:
                received = self._socket.recv_into(view)
            except OSError:
                received = 0
            if not received:
                os._exit(0)
            view = view[received:]
        return bytes(data)
