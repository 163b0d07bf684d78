"""The REPL itself: a namespace that outlives its cells, what they print, how they fail, what they hand over.

A model writes cells as it would in a notebook, so: the value of a last expression is shown, top-level `await` works,
whatever was bound before an error stays. Names that belong to the REPL are put back before every cell, `builtins`
included, so `llm_query = None` lasts one cell. `FINAL` ends a cell by an exception that is no `Exception`, so that no
`except Exception` holds it up; the first one wins even where something did hold it up.

Nothing here confines anything: that was done before the first cell.

Standard library only: this file is loaded in the child.
"""

from __future__ import annotations

import ast
import asyncio
import builtins
import gc
import inspect
import linecache
import re
import reprlib
import sys
import threading
import traceback
import types
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

from .hints import hint
from .printed import Printed
from .values import as_json, described, read_quotes

BALLAST = 24 << 20
"""Bytes kept for the cell after a memory bomb: without them even `x = None` fails. As `bytes`, which are
address space only: a `bytearray` is written to, and costs each child 24 MB and 15 ms."""
LARGE = 1 << 20
"""Characters of an answer that no draft travels with."""
SHOWN_VARIABLES = 50
LOOP_ITEMS = 1_000
"""Characters or items of what is news under any name."""
SHOWN_FRAMES = 4
SHOWN_ERROR = 2_000
"""Characters of an error's message."""


class Final(BaseException):
    """Raised by FINAL: the cell has handed over its answer."""


class QuoteNotFound(Exception):
    """Said once to who hands over a quote that is not in the documents."""

    __module__ = "builtins"  # tracebacks then show the bare name


class OutOfMemory(Exception):
    """Memory is short even with the variables of the cell dropped: this process is of no more use."""


@dataclass(slots=True)
class Finished:
    """What came of a cell, ready for the wire. `answer` and `draft` are JSON texts, empty = none."""

    stdout: str = ""
    omitted: int = 0
    error: str = ""
    answer: str = ""
    quotes: list[list[str | None]] = field(default_factory=list)
    held: bool = False
    """The answer was sent back for its quotes: it stands if no other comes."""
    variables: list[tuple[str, str]] = field(default_factory=list)
    draft: str = ""


