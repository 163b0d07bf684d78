"""The one table of settings: flags, `RLM_*` variables, TOML keys, `--help`, the man page and the completions come of it.

A setting is a field of `Settings`; its metadata says how it is spelled and who may set it, its help is the string
under the field. `cli/` makes parsers and documents of this table; the library takes the same names as keyword
arguments. One spelling to learn: flag `--max-budget` = `RLM_MAX_BUDGET` = key `max_budget`.

It stands outside `cli/` because the library and `run.py` need the resolved values too. Standard library only.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field, fields
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal

from .errors import ConfigError, UsageError

Kind = Literal["text", "path", "choice", "flag", "count", "list", "int", "size", "usd", "duration", "table", "codec"]
Project = Literal["yes", "lower", "no"]


@dataclass(frozen=True, slots=True)
class Spelling:
    """How one setting is written. `flags` empty: configuration only. `project`: what a project's file may do to it."""

    kind: Kind
    flags: tuple[str, ...] = ()
    metavar: str = ""
    group: str = ""
    choices: tuple[str, ...] = ()
    common: bool = False
    project: Project = "no"
    configurable: bool = True
    """False: makes sense for one question only (`--output`), so it is neither a variable nor a key."""
    negation: str = ""
    none: bool = False
    """The word `none` is allowed and means no limit."""
    minimum: float | None = None
    files: bool = False
    """The values of a list are files."""
    secret: bool = False
    """Never shown, kept in a trace, or read from a variable, which every process started from here would see."""

    @property
    def names_files(self) -> bool:
        return self.kind == "path" or self.files


def setting(default: Any, kind: Kind, *flags: str, **spelling: Any) -> Any:
    how = Spelling(kind, flags, **spelling)
    metadata = {"spelling": how}
    if isinstance(default, (list, dict)):
        return field(default_factory=lambda: type(default)(default), metadata=metadata)
    return field(default=default, metadata=metadata, repr=not how.secret)


