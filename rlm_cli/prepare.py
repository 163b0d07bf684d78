"""Everything before the first request: the models, the documents, the sandbox's level, the way to go.

What cannot work fails here, before anything is read or sent: first what costs nothing to check (models, keys), then the
documents, which are read in a thread so that the view stays alive while the model library warms up beside it.
`rlm ask` and `rlm ask -n` share all of this; only the first goes on to `run.py`.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from . import models
from . import schema as schemas
from .dispatch import output_limit
from .documents import CHARS_PER_TOKEN, Documents, gather, require_everything, require_something
from .errors import ConfigError, UsageError
from .events import Reading
from .ledger import Limits
from .models import Model
from .request import Emit
from .schema import YES_NO, Schema
from .settings import Settings

if TYPE_CHECKING:
    from . import sandbox
    from .earlier import Earlier
    from .models.replies import Replies
    from .tools import Tools


@dataclass(frozen=True)
class Job:
    """One question as it was asked. `origins`: setting → where its value came from. `stdin`: what `-` reads."""

    question: str
    sources: tuple[str, ...]
    settings: Settings = field(default_factory=Settings)
    origins: Mapping[str, str] = field(default_factory=dict)
    environ: Mapping[str, str] = field(default_factory=lambda: dict(os.environ))
    stdin: BinaryIO | None = None
    earlier: Earlier | None = None
    """The run that a follow-up question goes on from."""
    cache: Path | None = None
    """Where the documents are kept for such questions, and replies for the same requests; None keeps them nowhere."""
    careful: bool = False
    """Somebody relies on the answer unseen (CI, --json): no silent fallback to a model that is none."""

    @cached_property
    def schema(self) -> Schema | None:
        """What the answer must satisfy, read when it is first asked for. Raises `UsageError` where it is no schema."""
        s = self.settings
        if s.exit_status and s.schema is not None:
            raise UsageError("-e and --schema exclude each other", why="-e asks for one boolean", hint="leave one out")
        if s.exit_status:
            return YES_NO
        return None if s.schema is None else _schema_of(s.schema, self.origins.get("schema", "--schema"))

    @property
    def limits(self) -> Limits:
        s = self.settings
        return Limits(
            max_budget=s.max_budget,
            max_tokens=s.max_tokens,
            max_depth=s.max_depth,
            max_iterations=s.max_iterations,
            max_subcalls=s.max_subcalls,
            timeout_s=s.timeout,
            jobs=s.jobs,
            on_limit=s.on_limit,
        )


@dataclass(frozen=True)
class Models:
    """The run's models, connected. `others`: those that code in the REPL may name besides."""

    root: Model
    sub: Model
    others: dict[str, Model]
    fallback: bool
    """No language model was configured: `offline/extractive` stands in."""
    stand_ins: Mapping[str, tuple[Model, ...]] = field(default_factory=dict)
    """By a model's name those that are asked instead once it fails for good."""

    def named(self, name: str | None) -> Model | None:
        """The model code in the REPL asked for; None when it may not be used."""
        if name is None:
            return self.sub
        return {self.root.name: self.root, self.sub.name: self.sub, **self.others}.get(name)

    @property
    def all(self) -> list[Model]:
        """Every model that may be asked, each once."""
        stand_ins = [model for models in self.stand_ins.values() for model in models]
        return list({id(m): m for m in (self.root, self.sub, *self.others.values(), *stand_ins)}.values())

    @property
    def nameable(self) -> list[str]:
        """What code in the REPL may name."""
        return sorted({self.root.name, self.sub.name, *self.others})


def _schema_of(spec: str, source: str) -> Schema:
    """The schema of a SPEC. `source`: where it was given, for messages. Raises `UsageError`."""
    if not schemas.is_file(spec):
        return schemas.parse(spec, source)
    try:
        text = Path(spec.strip()).expanduser().read_text(encoding="utf-8-sig")
    except (OSError, ValueError, RuntimeError) as error:  # no such user's home is a RuntimeError
        why = getattr(error, "strerror", None) or ("it is not UTF-8" if isinstance(error, ValueError) else str(error))
        raise UsageError(f"{source}: {spec} cannot be read", why=why, hint="inline: 'party, amount float'") from None
    return schemas.parse(text, f"{source} {spec}")


def connect_models(job: Job) -> Models:
    """Choose and connect the models. Sends nothing.

    Raises `ConfigError` for one that cannot be used, `UsageError` for a schema that is none.
    """
    s = job.settings
    careful = job.careful or s.strict or job.schema is not None
    choice = models.choose(s.model, job.origins.get("model", "--model"), job.environ, careful=careful, keys=s.keys)
    settings: dict[str, Any] = {
        "models": s.models,
        "keys": s.keys,
        "options": s.option,
        "local": s.local,
        "environ": job.environ,
        "protocol": s.protocol,
        "effort": s.effort,
        "transport": s.transport,
    }
    root = models.connect(choice.name, **settings)
    sub_name = s.sub_model or choice.sub
    sub = root if sub_name == choice.name else models.connect(sub_name, **settings)
    others = {name: models.connect(name, **settings) for name in s.subcall_models}
    found = Models(root, sub, others, choice.fallback)
    found = replace(found, stand_ins=_stand_ins(found.all, s, settings))
    _require_prices(found, s)
    return found


