"""Imports after the lockdown, and other things that would open a file.

No file can be opened any more, so the host sends the source of a pure-Python module of the standard library, and the
data of a time zone. Anything else fails with one line that says what there is. Processes do not exist here:
`multiprocessing` is a small module whose pools are threads, which is what the models that ask for them can use.

Standard library only: this file is loaded in the child.
"""

from __future__ import annotations

import importlib.abc
import importlib.machinery
import io
import os
import queue
import sys
import threading
import types
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

from .link import Link

_TABLES = "use lists of dicts, csv, collections.Counter, statistics"
_WEB = "there is no network: the documents are in `docs`"
_WORDS = "use re, str methods and difflib, or ask with llm_query"
_READ = "documents are read already: docs[0].text, docs[0].pages"
_MODELS = "ask models with llm_query"
INSTEAD = {
    "numpy": "use math, statistics, lists", "scipy": "use math, statistics", "pandas": _TABLES, "polars": _TABLES,
    "tabulate": "use f-strings", "matplotlib": "nothing can be drawn: print what matters", "requests": _WEB,
    "httpx": _WEB, "aiohttp": _WEB, "selenium": _WEB, "bs4": "use html.parser or re",
    "lxml": "use xml.etree.ElementTree", "nltk": _WORDS, "spacy": _WORDS, "sklearn": _WORDS,
    "rapidfuzz": "use difflib", "fuzzywuzzy": "use difflib", "Levenshtein": "use difflib", "regex": "use re",
    "openai": _MODELS, "anthropic": _MODELS, "litellm": _MODELS, "langchain": _MODELS, "transformers": _MODELS,
    "torch": _MODELS, "tiktoken": "about 4 characters are a token", "pypdf": _READ, "PyPDF2": _READ, "fitz": _READ,
    "pdfplumber": _READ, "docx": _READ, "openpyxl": _READ, "dateutil": "use datetime.strptime",
    "dateparser": "use datetime.strptime", "pytz": "use zoneinfo",
    "yaml": "use re or str methods; tomllib and json are here", "tqdm": "iterate plainly",
    "pydantic": "use dataclasses", "nest_asyncio": "`await` works at the top of a cell", "rich": "use print",
    "unidecode": "use unicodedata.normalize", "chardet": "documents are decoded already",
}  # fmt: skip
"""For a module outside the standard library: what does its work here."""