class Repl:
    """One namespace and the cells that run in it."""

    def __init__(
        self,
        names: Mapping[str, Any],
        preset: Mapping[str, Any],
        on_code: Callable[[bool], None],
        objection: Callable[[list[list[str | None]]], str],
    ) -> None:
        """`names` are put back before each cell, `preset` are bound once; `on_code` is told when model code runs;
        `objection` says what is wrong with the quotes of an answer, if anything."""
        self.printed = Printed()
        self._on_code = on_code
        module = types.ModuleType("__main__")
        sys.modules["__main__"] = module
        self.namespace: dict[str, Any] = module.__dict__
        own = {"FINAL": self.final, "FINAL_VAR": self.final_var, "SHOW_VARS": self.show_vars}
        self._names = {**names, **own, "QuoteNotFound": QuoteNotFound}
        self._builtins = dict(builtins.__dict__)
        self._cell_builtins = {**self._builtins, **self._guarded()}
        self._live_builtins: dict[str, Any] = {}
        self._given = {**module.__dict__, **preset, **self._names}
        self.namespace.update(preset)
        self._final: tuple[str, list[list[str | None]]] | None = None
        self._held: tuple[str, list[list[str | None]]] | None = None
        self._objection = objection
        self._objected = False
        self._modules: dict[str, types.ModuleType] = {}
        self._finders: list[Any] = []
        self._ballast: bytes | None = bytes(BALLAST)
        sys.stdout = sys.stderr = self.printed
        threading.excepthook = self._thread_failed
        warnings.showwarning = self._warned  # type: ignore[assignment]  # of what it is given, two are wanted

    def run(self, source: str, number: int) -> Finished:
        """Run one cell, which tracebacks call by its number. Raises `OutOfMemory`; whatever the code does wrong is in
        `Finished.error`."""
        self._restore()
        before = dict(self.namespace)
        shapes = self._shapes()
        error = ""
        try:
            try:
                self._on_code(True)
                self._execute(source, number)
            finally:
                sys.settrace(None)
                sys.setprofile(None)
                self._restore_builtins()  # at once: the code below needs them too
                self._on_code(False)
        except (Final, SystemExit):
            pass
        except MemoryError:
            error = self._recover(before)
        except BaseException as problem:  # the code's own, KeyboardInterrupt included
            error = self._report(problem)
        sys.stdout = sys.stderr = self.printed
        return self._finished(error, shapes)

    def sound(self) -> bool:
        """Whether another cell can run: this one may have hooked or overwritten what that takes."""
        try:
            self._execute("None", 0)
        except BaseException:
            return False
        return True

    def final(self, value: Any, quotes: Any = ()) -> None:
        """FINAL(value, quotes=[…]): hand over the answer and end the work.

        Raises `QuoteNotFound`, once, for a quote that is not in the documents: a slip is mended by who made it.
        """
        if isinstance(value, str) and not value.strip():
            raise ValueError("an empty text is no answer; FINAL(None) means: the documents do not say")
        handed = as_json(value), read_quotes(quotes)
        if self._final is None:
            self._held = handed  # should the search for its quotes be cut short
            self.namespace["_answer"], self.namespace["_quotes"] = value, quotes  # to be mended, if it is not taken
            if not self._objected and (wrong := self._objection(handed[1])):
                self._objected = True
                raise QuoteNotFound(
                    f"these are not in the documents, white space, case and typographic marks apart:\n{wrong}\n"
                    "Mend them by code (your answer is in `_answer`, its quotes in `_quotes`) and call FINAL again."
                    " It is taken then, and what is still not there is shown as not found."
                )
            self._final = handed
        raise Final

    def final_var(self, variable: Any = None, quotes: Any = ()) -> None:
        """FINAL_VAR("name") or FINAL_VAR(variable)."""
        if isinstance(variable, str):
            name = variable.strip().strip("\"'")
            own = {key: value for key, value in self.namespace.items() if self._is_own(key, value)}
            if name in own:
                return self.final(own[name], quotes)
            held = any(value is variable for value in own.values())
            if not held and name.isidentifier():
                raise NameError(f"there is no variable {name!r} to hand over; SHOW_VARS() lists what there is")
        return self.final(variable, quotes)

    def show_vars(self) -> str:
        """SHOW_VARS(): a line for each variable that the cells have made."""
        lines = [f"{name}: {what}" for name, what in self._shapes().items()]
        return _Shown("\n".join(lines) or "no variables yet")

    def _execute(self, source: str, number: int) -> None:
        filename = f"<cell {number}>"
        linecache.cache[filename] = (len(source), None, source.splitlines(keepends=True), filename)
        try:
            tree = ast.parse(source, filename)
        except (MemoryError, RecursionError):  # what CPython's parser says
            raise SyntaxError("this code is nested too deeply") from None
        last = tree.body[-1] if tree.body else None
        if isinstance(last, ast.Expr):
            tree.body.pop()
        if tree.body:
            self._evaluate(compile(tree, filename, "exec", ast.PyCF_ALLOW_TOP_LEVEL_AWAIT, dont_inherit=True))
        if isinstance(last, ast.Expr):
            expression = ast.Expression(last.value)
            code = compile(expression, filename, "eval", ast.PyCF_ALLOW_TOP_LEVEL_AWAIT, dont_inherit=True)
            value = self._evaluate(code)
            if value is not None:
                self.printed.write(self._shown(value) + "\n")

    def _shown(self, value: Any) -> str:
        for name in ("FINAL", "FINAL_VAR", "SHOW_VARS"):
            if value == self._names[name]:
                return f"{name} is a function, and this does not call it: {name}(…)"
        if inspect.iscoroutine(value):
            return f"{_brief(value)}: `await` it for its result"
        return _brief(value)

    def _evaluate(self, code: types.CodeType) -> Any:
        value = eval(code, self.namespace)
        if code.co_flags & inspect.CO_COROUTINE:
            with asyncio.Runner() as runner:
                return runner.run(value)
        return value

    def _restore(self) -> None:
        """The real names back in their places; `builtins` as they were."""
        self._final = self._held = None
        self._restore_builtins()
        self.namespace.update(self._names)
        self._restore_imports()
        self.namespace["__builtins__"] = self._live_builtins
        self.namespace["__name__"] = "__main__"
        self.printed = Printed()  # not the same one cleared: a cell may have closed it, or given it another `write`
        sys.stdout = sys.stderr = self.printed

    def _restore_imports(self) -> None:
        if not self._modules:  # the first cell: after the lockdown, which changes the finders
            self._modules, self._finders = dict(sys.modules), list(sys.meta_path)
        if len(sys.modules) < len(self._modules):
            sys.modules.update(self._modules)
        sys.meta_path[:] = self._finders

    def _restore_builtins(self) -> None:
        for live, real in ((builtins.__dict__, self._builtins), (self._live_builtins, self._cell_builtins)):
            live.update(real)  # never cleared, not for a moment: the reading thread runs on them
            for name in live.keys() - real.keys():
                del live[name]

    def _guarded(self) -> dict[str, Any]:
        """Builtins that cannot work here, and say what does."""

        def open(*_: Any, **__: Any) -> None:
            raise PermissionError(
                "files cannot be opened here: the documents are in `docs` and `context`; keep results in variables"
            )

        def input(*_: Any) -> None:
            raise EOFError("nobody can type here: ask models with llm_query, print what you want to see")

        def leave(*_: Any) -> None:
            raise SystemExit

        real_import, wrapped_re = builtins.__import__, self._names.get("re")

        def import_(name: str, *rest: Any, **named: Any) -> Any:
            module = real_import(name, *rest, **named)
            return wrapped_re if name == "re" and wrapped_re is not None else module

        def breakpoint(*_: Any, **__: Any) -> None:
            raise RuntimeError("nobody can type here: print what you want to see")

        def help(thing: Any = None) -> None:
            self.printed.write(f"{getattr(thing, '__name__', type(thing).__name__)}: {inspect.getdoc(thing)}\n")

        leaving = {"exit": leave, "quit": leave, "breakpoint": breakpoint, "help": help}
        return {"open": open, "input": input, "__import__": import_, **leaving}

    def _finished(self, error: str, shapes: dict[str, str]) -> Finished:
        stdout, omitted = self.printed.shown()
        finished = Finished(stdout, omitted, error)
        bound = [(name, what) for name, what in self._shapes().items() if shapes.get(name) != what]
        finished.variables = [(name[:100], what) for name, what in bound if not self._is_of_a_loop(name)]
        del finished.variables[SHOWN_VARIABLES:]
        if self._final is None:
            self._read_answer(finished)
        handed = self._final or self._held
        if handed is not None:
            finished.answer, finished.quotes = handed
            finished.held = self._final is None
            if len(finished.answer) > LARGE:
                finished.draft = ""  # both may be more than a frame takes
        return finished

    def _read_answer(self, finished: Finished) -> None:
        """A mapping named `answer`: handed over when its `ready` is true, else a draft."""
        answer = self.namespace.get("answer")
        if not isinstance(answer, dict):
            return
        try:
            if "content" not in answer or "ready" not in answer:
                return
            content = as_json(answer["content"])
            if answer["ready"]:
                self._final = content, read_quotes(answer.get("quotes", ()))
                self.namespace["_answer"], self.namespace["_quotes"] = answer["content"], answer.get("quotes", ())
                answer["ready"] = False  # should it come back, it is mended first
            elif answer["content"]:
                finished.draft = content
        except BaseException as problem:  # from methods of the model's own class
            finished.error = finished.error or f"the variable `answer` cannot be handed over: {problem}"

    def _shapes(self) -> dict[str, str]:
        shapes = {}
        for name, value in list(self.namespace.items()):
            if self._is_own(name, value) and not _is_imported(value):
                shapes[name] = described(value)
        return shapes

    def _is_of_a_loop(self, name: str) -> bool:
        """A name of one letter for something small is news to nobody; SHOW_VARS() has it."""
        value = self.namespace.get(name)
        return len(name) == 1 and not (isinstance(value, (str, list, dict, set, tuple)) and len(value) > LOOP_ITEMS)

    def _is_own(self, name: Any, value: Any) -> bool:
        """A variable the cells have made: not a name of the REPL, nor a module it came with."""
        if not isinstance(name, str) or name.startswith("_") or name in self._names:
            return False
        return name not in self._given or self._given[name] is not value

    def _recover(self, before: dict[str, Any]) -> str:
        """After a memory bomb: drop the ballast and what this cell bound, then lay the ballast in again."""
        self._ballast = None
        self.namespace.clear()
        self.namespace.update(before)
        before.clear()
        gc.collect()
        try:
            self._ballast = bytes(BALLAST)
        except MemoryError:
            raise OutOfMemory from None
        return "MemoryError: the REPL's memory is full. What this cell bound was dropped; work on smaller pieces."

    def _report(self, problem: BaseException) -> str:
        """The last frames in the model's own code, then the error."""
        try:
            return _short_traceback(problem, hint(problem, self.namespace, self._names))
        except Exception:  # an error whose own __str__ fails
            return type(problem).__name__

    def _thread_failed(self, hook: threading.ExceptHookArgs) -> None:
        if hook.exc_value is not None and not isinstance(hook.exc_value, (Final, SystemExit)):
            self.printed.write(f"in a thread: {self._report(hook.exc_value)}\n")

    def _warned(self, message: Warning | str, kind: type[Warning], *_: Any) -> None:
        """In one line, without the place: that of a coroutine nobody awaited is in this file."""
        self.printed.write(f"{kind.__name__}: {message}\n")