def _stand_ins(asked: list[Model], s: Settings, settings: Mapping[str, Any]) -> dict[str, tuple[Model, ...]]:
    """By name those that the configuration names for it. Their own stand-ins are not followed: a list has an end."""
    connected = {model.name: model for model in asked}
    found: dict[str, tuple[Model, ...]] = {}
    for model in asked:
        names = s.models.get(model.name, {}).get("fallback", s.fallback)
        if model.name == models.OFFLINE:
            continue
        for name in names:
            if name == models.OFFLINE:
                why = "it is no language model, and nobody would see the change"
                raise ConfigError(f"fallback: {name} cannot stand in", why=why, hint="name a language model")
            if name not in connected:
                try:
                    connected[name] = models.connect(name, **settings)
                except ConfigError as error:
                    raise ConfigError(f"fallback: {error.message}", why=error.why, hint=error.hint) from None
        found[model.name] = tuple(connected[name] for name in dict.fromkeys(names) if name != model.name)
    return found


def _require_prices(found: Models, s: Settings) -> None:
    """Raises `ConfigError` for a budget that cannot hold, where the configuration wants that."""
    unknown = [model.name for model in found.all if model.price is None]
    if s.unknown_price == "error" and s.max_budget is not None and unknown:
        raise ConfigError(
            f"the price of {' and of '.join(unknown)} is not known",
            why='unknown_price = "error": --max-budget could not hold it',
            hint="[models.NAME] with price = { input = …, output = … }, or base_model; or --max-budget none",
        )


async def open_tools(job: Job, found: Models) -> Tools | None:
    """The user's own functions, loaded; None when there are none to call.

    Raises `UsageError` where nothing could call them, `ConfigError` for a file that cannot be used.
    """
    s = job.settings
    if not s.tool:
        return None
    if s.mode == "direct" or (job.earlier is not None and job.earlier.mode == "direct"):
        if not job.origins.get("tool", "--tool").startswith("-"):
            return None  # configured for other questions
        raise UsageError(
            "--tool is of no use in --mode direct",
            why="no code runs there that could call a function",
            hint="leave one of them out",
        )
    from . import sandbox
    from . import tools as user_tools

    environ = models.without_keys(job.environ, found.all)
    return await user_tools.open_tools(s.tool, environ=environ, timeout_s=s.tool_timeout, reserved=sandbox.OWN_NAMES)


async def read_documents(
    job: Job, emit: Emit, warm_up: Callable[[], None] = lambda: None, secrets: tuple[str, ...] = ()
) -> Documents:
    """Read every source into one corpus. `warm_up` is called once, after the first document: there is something to ask.
    No text with one of `secrets` is kept for the next run.

    Raises `SourceError` when nothing is readable, or with `strict_input` when something is not; `UsageError` when those
    of an earlier run are not kept.
    """
    if job.earlier is not None:
        warm_up()
        return await asyncio.to_thread(job.earlier.documents, corpora(job))
    warmed = False

    def progress(reading: Reading) -> None:
        nonlocal warmed
        if reading.files and not warmed:
            warmed = True
            warm_up()
        emit(reading, None)

    documents = await gather(job.sources, job.settings, job.stdin, progress, job.cache, secrets)
    require_something(documents)
    if not warmed:
        warm_up()
    if job.settings.strict_input:
        require_everything(documents)
    return documents


def corpora(job: Job) -> Path:
    """The folder of the kept corpora."""
    return (job.cache or Path("/nonexistent")) / "corpora"


def replies(job: Job, found: Models, tell: Callable[[str], None]) -> Replies | None:
    """The replies on record; None where none may be used or kept. `tell` hears what is wrong with them."""
    s = job.settings
    if job.cache is None or s.no_cache or s.no_save or not s.cache_size:
        return None
    from .models.replies import FILE, Replies

    secrets, file = models.secrets(found.all), job.cache / FILE
    return Replies(file, most_bytes=s.cache_size, oldest_s=s.cache_age, secrets=secrets, tell=tell)


def choose_mode(job: Job, documents: Documents, root: Model) -> str:
    """`rlm` or `direct`. Raises `UsageError` for a text too long for `--mode direct`, before any call."""
    s = job.settings
    room = root.window - output_limit(root, "direct")
    said, mode = job.question, s.mode
    if job.earlier is not None:
        mode = job.earlier.mode
        if s.mode not in ("auto", mode):
            raise UsageError(f"run {job.earlier.run} was answered with --mode {mode}", hint="leave out --mode")
        said += "".join(message.content for message in job.earlier.messages[1:])
    tokens = documents.tokens + int(len(said) / CHARS_PER_TOKEN)
    fits = tokens < room
    if mode == "direct" and not fits:
        raise UsageError(
            f"the text is too long for --mode direct: about {tokens:,} tokens with the question",
            why=f"{root.name} takes about {max(room, 0):,} beside its reply",
            hint="leave out --mode direct",
        )
    if mode == "auto":
        if s.tool:
            return "rlm"
        return "direct" if fits and tokens < s.direct_below else "rlm"
    return mode


def open_sandbox(job: Job, tools: Tools | None = None) -> sandbox.Sandbox:
    """The place where code will run; raises `SandboxError` below a level the kernel enforces, unless asked for."""
    from . import sandbox

    s = job.settings
    return sandbox.open_sandbox(
        s.sandbox,
        cell_timeout_s=s.cell_timeout,
        repl_memory=s.repl_memory,
        context_memory=s.context_memory,
        tools=() if tools is None else tools.tools,
        image=s.container_image,
    )
