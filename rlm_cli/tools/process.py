"""The host's end of one tools' process: its start, one exchange at a time, its end.

It is not the sandbox: the user's code runs here with the user's rights. So this side guards against slips, not against
attacks: sizes are capped, what is no reply ends the process, and so does a deadline. What it writes to its
descriptors 1 and 2 never reaches ours; the last of it is kept for the trace.

It leads a process group, which is killed as a whole. Started from the event loop's thread by an ordinary `Popen`,
since it is killed when the thread ends that started it.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from .serve import MOST_BYTES, PREFIX

RING = 64 << 10
MOST_HEADER = 4 << 20


class Broken(Exception):
    """The process sent what is no reply."""


class Process:
    """One process. Use on one event loop; `end` it."""

    def __init__(self, files: Sequence[str], environ: Mapping[str, str]) -> None:
        """Start it. Raises `OSError`."""
        ours, theirs = socket.socketpair()
        pipe_out, pipe_in = os.pipe()
        program = str(Path(__file__).with_name("serve.py"))
        try:
            self._process = subprocess.Popen(
                [sys.executable, "-P", program, str(theirs.fileno()), str(os.getpid()), *files],
                stdin=subprocess.DEVNULL,
                stdout=pipe_in,
                stderr=pipe_in,
                pass_fds=[theirs.fileno()],
                env=dict(environ),
                start_new_session=True,
            )
        except BaseException:
            ours.close()
            os.close(pipe_out)
            raise
        finally:
            theirs.close()
            os.close(pipe_in)
        os.set_blocking(pipe_out, False)
        self.ended = ""
        """How it ended; empty while it lives."""
        self._socket = ours
        self._pipe = pipe_out
        self._ring = bytearray()
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(pipe_out, self._drain)
        self._writer: asyncio.StreamWriter | None = None

    async def exchange(self, header: Mapping[str, Any] | None, body: str = "") -> tuple[dict[str, Any], str]:
        """Send a call (None: nothing) and wait for what comes back. Raises `Broken`, `EOFError`, `OSError`."""
        if self._writer is None:
            self._reader, self._writer = await asyncio.open_connection(sock=self._socket)
        if header is not None:
            head, data = json.dumps(header).encode(), body.encode()
            self._writer.write(PREFIX.pack(len(head), len(data)) + head + data)
            await self._writer.drain()
        head_size, body_size = PREFIX.unpack(await self._reader.readexactly(PREFIX.size))
        if head_size > MOST_HEADER or body_size > MOST_BYTES:
            raise Broken(f"a reply of {head_size + body_size:,} bytes")
        head, data = await self._reader.readexactly(head_size), await self._reader.readexactly(body_size)
        try:
            reply, text = json.loads(head), data.decode()
        except (ValueError, RecursionError):
            raise Broken("a reply that is not JSON") from None
        if not isinstance(reply, dict):
            raise Broken("a reply that is no object")
        return reply, text

    def printed(self) -> str:
        """What it wrote since the last time this was asked: the end of it."""
        self._drain()
        text = self._ring.decode("utf-8", "replace")
        self._ring.clear()
        return text

    def end(self) -> str:
        """Kill its group and reap it, now. Returns how it had ended, in a few words; the same again."""
        if not self.ended:
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(self._process.pid, signal.SIGKILL)
            code = self._process.wait()
            self.ended = f"it was ended by signal {-code}" if code < 0 else f"it ended itself (exit code {code})"
            self._drain()
            self._loop.remove_reader(self._pipe)
            os.close(self._pipe)
            self._pipe = -1
            if self._writer is not None:
                self._writer.transport.abort()
            else:
                self._socket.close()
        return self.ended

    async def how(self) -> str:
        """How it ended by itself, in a few words: its stream ends a moment before it does, so that is waited for."""
        for _ in range(200):
            if self._process.poll() is not None:
                break
            await asyncio.sleep(0.005)
        return self.end()

    def _drain(self) -> None:
        if self._pipe < 0:
            return
        try:
            data = os.read(self._pipe, RING)
        except BlockingIOError:
            return
        if not data:
            self._loop.remove_reader(self._pipe)
        self._ring += data
        del self._ring[:-RING]