def _is_imported(value: Any) -> bool:
    """A module, or a class or function of one: no news to who imported it."""
    if isinstance(value, (type, types.FunctionType, types.BuiltinFunctionType)):
        return value.__module__ != "__main__"
    return isinstance(value, types.ModuleType)


class _Shown(str):
    """Text that an expression statement shows as it is."""

    __slots__ = ()

    def __repr__(self) -> str:
        return str(self)


class _Short(reprlib.Repr):
    """Leaves a dict in its order: a table somebody sorted by its values must not look sorted by its keys."""

    def repr_dict(self, value: dict[Any, Any], level: int) -> str:
        if level <= 0 and value:
            return "{...}"
        pairs = [
            f"{self.repr1(k, level - 1)}: {self.repr1(v, level - 1)}" for k, v in islice(value.items(), self.maxdict)
        ]
        return "{" + ", ".join([*pairs, *["..."] * (len(value) > self.maxdict)]) + "}"


def _brief(value: Any) -> str:
    """`repr` that never takes more than a screen of memory from a large value."""
    if type(value) in (int, float, bool):
        return repr(value)
    if isinstance(value, _Shown):
        return str(value)
    short = _Short()
    short.maxlevel, short.maxstring, short.maxother, short.maxlong = 6, 8_000, 8_000, 1_000
    short.maxlist = short.maxtuple = short.maxset = short.maxfrozenset = short.maxdeque = short.maxdict = 500
    return short.repr(value)


