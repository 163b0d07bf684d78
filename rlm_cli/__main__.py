"""The way in: `rlm` and `python -m rlm_cli`. Nothing but the version is answered here.

`--version` costs what Python costs: Typer is not imported for it. Everything else goes through one door,
`cli.app.run`, which returns an exit code and never raises; the process then ends without the interpreter's own
teardown where litellm was loaded (its worker threads and import graph cost more than a second there).

Rejected: Typer's standalone mode. It exits 1 on a broken pipe, 0 where a command returned 7, and shows tracebacks.
"""

from __future__ import annotations

import sys


def main() -> None:
    """Run the command line in `sys.argv` and end the process with its exit code."""
    if sys.argv[1:] == ["--version"]:
        from . import __version__

        code = _print_version(__version__)
    else:
        from .cli.failure import run_guarded

        code = run_guarded(sys.argv[1:])
    if "litellm" in sys.modules:
        import os

        os._exit(code)
    sys.exit(code)


def _print_version(version: str) -> int:
    try:
        print(f"rlm {version}", flush=True)
    except OSError as error:
        from .cli.failure import stream_failed

        return stream_failed(error)
    return 0


if __name__ == "__main__":
    main()
