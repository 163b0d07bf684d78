"""The guest: loads what it will need, is forked, maps the corpus, locks itself down, proves it, then runs cells.

Started by `child.py` as `python -s -P -S guest.py FD HOST`. That process only loads, and forks (`zygote.py`); all that
follows is a child's. It shares files with the host (`corpus.py`, `wire.py`) but none of its packages: `rlm_cli` is set
up as an empty package whose modules are found by path, so no `__init__` runs and nothing outside the standard library
can be imported. After the lockdown no file can be opened; a late import of a pure-Python module of the standard library
is answered by the host with its source.

Order matters: C extensions before the lockdown, limits after the corpus is mapped, the reading thread last.

`random` starts from the same seed in every REPL, and so does the hash of strings (`child.py`): cells that are run
again, in a REPL that replaces a dead one or in a run that is resumed, draw the same samples and send the same prompts.
"""

from __future__ import annotations

import importlib
import os
import sys
import types
from contextlib import suppress
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .link import Link

EXTENSIONS = (
    "_asyncio _bisect _blake2 _bz2 _codecs_cn _codecs_hk _codecs_iso2022 _codecs_jp _codecs_kr _codecs_tw _contextvars"
    " _csv _ctypes _datetime _decimal _elementtree _hashlib _heapq _json _lsprof _lzma _md5 _multibytecodec _opcode"
    " _pickle _posixsubprocess _queue _random _sha1 _sha2 _sha256 _sha3 _sha512 _socket _sqlite3 _ssl _statistics"
    " _struct _uuid _zoneinfo array binascii cmath fcntl grp math mmap pyexpat resource select termios unicodedata zlib"
).split()
"""C extensions are files that could not be loaded later. Those this Python does not have are left out."""

MODULES = (
    "asyncio bisect codecs collections concurrent.futures.thread contextlib copy csv dataclasses datetime decimal"
    " difflib encodings.idna encodings.latin_1 encodings.utf_16 enum fractions functools hashlib heapq html io"
    " itertools json math operator pathlib pprint random re reprlib statistics string textwrap threading time traceback"
    " typing unicodedata uuid zoneinfo"
).split()
"""Imported before the lockdown: what text work asks for at once. The rest comes late."""

PRESET = (
    "re json math csv io collections itertools functools statistics datetime difflib hashlib textwrap string".split()
)
"""Modules bound in the REPL from the start: models forget the import."""

OURS = (
    "corpus lazy quotes sandbox.late sandbox.link sandbox.outside sandbox.repl sandbox.subcalls sandbox.values"
    " sandbox.wire"
).split()
SEED = 0


def main(fd: int, host: int) -> None:
    """The life of the process that is forked from, and in every fork the life of a guest. `fd` is the control socket,
    `host` the process id at its other end."""
    _be_a_package()
    _warm_up()
    import socket

    from rlm_cli.sandbox import harden, zygote

    here = os.getpid()
    corpus = zygote.serve(socket.socket(fileno=fd), host)
    harden.die_with(here)
    _live(socket.socket(fileno=zygote.WIRE_FD), corpus, host)


def _warm_up() -> None:
    """All imports: none of them costs a child anything, and some could not be done once it is locked down."""
    importlib.import_module("asyncio")  # before _asyncio, which needs it whole
    for name in (*EXTENSIONS, *MODULES):
        with suppress(ImportError):
            importlib.import_module(name)
    for name in OURS:
        importlib.import_module(f"rlm_cli.{name}")


def _live(connection: Any, corpus: int | None, host: int) -> None:
    """A guest, from its fork to its end. `connection` is its end of the wire, `corpus` a descriptor."""
    from rlm_cli.sandbox import harden
    from rlm_cli.sandbox.link import Link

    importlib.import_module("random").seed(SEED)
    link = Link(connection)
    settings = link.receive().fields
    repl, subcalls = _build(link, settings, corpus)
    _lock(link, settings, host, harden)
    _serve(link, repl, subcalls)


def _be_a_package() -> None:
    """`rlm_cli` and `rlm_cli.sandbox` as bare packages: their modules by path, their `__init__` never run."""
    here = os.path.dirname(os.path.abspath(__file__))  # noqa: PTH100, PTH120 (pathlib costs 3 ms)
    for name, path in (("rlm_cli", os.path.dirname(here)), ("rlm_cli.sandbox", here)):  # noqa: PTH120
        package = types.ModuleType(name)
        package.__path__ = [path]
        sys.modules[name] = package


