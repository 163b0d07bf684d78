"""`rlm doctor`: is everything there that `rlm ask` needs, and what to do where it is not.

A line a check: `ok`, `note` (works, but less than it could) or `fix` with what to do. Exit 0 when `rlm ask` can work
here, 1 when a `fix` stands in the way. No network but loopback, where servers for models are looked for, and no key is
ever printed: only where one was found.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any, Literal

from ..errors import RlmError
from ..read import formats
from ..settings import Settings, working_folder
from ..views import is_live, use_color
from ..views.safe import one_line
from .configuration import project_file, resolve, say, state_folder, user_file


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of the report."""

    level: Literal["ok", "note", "fix"]
    subject: str
    text: str


def doctor(arguments: list[str], options: dict[str, Any]) -> int:
    """Print every finding; returns 1 when something has to be fixed before `rlm ask` can work."""
    worst = 0
    for finding in findings(options.get("config_file")):
        say(f"{finding.level:<4}  {finding.subject:<13}  {one_line(finding.text, 2_000)}")
        worst |= finding.level == "fix"
    return int(worst)


def findings(config_file: str | None) -> Iterator[Finding]:
    """Every check in turn; a check that raises is a finding, not the end."""
    settings = Settings()
    try:
        resolved = resolve({}, config_file=config_file)
        settings = resolved.settings
        yield from _files(resolved.files, config_file)
        for warning in resolved.warnings:
            yield Finding("note", "configuration", warning)
    except RlmError as error:
        yield Finding("fix", "configuration", _told(error))
    checks: tuple[tuple[str, Callable[[Settings], Iterator[Finding]]], ...] = (
        ("keys", _keys),
        ("model", _model),
        ("servers", _servers),
        ("sandbox", _sandbox),
        ("container", _container),
        ("readers", _readers),
        ("state", _state),
        ("terminal", _terminal),
    )
    for subject, check in checks:
        try:
            yield from check(settings)
        except RlmError as error:
            yield Finding("fix", subject, _told(error))


def _told(error: RlmError) -> str:
    return f"{error}{f' · try: {error.hint}' if error.hint else ''}"


def _files(files: tuple[Path, ...], config_file: str | None) -> Iterator[Finding]:
    if not files:
        ignored = os.environ.get("RLM_NO_CONFIG") and (project_file(working_folder()) or user_file().is_file())
        yield Finding(
            "ok", "configuration", "ignored: RLM_NO_CONFIG is set" if ignored else f"none; yours would be {user_file()}"
        )
    for path in files:
        yield Finding("ok", "configuration", str(path))


def _keys(settings: Settings) -> Iterator[Finding]:
    from ..models.catalog import PROVIDERS
    from ..models.keys import in_environment

    there = [(p.name, in_environment(p, os.environ)) for p in PROVIDERS]
    found = dict.fromkeys(f"{name} ({variable})" for name, variable in there if variable)
    found |= dict.fromkeys(f"{name} ([keys] of the configuration)" for name in settings.keys)
    if found:
        yield Finding("ok", "keys", ", ".join(found))
    else:
        yield Finding(
            "note", "keys", "none; export ANTHROPIC_API_KEY=… or another provider's, or use a server of your own"
        )


def _model(settings: Settings) -> Iterator[Finding]:
    from .. import models, prepare

    choice = models.choose(settings.model, "the configuration", os.environ, keys=settings.keys)
    connected = prepare.connect_models(prepare.Job("", (), settings, {}))  # what cannot be used raises
    level: Literal["ok", "note"] = "note" if choice.name == models.OFFLINE else "ok"
    more = "; no language model: choose one with -m" if level == "note" else ""
    sub = f", sub-calls by {connected.sub.name}" if connected.sub is not connected.root else ""
    yield Finding(level, "model", f"{choice.name}, because of {choice.origin}{sub}{more}")
    for model in connected.all:
        if model.transport == "lean":
            yield Finding("ok", "transport", f"{model.name}: lean, plain HTTP to {model.endpoint}")
        elif model.transport:
            yield Finding("ok", "transport", f"{model.name}: {model.transport} {metadata.version('litellm')}")


