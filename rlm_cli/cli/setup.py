"""`rlm config` and `rlm completion`: what holds on this machine, and where it is written."""

from __future__ import annotations

from dataclasses import fields, replace
from typing import Any

from ..errors import UsageError
from ..settings import Settings, shown_options, spelling_of, working_folder
from ..views.safe import one_line
from .commands import SHELLS, shown
from .configuration import Resolved, project_file, resolve, say, user_file


def config(arguments: list[str], options: dict[str, Any]) -> int:
    """`origins`: every setting, its value and where it comes from. `path`: the files."""
    config_file = options.get("config_file")
    match arguments:
        case ["origins"]:
            resolved = resolve({}, config_file=config_file)
            resolved.warn()
            _origins(resolved)
        case ["path"]:
            _paths(config_file)
        case _:
            raise UsageError("config wants one of origins, path", hint="rlm config origins")
    return 0


def _origins(resolved: Resolved) -> None:
    from ..trace import HIDDEN  # 30 ms that no completion need wait for

    names = [field.name for field in fields(Settings) if spelling_of(field.name).configurable]
    safe = replace(resolved.settings, option=shown_options(resolved.settings.option, HIDDEN))
    rows = [(name, one_line(shown(getattr(safe, name), spelling_of(name)))) for name in names]
    widths = max(len(name) for name, _ in rows), min(max(len(value) for _, value in rows), 40)
    for name, value in rows:
        say(f"{name:<{widths[0]}}  {value:<{widths[1]}}  {one_line(resolved.origins[name])}")


def _paths(config_file: str | None) -> None:
    """The user's file first, even where it is not there yet: that is the one to write."""
    import os

    if config_file is not None:
        say(one_line(config_file, 4096))
        return
    user = user_file()
    say(one_line(f"{user}{'' if user.is_file() else '  (not there yet)'}", 4096))
    if project := project_file(working_folder()):
        say(one_line(str(project), 4096))
    if os.environ.get("RLM_NO_CONFIG"):
        say("RLM_NO_CONFIG is set: none of them is read")


def completion(arguments: list[str], options: dict[str, Any]) -> int:
    """Print a shell's completions, made of the tables: works from a wheel, whose share folder no shell looks into."""
    from .completions import script

    if len(arguments) != 1 or arguments[0] not in SHELLS:
        raise UsageError(f"completion wants one of {', '.join(SHELLS)}", hint="rlm completion bash >> ~/.bashrc")
    say(script(arguments[0]).rstrip("\n"))
    return 0