class HostFinder(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Finds what is left of the standard library: on the host, as source."""

    def __init__(self, link: Link) -> None:
        self._link = link

    def find_spec(
        self, name: str, path: Sequence[str] | None, target: types.ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        top = name.partition(".")[0]
        if top not in sys.stdlib_module_names:
            instead = INSTEAD.get(top, "")
            why = f"only the standard library is here{'; ' * bool(instead)}{instead}"
            raise ModuleNotFoundError(f"No module named {name!r}: {why}", name=name)
        reply = self._link.request("module", {"name": name})
        if not reply.blobs and name == top:
            why = "this part of the standard library is not pure Python and not loaded here"
            raise ModuleNotFoundError(f"No module named {name!r}: {why}", name=name)
        if not reply.blobs:
            return None
        spec = importlib.machinery.ModuleSpec(name, self, origin=f"<standard library {name}>")
        spec.loader_state = reply.blobs[0]
        if reply.fields["package"]:
            spec.submodule_search_locations = []
        return spec

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> types.ModuleType | None:
        return None

    def exec_module(self, module: types.ModuleType) -> None:
        spec = module.__spec__
        assert spec is not None
        exec(compile(spec.loader_state, f"<{spec.name}>", "exec", dont_inherit=True), module.__dict__)


class _NoEnvironment(dict[str, str]):
    """`os.environ`: empty, and says so."""

    def __missing__(self, key: str) -> str:
        raise KeyError(f"{key}: there are no environment variables here")


class Pool:
    """`multiprocessing.Pool` as threads: the methods that map."""

    def __init__(
        self,
        processes: int | None = None,
        initializer: Callable[..., Any] | None = None,
        initargs: Iterable[Any] = (),
        maxtasksperchild: int | None = None,
        context: Any = None,
    ) -> None:
        self._threads = ThreadPoolExecutor(processes or 8, initializer=initializer, initargs=tuple(initargs))

    def map(self, function: Callable[..., Any], items: Iterable[Any], chunksize: int | None = None) -> list[Any]:
        return list(self._threads.map(function, items))

    def imap(self, function: Callable[..., Any], items: Iterable[Any], chunksize: int = 1) -> Iterator[Any]:
        return self._threads.map(function, items)

    imap_unordered = imap

    def starmap(self, function: Callable[..., Any], items: Iterable[Any], chunksize: int | None = None) -> list[Any]:
        return [future.result() for future in [self._threads.submit(function, *item) for item in items]]

    def apply(self, function: Callable[..., Any], args: Iterable[Any] = (), kwds: dict[str, Any] | None = None) -> Any:
        return self._threads.submit(function, *args, **(kwds or {})).result()

    def apply_async(
        self, function: Callable[..., Any], args: Iterable[Any] = (), kwds: dict[str, Any] | None = None
    ) -> Future[Any]:
        future = self._threads.submit(function, *args, **(kwds or {}))
        future.get = future.result  # type: ignore[attr-defined]  # as multiprocessing calls it
        return future

    def close(self) -> None:
        self._threads.shutdown(wait=False)

    terminate = close

    def join(self) -> None:
        self._threads.shutdown(wait=True)

    def __enter__(self) -> Pool:
        return self

    def __exit__(self, *_: object) -> None:
        self.join()


def install(link: Link) -> None:
    """From now on modules and time zones come from the host, and nothing is searched on disk."""
    sys.path.clear()
    sys.path_hooks.clear()
    sys.path_importer_cache.clear()
    builtin = (importlib.machinery.BuiltinImporter, importlib.machinery.FrozenImporter)
    sys.meta_path[:] = [*builtin, HostFinder(link)]
    os.environ = _NoEnvironment()  # type: ignore[assignment]  # noqa: B003 (it was empty; this says so)
    _time_zones(link)
    _threads_for_processes()


def _time_zones(link: Link) -> None:
    import zoneinfo
    import zoneinfo._common as common

    def load(key: str) -> io.BytesIO:
        reply = link.request("zone", {"name": key})
        if not reply.blobs:
            raise zoneinfo.ZoneInfoNotFoundError(f"No time zone found with key {key}")
        data = reply.blobs[0]
        assert isinstance(data, bytes)
        return io.BytesIO(data)

    def available() -> set[str]:
        reply = link.request("zone", {"name": "*"})
        return set(reply.text(0).split()) if reply.blobs else set()

    zoneinfo.available_timezones = available
    zoneinfo.reset_tzpath(())
    common.load_tzdata = load  # type: ignore[assignment]


def _threads_for_processes() -> None:
    import concurrent.futures as futures

    futures.ProcessPoolExecutor = ThreadPoolExecutor  # type: ignore[misc,assignment]
    shim = types.ModuleType("multiprocessing", "Threads in place of processes, which do not exist here.")
    for name in ("pool", "dummy"):
        part = types.ModuleType(f"multiprocessing.{name}")
        part.Pool = part.ThreadPool = Pool  # type: ignore[attr-defined]
        setattr(shim, name, part)
        sys.modules[part.__name__] = part
    shim.Process = threading.Thread  # type: ignore[attr-defined]
    shim.Queue, shim.SimpleQueue, shim.Lock = queue.Queue, queue.SimpleQueue, threading.Lock  # type: ignore[attr-defined]
    shim.Pool = Pool  # type: ignore[attr-defined]
    shim.cpu_count = lambda: 8  # type: ignore[attr-defined]
    shim.get_context = lambda method=None: shim  # type: ignore[attr-defined]
    shim.__path__ = []
    sys.modules["multiprocessing"] = shim


_WATCHED = ("open", "socket.", "subprocess.", "os.", "shutil.", "ctypes.", "pty.", "ftplib.", "urllib.", "syslog.")
_HARMLESS = ("os.putenv", "os.unsetenv", "os.listdrives")


def watch() -> None:
    """The audit hook of level `soft`: stops accidents. It is no boundary: code that means to gets around it."""

    def hook(event: str, args: tuple[Any, ...]) -> None:
        if event.startswith(_WATCHED) and event not in _HARMLESS:
            if event == "socket.__new__" and len(args) > 1 and args[1] == 1:
                return  # AF_UNIX: asyncio's pair
            raise PermissionError(1, f"not allowed here ({event})")

    sys.addaudithook(hook)