# fmt: off
@dataclass(frozen=True, kw_only=True)
class Settings:
    """Every setting with its built-in default. Durations are seconds, sizes bytes, money USD."""

    # Input
    question_file: str | None = setting(None, "path", "-f", "--question-file", metavar="FILE", group="Input", configurable=False)
    """Read the question from FILE (- is stdin); every argument is then a source."""
    files_from: str | None = setting(None, "path", "--files-from", metavar="FILE", group="Input", configurable=False)
    """Read source paths from FILE, separated by newlines or NULs (- is stdin)."""
    globs: tuple[str, ...] = setting((), "list", "-g", "--glob", metavar="GLOB", group="Input", common=True, project="yes")
    """Only files that match GLOB; a leading ! excludes. Repeatable, the last match wins."""
    types: tuple[str, ...] = setting((), "list", "-t", "--type", metavar="TYPE", group="Input", project="yes")
    """Only files of TYPE: pdf, md, py, log and so on. Repeatable."""
    unrestricted: int = setting(0, "count", "-u", "--unrestricted", group="Input")
    """Read what ignore files exclude; -uu reads hidden files too."""
    strict_input: bool = setting(False, "flag", "--strict-input", group="Input")
    """Exit 4 when a file that was meant to be read could not be, or only with replacement characters."""

    # Models
    model: str | None = setting(None, "text", "-m", "--model", metavar="NAME", group="Models", common=True, project="yes")
    """The root model, as provider/model, a [models.NAME] of the configuration, or offline/extractive."""
    sub_model: str | None = setting(None, "text", "-M", "--sub-model", metavar="NAME", group="Models", common=True, project="yes")
    """The model for sub-calls. Default: the root model."""
    option: tuple[str, ...] = setting((), "list", "--option", metavar="KEY=VALUE", group="Models")
    """Pass KEY=VALUE to the model; sub.KEY=VALUE to the sub-model only. Repeatable."""
    local: bool = setting(False, "flag", "--local", group="Models")
    """Refuse every endpoint of a model that is not on this machine. URLs that you name are fetched all the same."""

    # Strategy
    mode: str = setting("auto", "choice", "--mode", choices=("auto", "rlm", "direct"), metavar="MODE", group="Strategy")
    """rlm works in the REPL, direct asks once with the whole text, auto takes direct for short texts and says so."""
    tool: tuple[str, ...] = setting((), "list", "--tool", metavar="FILE.py", group="Strategy", files=True)
    """Let code in the REPL call the public functions of FILE.py. They run outside the sandbox, with your rights. Repeatable."""

    samples: int = setting(1, "int", "--samples", metavar="N", group="Strategy", minimum=1)
    """Answer N times independently and hand over what most of them say."""

    # Limits
    max_budget: float | None = setting(1.0, "usd", "-b", "--max-budget", metavar="USD", group="Limits", common=True, project="lower", none=True, minimum=0)
    """Spend at most USD on the whole run; none for no cap."""
    max_tokens: int | None = setting(None, "int", "--max-tokens", metavar="N", group="Limits", project="lower", none=True, minimum=1)
    """Use at most N tokens of input and output in the whole run."""
    max_depth: int = setting(1, "int", "--max-depth", metavar="N", group="Limits", common=True, project="lower", minimum=1)
    """How deep calls may nest: 1 = sub-calls are plain model calls, 2 and more = sub-calls get a REPL of their own."""
    max_iterations: int = setting(20, "int", "--max-iterations", metavar="N", group="Limits", project="lower", minimum=1)
    """At most N replies with code per call."""
    max_subcalls: int = setting(200, "int", "--max-subcalls", metavar="N", group="Limits", project="lower", minimum=0)
    """At most N sub-calls in a run; each prompt of a batch counts."""
    timeout: float | None = setting(900.0, "duration", "--timeout", metavar="DURATION", group="Limits", common=True, project="lower", none=True, minimum=0)
    """Wall time of the whole run: 90s, 10m, 2h or none."""
    jobs: int = setting(8, "int", "-j", "--jobs", metavar="N", group="Limits", project="lower", minimum=1)
    """At most N requests in flight."""
    on_limit: str = setting("answer", "choice", "--on-limit", choices=("answer", "fail"), metavar="WHAT", group="Limits")
    """When a limit is reached: answer with what is known so far (exit 6), or fail with nothing (exit 6)."""

    # Run
    dry_run: bool = setting(False, "flag", "-n", "--dry-run", group="Run", common=True, configurable=False)
    """Show the plan: files, models, cost at most. Sends nothing."""
    yes: bool = setting(False, "flag", "-y", "--yes", group="Run", common=True, configurable=False)
    """Do not ask before a run that may cost more than confirm_above."""
    follow_up: bool = setting(False, "flag", "-c", "--continue", group="Run", common=True, configurable=False)
    """Go on from the last run with a new question: its documents, its variables, what was said."""
    run: str | None = setting(None, "text", "--run", metavar="RUN", group="Run", configurable=False)
    """With --continue: go on from RUN, the start of an id in rlm runs."""
    sandbox: str = setting("auto", "choice", "--sandbox", choices=("auto", "process", "container", "soft", "none"), metavar="NAME", group="Run")
    """Where the model's code runs: process and container are enforced by the kernel; soft and none are not and must be asked for. auto is process."""
    no_cache: bool = setting(False, "flag", "--no-cache", group="Run")
    """Ask every sub-call anew and extract every text anew: nothing on record is used, and nothing is put there."""
    no_save: bool = setting(False, "flag", "--no-save", group="Run")
    """Keep nothing of the run on disk: no trace, no result, no reply, no extracted text."""

    # Answer
    output: str | None = setting(None, "path", "-o", "--output", metavar="FILE", group="Answer", configurable=False)
    """Write the answer to FILE instead of stdout, whole or not at all."""
    json: bool = setting(False, "flag", "--json", group="Answer", common=True, configurable=False)
    """Print one JSON object with the answer, citations, coverage and cost."""
    jsonl: bool = setting(False, "flag", "--jsonl", group="Answer", configurable=False)
    """Print every event as a line of JSON; the last one is the result."""
    schema: str | None = setting(None, "text", "--schema", metavar="SPEC", group="Answer", common=True, project="yes")
    """The answer is JSON that satisfies SPEC: a JSON Schema, in a file or inline, or fields like 'party, amount float, signed date?', in [ ] for a list of such objects."""
    cite: bool = setting(True, "flag", "--cite", negation="--no-cite", group="Answer", project="yes")
    """Print numbered quotes with the place where each was found."""
    strict: bool = setting(False, "flag", "--strict", group="Answer", project="yes")
    """Exit 8 unless there is a quote and every quote was found, exact or approximate, in one document."""
    exit_status: bool = setting(False, "flag", "-e", "--exit-status", group="Answer", common=True, configurable=False)
    """A yes/no question: exit 0 for yes, 1 for no or not found, 8 for anything else."""
    trace: str | None = setting(None, "path", "--trace", metavar="FILE", group="Answer", configurable=False)
    """Write a second copy of the trace to FILE."""

    # Display
    progress: str = setting("auto", "choice", "--progress", choices=("auto", "tree", "plain", "none"), metavar="HOW", group="Display")
    """What stderr shows during the run: a live tree, plain lines or nothing."""
    quiet: bool = setting(False, "flag", "-q", "--quiet", group="Display", common=True)
    """Show errors only."""
    verbose: bool = setting(False, "flag", "-v", "--verbose", group="Display", common=True)
    """Show reasoning, code and REPL output as they happen, and the whole manifest."""
    color: str = setting("auto", "choice", "--color", choices=("auto", "always", "never"), metavar="WHEN", group="Display")
    """When to colour."""

    # Configuration only: what belongs to a machine, a project or a model
    retries: int = setting(4, "int", minimum=0)
    """How often a request that failed for a passing reason is sent again. A rate limit is no failure: it is waited for while time allows."""
    fallback: tuple[str, ...] = setting((), "list")
    """Models to ask instead, in this order, once one has no quota, is unknown to its provider or still fails after all retries. A [models.NAME] may have a list of its own."""
    confirm_above: float | None = setting(0.50, "usd", none=True, minimum=0)
    """On a terminal, ask before a run whose plan expects to cost more than this; none never asks."""
    unknown_price: str = setting("notice", "choice", choices=("notice", "error"))
    """With --max-budget and a model whose price is not known: notice says so and counts tokens, error refuses the run."""
    request_timeout: float = setting(300.0, "duration", minimum=0)
    """Seconds for one request to a model."""
    cell_timeout: float = setting(60.0, "duration", project="lower", minimum=0)
    """Seconds of computing for one piece of code; waiting for sub-calls does not count."""
    tool_timeout: float = setting(60.0, "duration", project="lower", minimum=0)
    """Seconds for one call of a function of --tool; its process is ended then, and a fresh one started for the next."""
    repl_memory: int = setting(1 << 30, "size", project="lower", minimum=64 << 20)
    """Memory of one REPL beside the corpus."""
    container_image: str = setting("docker.io/library/python:3.11-slim", "text")
    """Image for --sandbox container: any with Python 3.11 or newer. It is never pulled unasked."""
    context_memory: int = setting(256 << 20, "size", minimum=0)
    """Up to this size `context` is a plain str in the REPL, above it a lazy text."""
    direct_below: int = setting(12_000, "int", minimum=0)
    """Estimated tokens below which mode auto asks once with the whole text."""
    protocol: str = setting("auto", "choice", choices=("auto", "text", "tools"))
    """How the REPL is offered to a model: text, as a block of code to write; tools, as a function to call; auto, text until the model calls a function."""
    effort: str | None = setting(None, "choice", choices=("low", "medium", "high"), none=True)
    """How long models that can reason do so before they reply; none leaves it to them."""
    encoding: str = setting("auto", "codec")
    """Encoding of texts that have no byte order mark: auto finds out for each file, or the name of a codec like cp1252."""
    passwords: tuple[str, ...] = setting((), "list", secret=True)
    """Passwords that are tried on encrypted documents and archives, in order. In your own configuration only; never shown or kept."""
    ocr: bool = setting(False, "flag")
    """Read pages without a text layer by tesseract, where it is installed: seconds a page."""
    stdin_limit: int | None = setting(8 << 30, "size", none=True, minimum=1)
    """Read at most this much of stdin, or of another pipe, and go on with it; half of --timeout ends it too, so that tail -f can be asked about."""
    fetch_limit: int = setting(512 << 20, "size", minimum=1)
    """Skip a URL, or a file of a store, with more bytes than this."""
    texts_size: int = setting(1 << 30, "size", minimum=0)
    """Disk space for texts that were extracted from PDFs, office files and archives, so that it is done once; 0 keeps none."""
    transport: str = setting("auto", "choice", choices=("auto", "lean", "litellm"))
    """How models are asked: litellm speaks to every provider; lean is plain HTTP, fast to start, for those that speak OpenAI's chat completions; auto takes lean where it can."""
    corpora_size: int = setting(2 << 30, "size", minimum=0)
    """Disk space for the documents of past runs, for follow-up questions; half of it for one corpus at most."""
    cache_size: int = setting(256 << 20, "size", minimum=0)
    """Disk space for replies to sub-calls, which are used again for the same request; 0 keeps none."""
    cache_age: float = setting(7 * 86_400.0, "duration", minimum=0)
    """How long a reply is used again: 12h, 7d."""
    subcall_models: tuple[str, ...] = setting((), "list")
    """Further models that code in the REPL may name in llm_query(model=…)."""
    keys: dict[str, Any] = setting({}, "table")
    """Where API keys come from: [keys] PROVIDER = { env = "NAME" } or { command = "…" }."""
    models: dict[str, Any] = setting({}, "table")
    """Models of your own: [models.NAME] with model, api_base, base_model, window, max_output, price, rpm, tpm, fallback, protocol, effort, transport, options, key."""
