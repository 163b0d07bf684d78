"""The program of the tools' process: loads the user's files, then answers calls, one after the other.

Started by `process.py` as `python -P serve.py FD PARENT FILE…`. It has the user's rights and environment, the working
directory, and the modules that are installed beside `rlm`; a file's own folder comes last on the path, so that its
neighbours can be imported and none of them stands in for a module of that name.

    !II  header bytes, body bytes | header: a small JSON object | body: UTF-8
    → {"name"} + arguments [[…], {…}] as JSON      ← {} + result as JSON, or {"type", "message"}

One after the other, in the main thread: few people's functions are safe in threads (a connection of sqlite3 belongs to
the thread that made it), and a call that takes too long can only be ended with its process, whose other calls would go
down with it. A thread reads because a call may take long: when the host is gone, this process and what it has started
go at once.

Standard library only; nothing of this package, so that the user's code meets its own modules and no others.
"""

from __future__ import annotations

import inspect
import json
import os
import re
import signal
import socket
import struct
import sys
import threading
import traceback
import types
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from queue import SimpleQueue
from typing import Any

PREFIX = struct.Struct("!II")
MOST_BYTES = 16 << 20
"""Of the arguments of a call, and of its result, as JSON."""
SHOWN_ERROR = 2_000
"""Characters of an error's message."""

Functions = dict[str, Callable[..., Any]]


def main(fd: int, parent: int, files: list[str]) -> None:
    """The whole life of the process. `fd`: its end of the wire; `parent`: the host's process id."""
    die_with(parent)
    sys.argv[:] = files[:1]
    connection = socket.socket(fileno=fd)
    connection.set_inheritable(False)  # what the user's code starts must not hold it open
    calls: SimpleQueue[tuple[str, str]] = SimpleQueue()
    threading.Thread(target=_read, args=(connection, calls), daemon=True, name="wire").start()
    functions: Functions = {}
    listed = []
    for number, file in enumerate(files):
        try:
            found = load(file, f"tool_file_{number}")
        except BaseException as problem:  # the user's own: SystemExit too
            _send(connection, {"file": file, **told(problem), "line": line_at_fault(problem, file)})
            return
        listed += [[file, name, signature_of(function), inspect.getdoc(function) or ""] for name, function in found]
        functions.update(found)
    _flush()
    _send(connection, {"functions": listed})
    awaiting = Awaiting()
    while True:
        name, arguments = calls.get()
        header, result = answer(functions, name, arguments, awaiting)
        _flush()
        _send(connection, header, result)


def die_with(parent: int) -> None:
    """SIGKILL when the host's thread ends that started us, where the kernel does that."""
    with suppress(Exception):  # no ctypes, no Linux: the reading thread sees the end of the stream
        import ctypes

        ctypes.CDLL(None).prctl(1, signal.SIGKILL, 0, 0, 0)  # PR_SET_PDEATHSIG
    if os.getppid() != parent:
        os._exit(1)


def load(file: str, module_name: str) -> list[tuple[str, Callable[..., Any]]]:
    """The public functions that a file defines, in its order. Raises whatever its code raises."""
    module = types.ModuleType(module_name)
    module.__file__ = file
    sys.modules[module_name] = module
    folder = str(Path(file).parent)
    if folder not in sys.path:
        sys.path.append(folder)
    source = Path(file).read_bytes()
    exec(compile(source, file, "exec", dont_inherit=True), module.__dict__)
    return [(name, value) for name, value in vars(module).items() if _is_tool(name, value, module_name)]


def _is_tool(name: str, value: Any, module_name: str) -> bool:
    """Decorated functions too (their decorator uses `functools.wraps`); not what was imported, not classes."""
    if name.startswith("_") or isinstance(value, type) or not callable(value):
        return False
    return getattr(value, "__module__", None) == module_name and inspect.isfunction(inspect.unwrap(value))


def signature_of(function: Callable[..., Any]) -> str:
    """`(customer: str, limit: int = 10) -> dict`, the same in every run."""
    text = "(...)"
    for evaluate in (True, False):  # annotations that are texts, where they can be read
        with suppress(Exception):
            text = str(inspect.signature(function, eval_str=evaluate))
            break
    return " ".join(re.sub(r" at 0x[0-9a-fA-F]+", "", text).split())


