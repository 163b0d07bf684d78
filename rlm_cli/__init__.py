"""Ask questions of documents too long for any model's window: the library behind the `rlm` command.

    import rlm_cli
    result = rlm_cli.ask("Which contracts allow termination without notice?", ["contracts/"], model="openai/gpt-5-mini")
    print(result.text, result.citations, result.usage.cost_usd)

Importing this package costs nothing: what is named here is loaded when it is used.
"""

from __future__ import annotations

TYPE_CHECKING = False  # that of `typing`, which costs `--version` a third of its time

__version__ = "0.1.0"

if TYPE_CHECKING:
    from collections.abc import Sequence
    from os import PathLike
    from typing import Any

    from .errors import (
        ConfigError,
        InvalidAnswer,
        LimitReached,
        ModelError,
        RlmError,
        SandboxError,
        SourceError,
        UsageError,
    )
    from .result import Citation, Located, Result, Status
    from .settings import Settings

_HOME = {
    **dict.fromkeys(("Citation", "Located", "Result", "Status"), "result"),
    **dict.fromkeys(
        (
            "ConfigError",
            "InvalidAnswer",
            "LimitReached",
            "ModelError",
            "RlmError",
            "SandboxError",
            "SourceError",
            "UsageError",
        ),
        "errors",
    ),
    "Settings": "settings",
}

__all__ = [
    "Citation",
    "ConfigError",
    "InvalidAnswer",
    "LimitReached",
    "Located",
    "ModelError",
    "Result",
    "RlmError",
    "SandboxError",
    "Settings",
    "SourceError",
    "Status",
    "UsageError",
    "aask",
    "ask",
]


async def aask(asked: str, sources: str | PathLike[str] | Sequence[str | PathLike[str]], **settings: Any) -> Result:
    """Answer a question from files and folders, one or several.

    `settings` are the names of `Settings`, with values of its types or as the command line spells them
    (`model="openai/…"`, `max_budget=0.5`, `timeout="10m"`). A partial answer and "not found" are results, told apart by
    `status`. Nothing is written to disk, and no configuration file or `RLM_*` variable is read.

    Raises the `RlmError` that ended the run otherwise (`UsageError` for a value that is none), `TypeError` for a
    setting that does not exist. Being cancelled closes the run in order and goes on.
    """
    from .prepare import Job
    from .question import ask as run
    from .settings import Settings, parse

    unknown = sorted(settings.keys() - Settings.__dataclass_fields__.keys())
    if unknown:
        raise TypeError(f"there is no setting {unknown[0]!r}")
    parsed: dict[str, Any] = {
        name: None if value is None else parse(name, value, name) for name, value in settings.items()
    }
    several = [sources] if isinstance(sources, str) or hasattr(sources, "__fspath__") else list(sources)
    result = await run(Job(asked, tuple(str(source) for source in several), Settings(**parsed), careful=True))
    if result.failure is not None:
        raise result.failure
    return result


def ask(asked: str, sources: str | PathLike[str] | Sequence[str | PathLike[str]], **settings: Any) -> Result:
    """`aask` for code without an event loop."""
    import asyncio

    return asyncio.run(aask(asked, sources, **settings))


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f".{_HOME[name]}", __name__), name)
