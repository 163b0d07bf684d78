"""Functions of the user's own (`--tool FILE.py`), which code in the REPL calls by name.

They run outside the sandbox, with the user's rights, in one process that lives as long as the run. Hostile documents
may steer the code that calls them: what a function does with its arguments is its author's affair, and that is said at
the start of every run. What is done here: arguments and results are JSON and bounded, a call has a deadline, and nobody
waits for a process that died. The process gets the user's environment without the keys of model providers: a function
that shows its environment to the model must not show those. (It can still read what the user can read.)

Calls are answered one after the other, in the order they came (why: `serve.py`). A process that was killed or died is
replaced at the next call. The files are loaded once before anything is sent, so that a broken one costs nothing.

`__init__` (the functions, their order) → process.py (one process) → serve.py (the program in it).
"""

from __future__ import annotations

import asyncio
import builtins
import os
import sys
import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..call import Tool
from ..errors import ConfigError
from .process import Broken, Process

LOADING_S = 60.0
"""For the user's files to be loaded: some packages take long to import."""
MOST_CALLS = 10_000
"""Of a run: waiting for a function is not counted as computing, so something else must end a loop around one."""


@dataclass(frozen=True, slots=True)
class Returned:
    """What came of a call: `result` as JSON, or `error` as `TypeName: message`. `printed`: by the function's code, the
    last 64 KB of it."""

    result: str = ""
    error: str = ""
    printed: str = ""
    duration_s: float = 0.0


class Tools:
    """The user's functions and the process they run in. Lives on one event loop; close it."""

    def __init__(self, paths: Mapping[str, str], environ: Mapping[str, str], timeout_s: float) -> None:
        """`paths`: absolute path → the file as it was named; `timeout_s`: seconds a call may take."""
        self.functions: dict[str, Tool] = {}
        self.files: dict[str, list[str]] = {file: [] for file in paths.values()}
        """File, as it was named → names of its functions."""
        self._paths = paths
        self._environ = environ
        self._timeout_s = timeout_s
        self._process: Process | None = None
        self._turn = asyncio.Lock()
        self._calls = 0
        self._closed = False

    @property
    def tools(self) -> tuple[Tool, ...]:
        """What models are told of."""
        return tuple(self.functions.values())

    def listed(self) -> str:
        """`lookup, price (orders.py)`, for people."""
        return "; ".join(f"{', '.join(names)} ({file})" for file, names in self.files.items())

    def objection(self, name: str) -> str:
        """Why a function may not be called, as an error; empty when it may. Counts the call."""
        if name not in self.functions:
            return f"NameError: there is no tool {name[:100]!r}"
        if self._calls >= MOST_CALLS:
            return f"RuntimeError: {MOST_CALLS:,} calls of tools were made, the most a run may make"
        self._calls += 1
        return ""

    async def call(self, name: str, arguments: str) -> Returned:
        """Call a function once those before it have ended. `arguments`: `[[…], {…}]` as JSON.

        Its failures are values. Cancelling it while the function runs ends the process.
        """
        async with self._turn:
            began = time.monotonic()
            try:
                process = await self._ready()
            except ConfigError as problem:
                return Returned(error=f"RuntimeError: {problem}")
            process.printed()  # by threads between the calls
            whole, result = False, ""
            try:
                async with asyncio.timeout(self._timeout_s):
                    header, result = await process.exchange({"name": name}, arguments)
                error = f"{header.get('type')}: {header.get('message')}" if header else ""
                whole = True
            except TimeoutError:
                error = f"TimeoutError: {name} took longer than {self._timeout_s:g} s and was ended; {_GONE}"
            except (EOFError, OSError):
                error = f"RuntimeError: the tools' process died during the call: {await process.how()}; {_GONE}"
            except Broken as problem:
                error = f"RuntimeError: the tools' process sent {problem} and was ended; {_GONE}"
            finally:
                printed = process.printed()
                if not whole:
                    self._end()
            return Returned(result, error, printed, time.monotonic() - began)

    async def load(self) -> list[list[str]]:
        """Start the process and load the files: [file, name, signature, docstring] of every public function.

        Raises `ConfigError`.
        """
        named = ", ".join(self.files)
        try:
            self._process = process = Process(list(self._paths), self._environ)
        except OSError as problem:
            raise ConfigError("the tools' process cannot be started", why=problem.strerror or str(problem)) from None
        header: dict[str, Any] = {}
        try:
            async with asyncio.timeout(LOADING_S):
                header, _ = await process.exchange(None)
        except TimeoutError:
            raise ConfigError(f"{named} cannot be loaded", why=f"it took longer than {LOADING_S:.0f} s") from None
        except (EOFError, OSError, Broken):
            said = process.printed().strip().splitlines()
            why = f"the process died: {await process.how()}" + (f" ({said[-1][:200]})" if said else "")
            raise ConfigError(f"{named} cannot be loaded", why=why, hint="load it by hand: python FILE.py") from None
        finally:
            if "functions" not in header:
                self._end()
        if "functions" not in header:
            raise _unloaded(header, self._paths)
        return [[self._paths[file], *rest] for file, *rest in header["functions"]]

    def close(self) -> None:
        """End the process, now, whatever it is doing."""
        self._closed = True
        self._end()

    async def _ready(self) -> Process:
        """The process, or a fresh one. Raises `ConfigError`."""
        if self._closed:
            raise ConfigError("the run is ending")
        if self._process is None or self._process.ended:
            await self.load()
        assert self._process is not None
        return self._process

    def _end(self) -> None:
        if self._process is not None:
            self._process.end()
        self._process = None