def _servers(settings: Settings) -> Iterator[Finding]:
    """Who answers of those that people run on their machine, as `rlm models` finds them."""
    from ..models.servers import running

    found = running(os.environ)
    for server in found:
        told = f"{server.kind.name} answers at {server.address}"
        lines = [f'{server.words(served)} "QUESTION" FILE' for served in (server.models or ())[:1]]
        yield Finding("ok", "servers", " · ".join([told, *lines, *(["rlm models lists the others"] * bool(lines))]))
    if not found:
        yield Finding("ok", "servers", "none for models answers on this machine")


def _sandbox(settings: Settings) -> Iterator[Finding]:
    import asyncio

    from .. import prepare
    from ..sandbox import KERNEL_ENFORCED

    sandbox = prepare.open_sandbox(prepare.Job("", (), settings, {}))
    try:
        proof = sandbox.proof
    finally:
        asyncio.run(sandbox.close())
    enforced = proof.level in KERNEL_ENFORCED
    told = f"; code cannot {', '.join(proof.refused)}" if enforced else ", not enforced by the kernel"
    yield Finding("ok" if enforced else "note", "sandbox", f"{settings.sandbox}: {proof.level}{told}")


def _container(settings: Settings) -> Iterator[Finding]:
    """What `--sandbox container` would find; an engine is asked, nothing is started or pulled."""
    from ..sandbox.container import find_engine

    needed: Literal["note", "fix"] = "fix" if settings.sandbox == "container" else "note"
    image = settings.container_image
    try:
        engine = find_engine()
    except RlmError as error:
        yield Finding(needed, "container", _told(error))
        return
    told = f"{engine.name} {engine.version}{', rootless' if engine.rootless else ''}"
    if engine.has(image):
        yield Finding("ok", "container", f"{told}, {image} is there")
    else:
        yield Finding(needed, "container", f"{told}, {image} is not there · try: {engine.name} pull {image}")


def _readers(settings: Settings) -> Iterator[Finding]:
    for package, reads in (
        ("pypdfium2", "PDF"),
        ("pypdf", "PDF"),
        ("chardet", "text encodings"),
    ):
        try:
            yield Finding("ok", "readers", f"{package} {metadata.version(package)} ({reads})")
        except metadata.PackageNotFoundError:
            yield Finding(
                "fix", "readers", f"{package} is not installed ({reads}) · try: pip install --force-reinstall rlm-cli"
            )
    others = formats.third_party()
    for suffix, reader, package in formats.offered():
        used = suffix in others and others[suffix].reader == reader
        instead = f"{others[suffix].reader} does" if suffix in others else "rlm reads it itself"
        why = "" if used else f" · not used: {instead}"
        yield Finding("ok" if used else "note", "readers", f"{package} {reader} ({suffix}){why}")


def _state(settings: Settings) -> Iterator[Finding]:
    """Writable, tried at the nearest folder that exists: looking must not make folders."""
    folder = state_folder()
    nearest = next(place for place in (folder, *folder.parents) if place.exists())
    if nearest.is_dir() and os.access(nearest, os.W_OK | os.X_OK):
        yield Finding("ok", "state", f"{folder} can be written")
    else:
        yield Finding("fix", "state", f"{nearest} cannot be written · try: export XDG_STATE_HOME=FOLDER")


def _terminal(settings: Settings) -> Iterator[Finding]:
    live = "live tree" if is_live(sys.stderr, os.environ) else "plain lines (stderr is no terminal, or CI is set)"
    colour = "colour" if use_color(settings.color, sys.stderr, os.environ) else "no colour"
    yield Finding("ok", "terminal", f"{live}, {colour}, {sys.stderr.encoding}")
