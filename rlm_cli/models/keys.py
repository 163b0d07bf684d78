"""Where an API key comes from, and that it is there before anything is sent.

Order: `key` of a `[models.NAME]`, `[keys] PROVIDER`, the provider's variable in the environment. A key never stands in
a configuration file: both hold a variable's name or a command. It is looked up before the first request because
litellm reports a missing key as a server error (500), which would be retried.

No message here ever contains a key, nor what a key's command printed.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

from ..errors import ConfigError
from .catalog import Provider

COMMAND_TIMEOUT_S = 60.0
"""A password store may ask a person."""
_MASKED = re.compile(r"\S*(?:\*{2,}|…|\.{3,})\S*")


def look_up(entry: tuple[str, object] | None, variables: Sequence[str], environ: Mapping[str, str]) -> str | None:
    """The key, or None where there is none: by the configuration's entry (its name and value), else a variable.

    Raises `ConfigError` when an entry is there and gives no key.
    """
    if entry is not None:
        return _clean(_configured(*entry, environ), entry[0])
    for variable in variables:
        if environ.get(variable, "").strip():
            return _clean(environ[variable], variable)
    return None


def check_place(name: str, entry: object) -> None:
    """Raises `ConfigError` for what is neither a variable's name nor a command; never repeats it: it may be the key."""
    match entry:
        case {"env": str(), **rest} | {"command": str(), **rest} if not rest:
            return
    raise ConfigError(
        f"{name} is neither {{ env = … }} nor {{ command = … }}",
        why="a key itself has no place in a configuration file: those end up in backups and repositories",
        hint='{ env = "MY_KEY" } or { command = "pass show my-key" }',
    )


def in_environment(provider: Provider, environ: Mapping[str, str]) -> str | None:
    """The variable that holds the provider's key, None when none does."""
    return next((variable for variable in provider.variables if environ.get(variable, "").strip()), None)


def _configured(name: str, entry: Any, environ: Mapping[str, str]) -> str:
    check_place(name, entry)
    if "command" in entry:
        return _printed_by(name, entry["command"])
    variable: str = entry["env"]
    if not environ.get(variable, "").strip():
        # Somebody may have written the key itself there.
        shown = variable if re.fullmatch(r"[A-Z_][A-Z0-9_]{0,60}", variable) else "it names (not shown: is it a key?)"
        raise ConfigError(f"{name}: the variable {shown} is not set", hint="export it, or name another one")
    return environ[variable]


@cache
def _printed_by(name: str, command: str) -> str:
    """First line of what the command prints, as password stores have it. No shell. Asked once a process."""
    import shlex
    import subprocess

    try:
        done = subprocess.run(
            shlex.split(command), stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=COMMAND_TIMEOUT_S
        )
    except ValueError:
        raise ConfigError(f"{name}: the command's quotes do not match") from None
    except (OSError, IndexError) as error:
        why = error.strerror if isinstance(error, OSError) and error.strerror else "it is empty"
        raise ConfigError(f"{name}: the command could not be run", why=why) from None
    except subprocess.TimeoutExpired:
        raise ConfigError(f"{name}: the command did not end within {COMMAND_TIMEOUT_S:.0f} s") from None
    if done.returncode:
        raise ConfigError(f"{name}: the command failed with exit status {done.returncode}", hint="run it by hand")
    lines = done.stdout.strip().splitlines()
    if not lines:
        raise ConfigError(f"{name}: the command printed nothing", hint="run it by hand")
    return lines[0]


def _clean(key: str, source: str) -> str:
    key = key.strip()
    if not key.isascii() or not key.isprintable() or " " in key:
        raise ConfigError(f"{source} holds characters that no key has", why="a line break or a space in it?")
    return key


def scrub(text: str, key: str | None) -> str:
    """`text` without the key, whole or in pieces of eight characters, or masked as `sk-…abcd`."""
    if not key or len(key) < 8:
        return text
    text = text.replace(key, "[key]")
    pieces = {key[i : i + 8] for i in range(len(key) - 7)}
    if any(piece in text for piece in pieces):
        text = " ".join("[key]" if any(p in word for p in pieces) else word for word in text.split(" "))
    return _MASKED.sub(lambda word: "[key]" if key[:3] in word[0] or key[-3:] in word[0] else word[0], text)
