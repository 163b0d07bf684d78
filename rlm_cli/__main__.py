"""The way in: `rlm` and `python -m rlm_cli`. Nothing but the version is answered here.

`--version` costs what Python costs: Typer is not imported for it. Everything else goes through one door,
`cli.app.run`, which returns an exit code and never raises; the process then ends without the interpreter's own
teardown where litellm or aiohttp was loaded (litellm's worker threads and import graph cost more than a second there).

Rejected: Typer's standalone mode. It exits 1 on a broken pipe, 0 where a command returned 7, and shows tracebacks.
"""

from __future__ import annotations

import sys

GARBAGE = 50_000
"""Objects between two looks for cycles, instead of Python's 700: nothing that imports and requests leave behind is
garbage, and looking for it a hundred times is a tenth of a short run."""


def main() -> None:
    """Run the command line in `sys.argv` and end the process with its exit code."""
    if None in (sys.stdin, sys.stdout, sys.stderr):
        _open_closed()
    if sys.argv[1:] == ["--version"]:
        from . import __version__

        code = _print_version(__version__)
    else:
        import gc

        gc.set_threshold(GARBAGE)
        from .cli.failure import run_guarded

        code = run_guarded(sys.argv[1:])
    if not {"litellm", "aiohttp"}.isdisjoint(sys.modules):
        import os

        os._exit(code)
    sys.exit(code)


def _open_closed() -> None:
    """A descriptor that was closed (`>&-`) is taken, or the next file opened would be it. Writing to it fails."""
    import os

    for number, name in enumerate(("stdin", "stdout", "stderr")):
        if getattr(sys, name) is None:
            os.open(os.devnull, os.O_WRONLY if name == "stderr" else os.O_RDONLY)  # the lowest that is free
            setattr(sys, name, open(number, "w" if number else "r", encoding="utf-8", closefd=False))  # noqa: SIM115


def _print_version(version: str) -> int:
    try:
        print(f"rlm {version}", flush=True)
    except OSError as error:
        from .cli.failure import stream_failed

        return stream_failed(error)
    return 0


if __name__ == "__main__":
    main()