# fmt: on


def spelling_of(name: str) -> Spelling:
    return _spellings()[name]


@cache
def _spellings() -> dict[str, Spelling]:
    return {f.name: f.metadata["spelling"] for f in fields(Settings)}


@cache
def helps() -> dict[str, str]:
    """Setting → its help: the strings under the fields, read from this file."""
    import ast

    tree = ast.parse(Path(__file__).read_text(encoding="utf-8"))
    body = next(n for n in tree.body if isinstance(n, ast.ClassDef) and n.name == "Settings").body
    found: dict[str, str] = {}
    for before, node in pairwise(body):
        match before, node:
            case ast.AnnAssign(target=ast.Name(id=name)), ast.Expr(value=ast.Constant(value=str(text))):
                found[name] = " ".join(text.split())
    return found


_SECRET_OPTION = re.compile(r"key|token|secret|auth|header|password|cookie", re.IGNORECASE)


def shown_options(options: tuple[str, ...], hidden: str) -> tuple[str, ...]:
    """Options of a model as they may be shown and kept: the value of one that may hold a credential is `hidden`."""
    return tuple(
        f"{option.partition('=')[0]}={hidden}" if _SECRET_OPTION.search(option) else option for option in options
    )


def variable(name: str) -> str:
    """The environment variable of a setting."""
    return f"RLM_{name.upper()}"