def _build(link: Link, settings: dict[str, Any], corpus: int | None) -> tuple[Any, Any]:
    """The REPL over the corpus, before the lockdown: mapping it opens nothing afterwards."""
    from rlm_cli.sandbox.outside import Outside
    from rlm_cli.sandbox.repl import Repl
    from rlm_cli.sandbox.subcalls import Subcalls

    documents = _Documents(settings, corpus)

    def publish(results: list[Any]) -> None:
        repl.namespace["_results"] = results

    def on_code(running: bool) -> None:
        if running:
            link.take_interrupts()
        link.interruptible = running

    subcalls = Subcalls(link, documents.lazy, documents.locate, publish)
    outside = Outside(link, lambda: subcalls.cell, documents.lazy)
    preset = {name: sys.modules[name] for name in PRESET}
    names = {**documents.names, **subcalls.names(), **outside.names(settings["tools"])}
    repl = Repl(names, preset, on_code, documents.objection)
    return repl, subcalls


class _Documents:
    """What the REPL has of the corpus: `names` (`context`, `docs`, `re`) and two searches of its own."""

    def __init__(self, settings: dict[str, Any], corpus: int | None) -> None:
        from rlm_cli import lazy
        from rlm_cli.corpus import Corpus

        self.lazy = lazy.Text
        self.names: dict[str, Any] = {"context": "", "docs": [], "re": sys.modules["re"]}
        self._corpus: Corpus | None = None
        self._spans = settings["spans"] and tuple((start, stop) for start, stop in settings["spans"])
        if corpus is not None:
            self._corpus = Corpus(corpus)
            self.names = {
                "context": lazy.view(self._corpus, self._spans, settings["context_memory"]),
                "docs": lazy.Docs(self._corpus, self._spans),
                "re": lazy.re,
            }

    def locate(self, text: str) -> tuple[int, int] | None:
        """Where a plain text stands in the corpus, in characters."""
        start = self._corpus.find(text) if self._corpus is not None else -1
        return None if start < 0 else (start, start + len(text))

    def objection(self, quotes: list[list[str | None]]) -> str:
        """What there is to say against the quotes of an answer. A child answers its parent, who quotes for itself."""
        from rlm_cli import quotes as search

        return "" if self._corpus is None or self._spans else search.objection(self._corpus, quotes)


def _lock(link: Link, settings: dict[str, Any], host: int, harden: Any) -> None:
    """Lock down as asked, try the doors, report, and only then take interrupts and start the reading thread."""
    from rlm_cli.sandbox import late

    lockdown = settings["lockdown"]
    missing: tuple[str, ...] = ()
    if lockdown != "none":
        importlib.import_module("threading").stack_size(1 << 20)  # else 19 threads are the most in 1 GB
        try:
            harden.limit_resources(settings["repl_memory"], settings["cpu_s"])
        except (OSError, ValueError) as problem:
            missing = (f"rlimits: {problem}",)
    late.install(link)
    if lockdown == "kernel":
        missing += harden.lock_down()
    refused = harden.self_test(host) if lockdown != "none" else {}
    if lockdown == "audit":
        late.watch()
    link.send("ready", {"refused": refused, "missing": missing})
    link.start()


def _serve(link: Link, repl: Any, subcalls: Any) -> None:
    """Cells, one after the other, until the host is gone."""
    from rlm_cli.sandbox import wire
    from rlm_cli.sandbox.repl import OutOfMemory

    while True:
        frame = link.cells.get()
        subcalls.cell = frame.fields["cell"]
        try:
            done = repl.run(frame.text(0), subcalls.cell)
            fields = {
                "cell": subcalls.cell,
                "omitted": done.omitted,
                "variables": done.variables,
                "quotes": done.quotes,
                "held": done.held,
            }
            try:
                link.send("done", fields, (done.stdout, done.error, done.answer, done.draft))
            except wire.Violation as problem:
                fields |= {"omitted": 0, "variables": [], "quotes": [], "held": False}
                link.send("done", fields, ("", f"what this cell hands over is too large: {problem}", "", ""))
        except (OutOfMemory, MemoryError):
            os._exit(3)
        except BaseException:  # our own code fails: a cell has overwritten some of it
            os._exit(4)
        if not repl.sound():
            os._exit(4)


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]))
