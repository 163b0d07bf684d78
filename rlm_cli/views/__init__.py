"""Views: readers of the event stream that write on stderr. One protocol, and the rule which one a run gets.

Live or not is decided by the terminal alone, colour by flags and variables: Rich takes `FORCE_COLOR=0` for a wish to
animate into a log file, so its own detection is never asked.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, TextIO

if TYPE_CHECKING:
    from ..events import Stamped


class View(Protocol):
    """Shows a run while it lasts. Lives on the event loop's thread; none of these raise or block for long."""

    def on(self, stamped: Stamped) -> None:
        """Take in one event."""
        ...

    def tick(self) -> None:
        """Called about eight times a second; where frames and progress lines are written."""
        ...

    def pause(self) -> None:
        """Off the screen until the next tick."""
        ...

    def close(self) -> None:
        """Take the view off the screen. Returns before the first byte of stdout may be written; may be called again."""
        ...


class Silent:
    """`-q`: errors are all that stderr shows, and those are not a view's."""

    def on(self, stamped: Stamped) -> None:
        pass

    def tick(self) -> None:
        pass

    def pause(self) -> None:
        pass

    def close(self) -> None:
        pass


@dataclass(frozen=True, slots=True)
class Wishes:
    """What was asked for about the display, by flag or variable: the settings of the same names."""

    progress: str = "auto"
    quiet: bool = False
    verbose: bool = False
    color: str = "auto"


def is_live(stream: TextIO, environ: Mapping[str, str]) -> bool:
    """A real terminal that can move its cursor and has somebody before it."""
    dumb = environ.get("TERM", "") in ("", "dumb", "unknown")
    return stream.isatty() and not dumb and not environ.get("CI")


def use_color(color: str, stream: TextIO, environ: Mapping[str, str]) -> bool:
    """`--color` > `NO_COLOR` > `FORCE_COLOR`/`CLICOLOR_FORCE` > a terminal. For each stream by itself."""
    if color != "auto":
        return color == "always"
    if environ.get("NO_COLOR"):
        return False
    if any(environ.get(name, "") not in ("", "0") for name in ("FORCE_COLOR", "CLICOLOR_FORCE")):
        return True
    return stream.isatty() and environ.get("TERM", "") not in ("", "dumb", "unknown")


def choose_view(wishes: Wishes, stderr: TextIO, environ: Mapping[str, str] | None = None) -> View:
    """The view of one run. A tree that was asked for by name still needs a terminal; else it is plain lines."""
    environ = os.environ if environ is None else environ
    if wishes.quiet:
        return Silent()
    color = use_color(wishes.color, stderr, environ)
    live = is_live(stderr, environ) or (wishes.progress == "tree" and stderr.isatty())
    if wishes.progress in ("auto", "tree") and live:
        from .tree import Tree

        return Tree(stderr, color=color, verbose=wishes.verbose)
    from .plain import Plain

    return Plain(stderr, color=color, verbose=wishes.verbose, progress=wishes.progress != "none")