def _short_traceback(problem: BaseException, hint: str) -> str:
    """The model's own lines, the error, and what else there is to say."""
    message = "".join(traceback.format_exception_only(problem)).rstrip()
    if isinstance(problem, SyntaxError) and (problem.filename or "").startswith("<cell "):
        message = re.sub(r'^ *File "<(cell \d+)>"', r"\1", message[-SHOWN_ERROR:])
        return f"{message}\n({hint})" if hint else message
    own = [f for f in traceback.extract_tb(problem.__traceback__) if f.filename.startswith("<cell ")]
    lines: list[str] = []
    for frame in own[-SHOWN_FRAMES:]:
        where = "" if frame.name == "<module>" else f", in {frame.name}"
        line = f"{frame.filename[1:-1]}, line {frame.lineno}{where}:\n    {frame.line}"
        if not lines or lines[-1] != line:  # a recursion says it once
            lines.append(line)
    if isinstance(problem, ImportError) and problem.path:
        message = message.replace(f" ({problem.path})", "")  # a place of the host's
    if len(message) > SHOWN_ERROR:
        message = f"{message[: SHOWN_ERROR // 2]} … {message[-SHOWN_ERROR // 2 :]}"
    if hint:
        message += f"\n({hint})"
    cause = problem.__cause__
    if cause is not None:
        message += f"\ncaused by {type(cause).__name__}: {str(cause)[:500]}"
    return "\n".join([*lines, message])