async def open_tools(
    files: Sequence[str], *, environ: Mapping[str, str], timeout_s: float, reserved: Collection[str]
) -> Tools:
    """The functions of these files, ready to be called. `reserved`: names that the REPL has itself.

    Raises `ConfigError` for a file that cannot be loaded or defines no public function, and for a name that is taken.
    """
    tools = Tools({_located(file): file for file in files}, environ, timeout_s)
    try:
        for file, name, signature, doc in await tools.load():
            _check_name(tools, file, name, reserved)
            tools.functions[name] = Tool(name, signature, doc)
            tools.files[file].append(name)
        for file, names in tools.files.items():
            if not names:
                raise ConfigError(
                    f"--tool: {file} defines no public function",
                    why="functions whose names begin with _ and those it imports do not count",
                    hint="def lookup(name: str) -> str: …",
                )
    except BaseException:
        tools.close()
        raise
    return tools


_GONE = "what the tools kept in memory is gone"


def _located(file: str) -> str:
    """The path of a file that can be read. Raises `ConfigError`."""
    path = Path(file).expanduser()
    why = ""
    try:
        if not path.exists():
            why = "there is no such file"
        elif not path.is_file():
            why = "it is no regular file"
        elif not os.access(path, os.R_OK):
            why = "permission denied"
    except (OSError, ValueError) as problem:
        why = getattr(problem, "strerror", None) or str(problem)
    if why:
        raise ConfigError(f"--tool: {file} cannot be read", why=why, hint="name a Python file")
    return os.path.realpath(path)


def _check_name(tools: Tools, file: str, name: str, reserved: Collection[str]) -> None:
    other = next((other for other, names in tools.files.items() if name in names), None)
    if other is not None:
        raise ConfigError(
            f"--tool: {other} and {file} both define {name}",
            why="code in the REPL calls a function by its name alone",
            hint="rename one, or let its name begin with _",
        )
    if name in reserved or hasattr(builtins, name):
        raise ConfigError(
            f"--tool: {file} defines {name}, a name that the REPL has itself",
            hint="rename it, or let its name begin with _",
        )


def _unloaded(header: Mapping[str, Any], paths: Mapping[str, str]) -> ConfigError:
    """What went wrong in the user's file, with the line."""
    file = paths.get(str(header.get("file")), "")
    number, _, code = str(header.get("line") or "").partition(": ")
    what, message = str(header.get("type")), str(header.get("message"))
    hint = f"load it by hand: python {file}"
    if what in ("ImportError", "ModuleNotFoundError"):
        hint = f"install what it needs beside rlm: {sys.executable} -m pip install …"
    elif what == "KeyError" and message.strip("'\"").endswith("KEY"):
        hint = "tools do not get the keys of model providers from the environment"
    why = f"{what}: {message}" + (f", at `{code}`" if code else "")
    return ConfigError(f"--tool: {file}{':' * bool(number)}{number} cannot be loaded", why=why, hint=hint)
