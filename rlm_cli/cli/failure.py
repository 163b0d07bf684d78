"""How the command line ends when it ends badly: one door for every exception, one shape for every message.

    rlm: the question comes first, then the sources     what happened
      why  contracts is a file or folder, … is not      why, where it is known
      try  rlm ask "Which contracts …" contracts        what to do

| what came up                         | exit | shown                                                   |
|--------------------------------------|------|---------------------------------------------------------|
| `RlmError`                           | its own | the three parts                                      |
| Typer's usage errors                 | 2    | the same, with the command's `-h` to try                |
| Ctrl-C outside a run                 | 130  | nothing                                                 |
| broken pipe, while writing or at end | 0    | nothing: the reader had enough                          |
| any other `OSError` of stdout        | 70   | the system's words: half an answer is no success        |
| anything else                        | 70   | one line and where the trace is; traceback with `RLM_DEBUG=1` |

With `--json` or `--jsonl` an early error is also an `rlm.result/1` object on stdout. A command that printed its own
object (`ask`, once its run has begun) returns its code instead of raising.
"""

from __future__ import annotations

import errno
import io
import os
import sys
from collections.abc import Sequence
from typing import TextIO

from ..errors import RlmError, UsageError, internal

INTERNAL = 70


def run_guarded(argv: Sequence[str]) -> int:
    """Run a command line (without the program's name); returns the exit code, never raises."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(encoding="utf-8", errors="replace")  # in every locale: programs read it
    code = _run(argv)
    tell("")  # what a view could not write must not come up again at exit
    return code


def _run(argv: Sequence[str]) -> int:
    try:
        from .app import run

        code = run(list(argv))
        sys.stdout.flush()
        return code
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError as error:
        return stream_failed(error)
    except SystemExit:
        # Typer turns a broken pipe into exit 1 before anybody can catch it, and raises this for nothing else.
        return stream_failed(BrokenPipeError(errno.EPIPE, os.strerror(errno.EPIPE)))
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EIO, errno.EBADF, errno.EFBIG, errno.EDQUOT):
            return stream_failed(error)
        return _report(error, argv)
    except Exception as error:
        return _report(error, argv)


def stream_failed(error: OSError) -> int:
    """stdout could not be written: 0 and silent for a broken pipe, 70 and a message for a full disk."""
    _discard(sys.stdout)
    if error.errno == errno.EPIPE:
        return 0
    kept = "".join(getattr(error, "__notes__", ()))
    hint = kept or "write to another place with -o"
    say_error(RlmError("stdout could not be written", why=error.strerror or str(error), hint=hint))
    return INTERNAL


def warn(text: str) -> None:
    """One line on stderr that is not an error."""
    from ..views.safe import one_line

    tell(f"rlm: {one_line(text)}\n")


def tell(text: str) -> None:
    """Write to stderr. Never raises: where nobody listens there, the answer still counts."""
    try:
        sys.stderr.write(text)
        sys.stderr.flush()
    except OSError:
        _discard(sys.stderr)


def _report(error: Exception, argv: Sequence[str]) -> int:
    known = _as_rlm_error(error)
    try:
        _print_object(known, argv)
        sys.stdout.flush()
    except OSError as lost:
        _discard(sys.stdout)
        if lost.errno == errno.EPIPE:
            return known.exit_code
    say_error(known)
    return known.exit_code


def _as_rlm_error(error: Exception) -> RlmError:
    if isinstance(error, RlmError):
        return error
    if "typer" in sys.modules:
        from typer._click.exceptions import ClickException
        from typer._click.exceptions import UsageError as Misused

        if isinstance(error, Misused):
            path = error.ctx.command_path if error.ctx else "rlm"
            return UsageError(error.format_message().rstrip("."), hint=f"{path} -h")
        if isinstance(error, ClickException):
            return UsageError(error.format_message())
    return internal(error)


def _print_object(error: RlmError, argv: Sequence[str]) -> None:
    """The result object of an error that came before a run could begin, where the command line asked for one."""
    options = argv[: argv.index("--")] if "--" in argv else argv
    if argv[:1] != ["ask"] or not ({"--json", "--jsonl"} & set(options)):
        return
    import json

    from .. import __version__
    from ..result import ErrorReport, Result

    result = Result(question="", exit_code=error.exit_code, version=__version__)
    result.error = ErrorReport(error.code, str(error), error.hint)
    body = result.to_json()
    if "--json" not in options:
        body = {"v": 1, "run": None, "seq": 0, "t": 0.0, "type": "run.finished", "call": None, "result": body}
    # Broken UTF-8 in an argument would otherwise fail here, in a message about it.
    print(json.dumps(body, ensure_ascii=False).encode("utf-8", "replace").decode())


def say_error(error: RlmError, color: str = "auto") -> None:
    """The three parts on stderr; with `RLM_DEBUG` the traceback of a bug before them. Never raises."""
    from ..views import use_color
    from ..views.error import error_text

    if error.exit_code == INTERNAL and error.__cause__ is not None and os.environ.get("RLM_DEBUG"):
        import traceback

        tell("".join(traceback.format_exception(error.__cause__)))
    tell(error_text(error, use_color(color, sys.stderr, os.environ)))


def _discard(stream: TextIO) -> None:
    """Point it at nothing, or the interpreter's flush at exit fails again and changes the exit code."""
    try:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, stream.fileno())
        os.close(nowhere)
    except (OSError, ValueError):
        pass  # it is no descriptor (closed, or captured): nothing will be flushed
