"""What can be typed: one table of commands, as `settings.py` is the one table of settings.

Parser, `-h`, `--help`, man page and completions are all made of these two tables, so none of them can drift. A
command names the function that does its work; it is imported when the command is called. Standard library only.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace

from ..settings import Settings, Spelling, helps, spelling_of

SUMMARY = "Ask questions of documents too long for any model's window."
GROUPS = ("Input", "Models", "Strategy", "Limits", "Run", "Answer", "Display")
SHELLS = ("bash", "zsh", "fish")
TOPICS = (
    ("environment", "every variable that is read"),
    ("exit-codes", "what the exit code says"),
    ("output", "the JSON Schema of --json"),
    ("sandbox", "where code runs: the levels, what is promised and what is not"),
    ("config", "files, and who may set what"),
    ("repl", "what a model finds in the Python session"),
    ("models", "which model answers, default models by provider, local servers, rlm models --json"),
)
"""Of `rlm help`: name, what it explains."""


@dataclass(frozen=True, slots=True)
class Option:
    """One option of a command. `name` is the setting's name, or the keyword of a command's own option."""

    name: str
    spelling: Spelling
    default: str = ""
    """As the help shows it; empty when there is nothing to say."""
    own_help: str = ""

    @property
    def help(self) -> str:
        """Read from the table of settings when it is shown only: a run does not pay for it."""
        return self.own_help or helps()[self.name]

    @property
    def takes_value(self) -> bool:
        return self.spelling.kind not in ("flag", "count")

    @property
    def all_flags(self) -> tuple[str, ...]:
        return self.spelling.flags + ((self.spelling.negation,) if self.spelling.negation else ())


@dataclass(frozen=True, slots=True)
class Command:
    """One command. `words` are the values its first argument can have; `operands` how its arguments are shown."""

    name: str
    operands: str
    help: str
    run: str
    """`module:function`, below `rlm_cli.cli`: `(arguments, options) -> exit code`."""
    options: tuple[Option, ...] = ()
    words: tuple[str, ...] = ()
    word_helps: tuple[str, ...] = ()
    at_most: int | None = None
    """How many arguments it takes; None = any number."""

    @property
    def takes_sources(self) -> bool:
        return "SOURCE" in self.operands


def shown(value: object, spelling: Spelling) -> str:
    """A setting's value as a person writes it: 15m, 1.00, none."""
    if value is None:
        return "none"
    if spelling.secret and value:
        return "(hidden)"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float) and spelling.kind == "usd":
        return f"{value:.2f}" if round(value, 2) == value else f"{value:g}"
    if isinstance(value, (int, float)) and spelling.kind == "duration":
        if value and value % 86_400 == 0:
            return f"{value / 86_400:g}d"
        return f"{value / 60:g}m" if value >= 120 and value % 60 == 0 else f"{value:g}s"
    if isinstance(value, int) and spelling.kind == "size":
        for unit, size in (("G", 1 << 30), ("M", 1 << 20), ("K", 1 << 10)):
            if value and value % size == 0:
                return f"{value // size}{unit}"
    if isinstance(value, (list, tuple)):
        return ", ".join(str(part) for part in value) or "(empty)"
    if isinstance(value, dict):
        return ", ".join(sorted(value)) or "(empty)"
    return str(value)


def _setting_options() -> tuple[Option, ...]:
    built_in, found = Settings(), []
    for field in fields(Settings):
        spelling = spelling_of(field.name)
        if not spelling.flags:
            continue
        value = getattr(built_in, field.name)
        told = spelling.kind in ("choice", "int", "size", "usd", "duration")
        found.append(Option(field.name, spelling, shown(value, spelling) if told else ""))
    return tuple(found)


CONFIG = Option(
    "config_file",
    Spelling("path", ("--config",), metavar="FILE", group="Run", configurable=False),
    own_help="Read FILE instead of the project's and your own configuration.",
)


READ_OPTIONS = (
    "files_from", "globs", "types", "unrestricted", "strict_input", "timeout", "no_cache", "output", "json", "progress",
    "quiet", "verbose", "color",
)  # fmt: skip
"""The settings that `rlm read` has flags for. All of those of input, and what reading and printing need."""
READ_HELPS = {
    "timeout": "Half of it is how long a pipe that does not end is read: 90s, 10m, 2h or none.",
    "no_cache": "Extract every text anew, and keep none.",
    "output": "Write to FILE instead of stdout, whole or not at all.",
    "json": "With --list: one JSON object, rlm.manifest/1.",
    "progress": "What stderr shows while documents are read: a live line, plain lines or nothing.",
    "verbose": "Name what was skipped and what rules excluded.",
}
LIST = Option(
    "list",
    Spelling("flag", ("--list",), group="Answer", common=True, configurable=False),
    own_help="Print what became of every path instead: kind, encoding, size; skipped and why; excluded and by what.",
)


