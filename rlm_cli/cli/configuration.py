"""Where every setting gets its value: flag > `RLM_*` > project file > your file > built-in; and who may set what.

Each layer is a dict of parsed values with their origins; the first layer that names a setting decides it. A project
file (`rlm.toml`, or `[tool.rlm]` in `pyproject.toml`, the nearest upward from the working directory) is somebody
else's file: it may choose a model and lower limits, never open a sandbox, name an endpoint, run a command or raise
what you spend. What it may not do is an error, not ignored: a project that tries should be seen to try.

Secrets do not belong in files: `[keys]` names a variable or a command, and a key written there itself is refused
without being repeated.

Rejected: merging several project files up to the root, where a limit could come from a folder nobody looks at; `.env`
files. Unknown `RLM_*` variables are a warning, not an error: another program's variable must not stop this one.
"""

from __future__ import annotations

import difflib
import os
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from ..errors import ConfigError, UsageError
from ..schema import is_file
from ..settings import Settings, parse, spelling_of, variable, working_folder
from .commands import shown, variables
from .failure import warn

BUILT_IN = "built-in"
OUR_VARIABLES = frozenset(name for names, _ in variables() for name in names.split(", "))


@dataclass(frozen=True, slots=True)
class Layer:
    """Parsed values of one place. `origins`: setting → how the place is called in messages and traces."""

    values: dict[str, Any]
    origins: dict[str, str]


@dataclass(frozen=True, slots=True)
class Resolved:
    """Settings as they hold, where each came from, the files that were read, and what should be said about it."""

    settings: Settings
    origins: dict[str, str]
    files: tuple[Path, ...]
    warnings: tuple[str, ...]

    def warn(self) -> None:
        """Say the warnings on stderr."""
        for text in self.warnings:
            warn(text)


def resolve(
    flags: Mapping[str, Any],
    *,
    config_file: str | None = None,
    environ: Mapping[str, str] | None = None,
    folder: Path | None = None,
) -> Resolved:
    """Every setting, from all places.

    `flags`: setting → what the command line gave, raw, without what was not given. `folder`: where the search for a
    project file begins, default the working directory. Raises `UsageError` for a flag, `ConfigError` for the rest.
    """
    environ = os.environ if environ is None else environ
    origins_of_flags = {name: _flag(name, raw) for name, raw in flags.items()}
    told = Layer({n: parse(n, raw, origins_of_flags[n]) for n, raw in flags.items()}, origins_of_flags)
    variables_layer, warnings = _from_environment(environ)
    project, own, files = _from_files(config_file, environ, folder or working_folder())
    _only_lower(project, own)
    values: dict[str, Any] = {}
    origins = {field.name: BUILT_IN for field in fields(Settings)}
    for layer in (own, project, variables_layer, told):
        values |= layer.values
        origins |= layer.origins
    _settle_rivals(values, origins)
    return Resolved(Settings(**values), origins, tuple(files), tuple(warnings))


def _flag(name: str, raw: Any = None) -> str:
    spelling = spelling_of(name)
    return spelling.negation if raw is False and spelling.negation else spelling.flags[-1]


def _settle_rivals(values: dict[str, Any], origins: dict[str, str]) -> None:
    """`-v` on the command line wins over a configured `quiet`, and the other way round; `-e` over a `schema`."""
    for one, other in (("quiet", "verbose"), ("verbose", "quiet")):
        if values.get(one) and values.get(other) and origins[one].startswith("-"):
            values[other], origins[other] = False, f"{origins[one]}"
    if values.get("exit_status") and not origins["schema"].startswith("-"):
        values["schema"], origins["schema"] = None, origins["exit_status"]


# ── the environment ─────────────────────────────────────────────────────────────────────────────────────────────────


def _from_environment(environ: Mapping[str, str]) -> tuple[Layer, list[str]]:
    by_variable = {variable(field.name): field.name for field in fields(Settings)}
    layer, warnings = Layer({}, {}), []
    for name in sorted(name for name in environ if name.startswith("RLM_") and name not in OUR_VARIABLES):
        setting = by_variable.get(name)
        if setting is None:
            near = difflib.get_close_matches(name, [v for v, s in by_variable.items() if _in_variables(s)], n=1)
            warnings.append(f"{name} is not a setting" + (f"; did you mean {near[0]}?" if near else ""))
        elif not _in_variables(setting):
            where = f"use {_flag(setting)}" if spelling_of(setting).flags else "write it in a configuration file"
            warnings.append(f"{name} is not read: {where}")
        elif environ[name]:
            layer.values[setting] = _parse(setting, environ[name], name)
            layer.origins[setting] = name
    return layer, warnings