class Awaiting:
    """Runs `async` functions, on one event loop for all calls: what they keep open stays usable."""

    def __init__(self) -> None:
        self._runner: Any = None

    def __call__(self, value: Any) -> Any:
        if not inspect.isawaitable(value):
            return value
        if self._runner is None:
            import asyncio

            self._runner = asyncio.Runner()

        async def wait() -> Any:
            return await value

        return self._runner.run(wait())


def answer(
    functions: Functions, name: str, arguments: str, awaiting: Callable[[Any], Any]
) -> tuple[dict[str, str], str]:
    """Header and body of the reply to one call. Never raises."""
    function = functions.get(name)
    if function is None:
        return {"type": "NameError", "message": f"the file does not define {name!r} any more"}, ""
    try:
        places, names = json.loads(arguments)
        bound = inspect.signature(function).bind(*places, **names)
    except (TypeError, ValueError, RecursionError) as problem:
        return {"type": "TypeError", "message": f"{problem}; it is {name}{signature_of(function)}"}, ""
    try:
        value = awaiting(function(*bound.args, **bound.kwargs))
    except BaseException as problem:  # the user's own: SystemExit too
        with suppress(Exception):
            frames = problem.__traceback__ and problem.__traceback__.tb_next
            traceback.print_exception(problem.with_traceback(frames))  # for who looks with -v: no model can mend it
        return told(problem), ""
    return as_json(name, value)


def as_json(name: str, value: Any) -> tuple[dict[str, str], str]:
    """Header and body for a result."""
    try:
        text = json.dumps(value, allow_nan=False, ensure_ascii=False).encode("utf-8", "replace").decode()
    except BaseException as problem:  # a date, a set, NaN: nothing is converted by guess
        why = f"{name} returned what JSON cannot hold ({problem}): it must return text, numbers, lists, dicts or None"
        return {"type": "TypeError", "message": why[:SHOWN_ERROR]}, ""
    if (size := len(text.encode())) > MOST_BYTES:
        why = f"{name} returned {size:,} bytes of JSON; at most {MOST_BYTES:,}: ask it for less"
        return {"type": "ValueError", "message": why}, ""
    return {}, text


def told(problem: BaseException) -> dict[str, str]:
    """Type and message of an exception, whatever its own `__str__` does."""
    try:
        message = str(problem)
    except Exception:
        message = ""
    return {"type": type(problem).__name__, "message": message[:SHOWN_ERROR]}


def line_at_fault(problem: BaseException, file: str) -> str:
    """`3: import pandas`: the last line of the file that its traceback names; empty where it names none."""
    if isinstance(problem, SyntaxError) and problem.filename == file:
        return f"{problem.lineno}: {(problem.text or '').strip()}"
    frames = [frame for frame in traceback.extract_tb(problem.__traceback__) if frame.filename == file]
    return f"{frames[-1].lineno}: {frames[-1].line}" if frames else ""


def _read(connection: socket.socket, calls: SimpleQueue[tuple[str, str]]) -> None:
    try:
        while True:
            header, body = PREFIX.unpack(_exactly(connection, PREFIX.size))
            name = json.loads(_exactly(connection, header))["name"]
            calls.put((name, _exactly(connection, body).decode()))
    finally:  # the host is gone
        _end()


def _end() -> None:
    """At once, with all that was started here: a thread of the user's code would hold an ordinary exit up."""
    os.killpg(os.getpgrp(), signal.SIGKILL)


def _exactly(connection: socket.socket, size: int) -> bytes:
    data = bytearray()
    while len(data) < size:
        received = connection.recv(size - len(data))
        if not received:
            raise EOFError
        data += received
    return bytes(data)


def _send(connection: socket.socket, header: dict[str, Any], body: str = "") -> None:
    head, data = json.dumps(header).encode(), body.encode()
    connection.sendall(PREFIX.pack(len(head), len(data)) + head + data)


def _flush() -> None:
    """What was printed belongs to this call."""
    for stream in (sys.stdout, sys.stderr):
        with suppress(Exception):  # the user's code may have closed it, or put None in its place
            stream.flush()


if __name__ == "__main__":
    try:
        main(int(sys.argv[1]), int(sys.argv[2]), sys.argv[3:])
    finally:
        _end()