def parse(name: str, raw: Any, source: str) -> Any:
    """`raw`, from a flag, a variable or a TOML key, as the setting's type.

    `source` names where it came from, for the message (`--timeout`, `RLM_TIMEOUT`, `timeout in rlm.toml`).
    Raises `UsageError`.
    """
    how = spelling_of(name)
    if how.none and raw == "none":
        return None
    match how.kind:
        case "flag":
            value: Any = _flag(raw, source)
        case "choice":
            value = str(raw)
            if value not in how.choices:
                kind = ConfigError if name == "sandbox" else UsageError  # as an unknown model
                raise kind(f"{source}: {value!r} is not one of {', '.join(how.choices)}")
        case "int" | "count":
            value = _whole(raw, source)
        case "usd":
            value = _number(raw, source, "an amount in USD like 0.50", how.none)
        case "duration":
            value = _duration(raw, source, how.none)
            if value == 0:
                raise UsageError(f"{source}: nothing can be done in {raw}", hint="say none for no limit" * how.none)
        case "size":
            value = _size(raw, source)
        case "list":
            if isinstance(raw, str):
                raw = [part for part in raw.split("\n") if part] if "\n" in raw else [raw]
            if not isinstance(raw, (list, tuple)) or not all(isinstance(part, str) for part in raw):
                raise UsageError(f"{source}: a list of texts is wanted")
            value = tuple(raw)
        case "codec":
            value = _codec(raw, source)
        case "table":
            if not isinstance(raw, dict):
                raise UsageError(f"{source}: a table is wanted")
            value = raw
        case _:
            if not isinstance(raw, str):
                raise UsageError(f"{source}: a text is wanted")
            value = raw
    if how.minimum is not None and value is not None and value < how.minimum:
        raise UsageError(f"{source}: {raw} is below the least value, {how.minimum:g}")
    return value