def _in_variables(name: str) -> bool:
    spelling = spelling_of(name)
    return spelling.configurable and spelling.kind != "table" and not spelling.secret


def _parse(name: str, raw: Any, source: str) -> Any:
    """`settings.parse`, where a wrong value is a matter of configuration (exit 3)."""
    try:
        return parse(name, raw, source)
    except UsageError as error:
        raise ConfigError(error.message, why=error.why, hint=error.hint) from None


# ── files ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def user_file() -> Path:
    """Your own configuration file; it need not exist."""
    import platformdirs

    return platformdirs.user_config_path("rlm") / "config.toml"


def state_folder() -> Path:
    """Where runs are kept; it need not exist."""
    import platformdirs

    return platformdirs.user_state_path("rlm")


def cache_folder() -> Path:
    """Where caches are; it need not exist."""
    import platformdirs

    return platformdirs.user_cache_path("rlm")


def project_file(folder: Path) -> Path | None:
    """The nearest `rlm.toml`, or `pyproject.toml` with a `[tool.rlm]`, from `folder` upward."""
    for place in (folder, *folder.parents):
        if (place / "rlm.toml").is_file():
            return place / "rlm.toml"
        pyproject = place / "pyproject.toml"
        if pyproject.is_file() and _mentions_us(pyproject):
            return pyproject
    return None


def _mentions_us(pyproject: Path) -> bool:
    """Another tool's broken pyproject is not our error; one that speaks of us is read and may fail."""
    import tomllib

    try:
        text = pyproject.read_bytes()
        tool = tomllib.loads(text.decode()).get("tool", {}) if b"rlm" in text else {}
    except OSError:
        return False
    except ValueError:
        return b"[tool.rlm" in text
    return isinstance(tool, dict) and "rlm" in tool


def _from_files(config_file: str | None, environ: Mapping[str, str], folder: Path) -> tuple[Layer, Layer, list[Path]]:
    """The project's layer, the user's layer, the files read. `--config` is the user's own word: no restrictions."""
    nothing = Layer({}, {})
    if config_file is not None:
        path = Path(config_file)
        return nothing, _layer(path, _read(path), str(path)), [path]
    if environ.get("RLM_NO_CONFIG"):
        return nothing, nothing, []
    files, project, own = [], nothing, nothing
    if found := project_file(folder):
        table = _read(found)
        if found.name == "pyproject.toml":
            tool = table.get("tool")
            table = tool.get("rlm", {}) if isinstance(tool, dict) else {}
            if not isinstance(table, dict):
                raise ConfigError(f"{found}: tool.rlm is no table", hint="[tool.rlm]")
        origin = os.path.relpath(found, folder)
        project = _layer(found, table, origin)
        _only_allowed(project, found)
        files.append(found)
    if (path := user_file()).is_file():
        own = _layer(path, _read(path), str(path))
        files.append(path)
    return project, own, files


def _read(path: Path) -> dict[str, Any]:
    import tomllib

    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"{path} cannot be read", why=error.strerror or str(error)) from None
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path} is not UTF-8", why=f"byte {error.start}") from None
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(*_toml_words(path, str(error)), hint="check the line; texts want quotation marks") from None


def _toml_words(path: Path, words: str) -> tuple[str]:
    """`FILE:LINE: what`; tomllib puts the place at the end of its words, before Python 3.14 only there."""
    import re

    place = re.search(r" \(at line (\d+), column (\d+)\)$", words)
    return (f"{path}:{place[1]}: {words[: place.start()]}" if place else f"{path}: {words}",)