def _read_options(options: Sequence[Option]) -> tuple[Option, ...]:
    found = [replace(o, own_help=READ_HELPS.get(o.name, "")) for o in options if o.name in READ_OPTIONS]
    common = ("globs", "output", "json", "quiet", "verbose")
    found = [replace(o, spelling=replace(o.spelling, common=o.name in common)) for o in found]
    place = next(n for n, option in enumerate(found) if option.spelling.group == "Answer")
    return (*found[:place], CONFIG, LIST, *found[place:])


def commands() -> tuple[Command, ...]:
    """Every command, in the order of the help."""
    ask_options = list(_setting_options())
    place = max(n for n, option in enumerate(ask_options) if option.spelling.group == "Run") + 1
    ask_options.insert(place, CONFIG)
    return (
        Command(
            "ask", "QUESTION [SOURCE]...", "Answer a question from documents.", "app:ask", options=tuple(ask_options)
        ),
        Command(
            "read",
            "[SOURCE]...",
            "Print what a model would see: the text of documents, or what became of every path.",
            "reading:read",
            options=_read_options(ask_options),
        ),
        Command("show", "[RUN]", "Look at a run: its calls, its answer, its citations.", "look:show", at_most=1),
        Command("runs", "", "List the runs that were kept, the newest first.", "look:runs", at_most=0),
        Command(
            "models",
            "[NAME]",
            "Show what models can be used here: keys, windows, prices, servers on this machine.",
            "listing:models",
            options=(
                Option(
                    "check",
                    Spelling("flag", ("--check",), group="Run", configurable=False),
                    own_help="Make one tiny call to NAME, or to what a question would use.",
                ),
                CONFIG,
                Option(
                    "json",
                    Spelling("flag", ("--json",), group="Answer", configurable=False),
                    own_help="Print one JSON object, rlm.models/1: rlm help models describes it.",
                ),
            ),
            at_most=1,
        ),
        Command(
            "doctor",
            "",
            "Check keys, sandbox, readers and terminal; say what to fix.",
            "doctor:doctor",
            options=(CONFIG,),
            at_most=0,
        ),
        Command(
            "config",
            "origins|path",
            "Show every setting and where it comes from, or where the files are.",
            "setup:config",
            options=(CONFIG,),
            words=("origins", "path"),
            word_helps=("every setting, its value and where it comes from", "the files that are read"),
            at_most=1,
        ),
        Command(
            "cache",
            "stats|clear [NAME]",
            "Say what is kept to be used again, or remove it: all of it, or the cache of that name.",
            "cache:cache",
            options=(
                Option("json", Spelling("flag", ("--json",), group="Answer"), own_help="Print stats as JSON."),
                Option("yes", Spelling("flag", ("-y", "--yes"), group="Run"), own_help="Remove without asking."),
            ),
            words=("stats", "clear"),
            word_helps=(
                "each cache: how much, how old, how often used",
                "remove all of them, or the one named",
            ),
            at_most=2,
        ),
        Command(
            "completion",
            "bash|zsh|fish",
            "Print the completions of a shell.",
            "setup:completion",
            words=SHELLS,
            word_helps=("for ~/.bashrc", "for ~/.zshrc", "for config.fish"),
            at_most=1,
        ),
        Command(
            "help",
            "[TOPIC]",
            "Explain a topic; without one, list them.",
            "topics:help_",
            words=tuple(topic for topic, _ in TOPICS),
            word_helps=tuple(text for _, text in TOPICS),
            at_most=1,
        ),
    )


def command_names() -> Sequence[str]:
    return [command.name for command in commands()]


def variables() -> tuple[tuple[str, str], ...]:
    """Environment variables that are not settings: name, help."""
    return (
        ("RLM_NO_CONFIG", "When not empty, no configuration file is read."),
        ("RLM_DEBUG", "When not empty, an internal error shows its traceback."),
        ("NO_COLOR", "When not empty, no colour (--color decides first)."),
        ("FORCE_COLOR, CLICOLOR_FORCE", "When neither empty nor 0, colour even where stdout is no terminal."),
        ("CI", "When not empty, no live view and no answer without a language model unless it was asked for."),
    )


def exit_codes() -> tuple[tuple[str, str], ...]:
    return (
        ("0", "answered, or the documents do not answer; also when the reader of a pipe went away"),
        ("1", "with -e: no, or not found; rlm doctor: something has to be fixed"),
        ("2", "the command line is wrong; also a text too long for --mode direct"),
        ("3", "configuration, credentials, unknown model or sandbox"),
        ("4", "nothing readable among the sources"),
        ("5", "the provider failed, after retries"),
        ("6", "a limit ended the run: a partial answer, or nothing with --on-limit fail"),
        ("7", "the sandbox could not start or died"),
        ("8", "the answer does not satisfy --schema, -e or --strict; nothing on stdout, the last value in --json"),
        ("70", "internal error, or stdout could not be written"),
        ("129, 130, 143", "stopped by SIGHUP, SIGINT, SIGTERM"),
    )