def _flag(raw: Any, source: str) -> bool:
    words = {"1": True, "true": True, "yes": True, "on": True, "0": False, "false": False, "no": False, "off": False}
    if isinstance(raw, bool):
        return raw
    if isinstance(raw, str) and raw.lower() in words:
        return words[raw.lower()]
    raise UsageError(f"{source}: {raw!r} is neither true nor false")


def _whole(raw: Any, source: str) -> int:
    if isinstance(raw, int) and not isinstance(raw, bool):
        return raw
    if isinstance(raw, str) and re.fullmatch(r"\d{1,15}", raw):
        return int(raw)
    raise UsageError(f"{source}: {raw!r} is not a whole number")


def _number(raw: Any, source: str, wanted: str, none: bool) -> float:
    if isinstance(raw, (int, float)) and not isinstance(raw, bool) and raw == raw and abs(raw) != float("inf"):
        return float(raw)
    if isinstance(raw, str) and re.fullmatch(r"\$?(\d{1,12}(\.\d{0,12})?|\.\d{1,12})", raw):
        return float(raw.lstrip("$"))
    raise UsageError(f"{source}: {raw!r} is not {wanted}{' or none' if none else ''}")


def _duration(raw: Any, source: str, none: bool) -> float:
    if isinstance(raw, str):
        parts = re.fullmatch(r"(?=.)(?:(\d+)d)?(?:(\d+)h)?(?:(\d+)m)?(?:(\d+(?:\.\d+)?)s?)?", raw)
        if parts:
            days, hours, minutes, seconds = parts.groups(default="0")
            return int(days) * 86_400 + int(hours) * 3600 + int(minutes) * 60 + float(seconds)
    return _number(raw, source, "a duration like 90s or 10m", none)


def _size(raw: Any, source: str) -> int:
    if isinstance(raw, str):
        parts = re.fullmatch(r"(\d+)\s*([kKmMgG]?)(?:i?[bB])?", raw)
        if parts:
            return int(parts[1]) << 10 * " kmg".index(parts[2].lower() or " ")
    return _whole(raw, source)


def _codec(raw: Any, source: str) -> str:
    """`auto`, or a codec of text as Python calls it."""
    import codecs
    import difflib
    from encodings.aliases import aliases

    if raw == "auto":
        return "auto"
    try:
        found = codecs.lookup(raw)
        b"text".decode(found.name)  # LookupError for what is no encoding of text (base64, rot13)
        return found.name
    except (LookupError, TypeError, ValueError):
        names = sorted({name for pair in aliases.items() for name in pair})
        near = difflib.get_close_matches(str(raw).lower().replace("-", "_"), names, n=2)
        hint = f"did you mean {' or '.join(near)}?" if near else "auto, or a codec like utf-8, cp1252, shift_jis"
        raise UsageError(f"{source}: there is no encoding {str(raw)[:80]!r}", hint=hint) from None


def working_folder() -> Path:
    """Where we are; the root where that folder is gone."""
    try:
        return Path.cwd()
    except OSError:
        return Path("/")