def _layer(path: Path, table: Mapping[str, Any], origin: str) -> Layer:
    layer = Layer({}, {})
    for key, raw in table.items():
        _known(key, path)
        if key == "keys":
            _no_keys_inside(raw, path)
        elif key == "models":
            _check_models(raw, path)
        value = _parse(key, raw, f"{key} in {path}")
        if spelling_of(key).files:  # by that file's folder: what lies in the working directory may be anybody's
            value = tuple(str(path.absolute().parent / Path(name).expanduser()) for name in value)
        layer.values[key] = _beside(value, path) if key == "schema" else value
        layer.origins[key] = origin
    return layer


def _known(key: str, path: Path) -> None:
    keys = [field.name for field in fields(Settings) if spelling_of(field.name).configurable]
    if key in keys:
        return
    if key in {field.name for field in fields(Settings)}:
        raise ConfigError(f"{path}: {key} cannot be configured", why="it is for one question", hint=f"use {_flag(key)}")
    near = difflib.get_close_matches(key.replace("-", "_"), keys, n=2)
    hint = f"did you mean {' or '.join(near)}?" if near else "rlm config origins lists every key"
    raise ConfigError(f"{path}: there is no setting {key!r}", hint=hint)


def _no_keys_inside(raw: Any, path: Path) -> None:
    """`[keys]` says where a key is. The value is never repeated in a message: it may be the key itself."""
    from ..models.keys import check_place

    if not isinstance(raw, dict):
        raise ConfigError(f"{path}: keys is a table", hint='[keys]\nanthropic = { env = "MY_KEY" }')
    for provider, place in raw.items():
        check_place(f"{path}: keys.{provider}", place)


def _check_models(raw: Any, path: Path) -> None:
    """Every `[models.NAME]`, also those that this question does not use."""
    from ..models.connection import checked_table

    for name, table in _tables(raw, "models", path):
        try:
            checked_table(name, table)
        except ConfigError as error:
            raise ConfigError(f"{path}: {error.message}", why=error.why, hint=error.hint) from None


def _tables(raw: Any, name: str, path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    if not isinstance(raw, dict) or not all(isinstance(value, dict) for value in raw.values()):
        raise ConfigError(f"{path}: {name} holds tables only", hint=f"[{name}.NAME]")
    yield from raw.items()


# ── what a project's file may do ────────────────────────────────────────────────────────────────────────────────────


def _beside(spec: str, path: Path) -> str:
    """A schema's file is named from the folder of the file that names it, wherever the command is typed."""
    return str(path.parent / Path(spec).expanduser()) if is_file(spec) else spec


def _only_allowed(project: Layer, path: Path) -> None:
    spec = project.values.get("schema")
    if spec and is_file(spec) and path.parent.resolve() not in Path(spec).resolve().parents:
        raise ConfigError(
            f"{path} may not name a schema outside its folder",
            why="it goes to the model, and a project's file is somebody else's",
            hint="put it beside the project's file; RLM_NO_CONFIG=1 ignores files",
        )
    for key in project.values:
        if spelling_of(key).project == "no":
            raise ConfigError(
                f"{path} may not set {key}",
                why="a project's file is somebody else's: it may choose models and lower limits only",
                hint=f"write it in your own file, {user_file()}, or remove it there; RLM_NO_CONFIG=1 ignores files",
            )


def _only_lower(project: Layer, own: Layer) -> None:
    """A limit of the project's file may not be above what would hold without it (your file, else the built-in)."""
    built_in = Settings()
    for key, value in list(project.values.items()):
        spelling = spelling_of(key)
        if spelling.project != "lower":
            continue
        allowed = getattr(built_in, key)
        holds = own.values.get(key, allowed)
        if holds is not None and (value is None or value > holds):
            if value is not None and (allowed is None or value <= allowed):
                del project.values[key], project.origins[key]  # lower than the built-in; yours is lower still
                continue
            raise ConfigError(
                f"{project.origins[key]} may not raise {key} to {shown(value, spelling)}",
                why=f"{shown(holds, spelling)} holds without it, and a project's file may only lower limits",
                hint=f"set {key} in your own file, {user_file()}; RLM_NO_CONFIG=1 ignores files",
            )


def say(text: str = "") -> None:
    """One line of a command's own output on stdout; broken UTF-8 in a path does not stop it."""
    encoding = sys.stdout.encoding or "utf-8"
    print(text.encode(encoding, "replace").decode(encoding))
