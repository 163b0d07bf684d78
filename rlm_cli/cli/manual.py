"""The man page, man(7) written from the tables: no other source for an option, a variable or an exit code.

An own writer of the six macros it takes, because click-man drops every option in silence and a Markdown converter
would be a second language. `.TP` for what has a name, `.SH`, `.SS`, `.PP`, `.EX`. It lints clean with
`mandoc -Tlint -W warning` and `groff -man -ww`.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import fields
from enum import StrEnum

from .. import __version__
from ..events import UNKEPT
from ..ledger import StopReason
from ..result import SCHEMA, Citation, Located, Result, Status
from ..schema import SHORT_TYPES
from ..settings import Settings, helps, spelling_of, variable
from ..trace import TYPES
from .commands import CONFIG, GROUPS, SUMMARY, Command, Option, commands, exit_codes, shown, variables

DATE = "2026-11-24"
"""Of the last change worth a reader's notice; not the build's, so that the page is reproducible."""
ESCAPES = {"\\": "\\e", "-": "\\-", "'": "\\(aq", "`": "\\(ga", "^": "\\(ha", "~": "\\(ti", '"': "\\(dq"}
ESCAPES |= {"…": "\\&...", "“": "\\(lq", "”": "\\(rq", "–": "\\(en", "≤": "<="}
EXAMPLES = (
    ("What a folder says, with places", 'rlm ask "Which contracts allow termination without notice?" contracts/'),
    ("From a pipe", 'journalctl -b | rlm ask "Why did the backup fail?"'),
    ("What it would read and cost, nothing sent", 'rlm ask -n "Who signed?" contracts/'),
    ("At most ten cents, for a program", 'rlm ask -b 0.10 --json "Who signed?" contract.pdf | jq .answer'),
    ("Without a language model, no network", 'rlm ask -m offline/extractive "How is the budget capped?" README.md'),
)


def page() -> str:
    """rlm(1), with a final newline."""
    lines = [
        '.\\" Written by `python -m rlm_cli.cli.generate`; do not edit.',
        f'.TH RLM 1 {DATE} "rlm {__version__}" "User Commands"',
        *_section("NAME", ["rlm \\- " + _text(SUMMARY[0].lower() + SUMMARY[1:].rstrip("."))]),
        ".SH SYNOPSIS",
        *_synopsis(),
        *_section("DESCRIPTION", [*_paragraphs(DESCRIPTION)]),
        ".SH COMMANDS",
    ]
    for command in commands():
        lines += _command(command)
    lines += [".SH OPTIONS OF ASK", *_ask_options(), ".SH OPTIONS OF READ", *_read_options(), *_configuration()]
    lines += [".SH MODELS", *_models()]
    lines += [".SH SCHEMAS", *_paragraphs(SCHEMAS)]
    lines += [".SH ENVIRONMENT", *_paragraphs(ENVIRONMENT), *_environment()]
    lines += [".SH OUTPUT", *_output()]
    lines += [".SH FILES", *_items(FILES)]
    lines += [".SH EXIT STATUS", *_items(exit_codes())]
    lines += [".SH EXAMPLES", *_examples()]
    return "\n".join(lines) + "\n"


DESCRIPTION = (
    "rlm answers a question from documents that may be far longer than the window of any model. The documents become "
    "a variable in a Python session. A root model writes code that searches and slices them, and asks other models, "
    "or itself, about the pieces. Every quote in the answer is looked up by the program, which prints where it stands.",
    "The answer goes to stdout and nothing else does. Spending is capped, at "
    f"${Settings().max_budget:.2f} unless you say otherwise.",
    "A source is a file, a folder, a pattern or - for stdin. Without one stdin is read, where something is piped in.",
    "Options may stand before, between and after the arguments of a command; everything after -- is an argument.",
)
READ = (
    "rlm read prints the text as the session has it: of one document its text, of several each below a heading that "
    "ends in a word no document can know; pages begin with a form feed. No model is asked and no key needed. Exit code "
    "4 says that nothing is readable."
)
SCHEMAS = (
    "The SPEC of --schema is a JSON Schema, inline ({...}) or in a file, whose name has a dot or a slash in it; or the "
    "short form: fields separated by commas, or by line ends. A field is a name, perhaps a type, perhaps a colon and a "
    "description: 'party, amount float, signed date?, tags[]: as printed'. Types are "
    f"{', '.join(SHORT_TYPES)}; without one it is str. [] makes a list of it, ? allows null. In square brackets, it is "
    "a list of such objects: '[party, amount float]'.",
    "An answer that does not satisfy the schema goes back to the model, twice at most; then the exit code is 8. Values "
    'are changed only where nothing is lost by it, like "30" to 30 where an integer is wanted. The formats that are '
    "checked are date, date-time (the offset may be missing), email, ipv4, ipv6 and uuid. References stay within the "
    "schema: nothing is fetched. Stdout is the value as JSON and nothing else; quotes are on stderr and in --json.",
)
ENVIRONMENT = (
    "Every setting that can be configured is also a variable: RLM_ and its name in capitals, like RLM_MAX_BUDGET for "
    "--max-budget. A flag wins over the variable, the variable over the files. In a list, values are separated by "
    "newlines. The keys of model providers are read from their usual variables, like ANTHROPIC_API_KEY.",
)
FILES = (
    (
        "rlm.toml, or [tool.rlm] in pyproject.toml",
        "The project's configuration, the nearest from the working directory upward. It may choose models, patterns "
        "and citations, and lower limits; anything else in it is an error.",
    ),
    ("~/.config/rlm/config.toml", "Your own configuration. rlm config path prints where it is."),
    (
        "~/.local/state/rlm/runs/RUN/",
        "What a run left: trace.jsonl, every event of it, and result.json. Readable by you only.",
    ),
    (
        "~/.cache/rlm/",
        "What is used again; rlm cache says how much there is, and removes it. corpora/ holds the documents of past "
        "runs, for -c. replies.sqlite holds replies to sub-calls: the same request to the same model at the same "
        "address with the same options gets the reply on record, for nothing, whatever the temperature, until it is "
        "older than cache_age; --no-cache asks anew. The root model is always asked, and each trajectory of --samples "
        "has records of its own. Readable by you only; prompts are not in it.",
    ),
)


def _text(text: str) -> str:
    """Escaped for man(7); a line may begin with anything."""
    escaped = "".join(ESCAPES.get(letter, letter) for letter in text)
    return f"\\&{escaped}" if escaped.startswith((".", "'")) else escaped


def _section(title: str, lines: Iterable[str]) -> list[str]:
    return [f".SH {title}", *lines]


def _paragraphs(texts: Iterable[str]) -> list[str]:
    lines: list[str] = []
    for n, text in enumerate(texts):
        lines += ([".PP"] if n else []) + [_text(text)]
    return lines


def _items(pairs: Iterable[tuple[str, str]]) -> list[str]:
    return [line for name, help_ in pairs for line in (".TP", f".B {_quoted(name)}", _text(help_))]


def _quoted(name: str) -> str:
    return f'"{_text(name)}"' if " " in name else _text(name)


def _synopsis() -> list[str]:
    lines = []
    for n, command in enumerate(commands()):
        options = " [\\fIOPTION\\fR]..." if command.options else ""
        lines += ([".br"] if n else []) + [f"\\fBrlm {command.name}\\fR{options} {_text(command.operands)}".rstrip()]
    return [*lines, ".br", "\\fBrlm \\-\\-version\\fR"]


def _command(command: Command) -> list[str]:
    lines = [".TP", f"\\fBrlm {command.name}\\fR {_text(command.operands)}".rstrip(), _text(command.help)]
    for word, help_ in zip(command.words, command.word_helps, strict=True):
        lines += [".br", f"\\fB{_text(word)}\\fR: {_text(help_)}"]
    return lines


def _ask_options() -> list[str]:
    ask = next(command for command in commands() if command.name == "ask")
    lines = []
    for group in GROUPS:
        lines.append(f".SS {group}")
        for option in (option for option in ask.options if option.spelling.group == group):
            lines += [".TP", _flags(option), _text(_help(option))]
    return lines


def _read_options() -> list[str]:
    """Those that mean something else there; the others by name."""
    read = next(command for command in commands() if command.name == "read")
    own = [option for option in read.options if option.own_help and option is not CONFIG]
    same = ", ".join(option.spelling.flags[-1] for option in read.options if option not in own)
    lines = [line for option in own for line in (".TP", _flags(option), _text(_help(option)))]
    return [*_paragraphs([READ, f"As with ask: {same}."]), *lines]


def _flags(option: Option) -> str:
    value = f" \\fI{_text(option.spelling.metavar)}\\fR" if option.takes_value else ""
    return ", ".join(f"\\fB{_text(flag)}\\fR" for flag in option.all_flags) + value


def _help(option: Option) -> str:
    choices = f" One of {', '.join(option.spelling.choices)}." if option.spelling.choices else ""
    return option.help + choices + (f" Default: {option.default}." if option.default else "")


def _configuration() -> list[str]:
    """Keys that have no flag: they belong to a machine, a project or a model."""
    lines = [".SH CONFIGURATION", *_paragraphs(CONFIGURATION)]
    built_in = Settings()
    for field in fields(Settings):
        spelling = spelling_of(field.name)
        if spelling.flags:
            continue
        value = "" if spelling.kind == "table" else f" Default: {shown(getattr(built_in, field.name), spelling)}."
        lines += [".TP", f".B {_text(field.name)}", _text(helps()[field.name] + value)]
    return lines


CONFIGURATION = (
    "Configuration is TOML. A key is the long name of an option with underscores, max_budget = 2.00; --glob and --type "
    "take lists and are called globs and types. rlm config "
    "origins prints every setting, its value and where it comes from. Some settings have no option:",
)


def _models() -> list[str]:
    """Which model answers, and the table of defaults."""
    from ..models.listing import default_models
    from .topics import OWN_SERVERS, WHICH_MODEL

    rows = [
        (name, f"{variables}: {root}" + ("" if sub == root else f", sub-calls by {sub}"))
        for name, variables, root, sub in default_models()
    ]
    before = _paragraphs((*WHICH_MODEL, "Default models, by the key that is there; the first that has one decides:"))
    return [*before, *_items(rows), *(line for text in OWN_SERVERS for line in (".PP", _text(text)))]


def _environment() -> list[str]:
    lines = []
    for field in fields(Settings):
        spelling = spelling_of(field.name)
        if spelling.flags and spelling.configurable:
            lines += [".TP", f".B {_text(variable(field.name))}", f"Sets \\fB{_text(spelling.flags[-1])}\\fR."]
    return lines + _items(variables())


def _output() -> list[str]:
    """The two forms for programs, read from the values they are made of."""
    citation = Citation(1, "", Located.EXACT)
    result = Result("", citations=[citation]).to_json()
    kinds = ["blob", *(kind for kind, event in TYPES.items() if event not in UNKEPT)]
    texts = (
        f"With --json, stdout is one object, {SCHEMA}. Every key is always there, null where nothing is known: "
        f"{', '.join(result)}.",
        f"status is {_or(Status)}. stop_reason is {_or(StopReason)}. A citation has {', '.join(citation.to_json())}; "
        f"located is {_or(Located)}. A cost that is not known is null, never 0.",
        "answer is text; with --schema or -e it is the value itself, and status is invalid where it does not satisfy "
        "what was asked: it is then the last one that was handed over.",
        "With --jsonl, stdout is the trace of the run, rlm.trace/1, an event a line: v, run, seq (without gaps), t "
        "(seconds), type, call (the address: 0, 0.3, 0.3.1), and what the type carries. Types: "
        f'{", ".join(kinds)}. A long text stands once, in a blob, and as {{"blob": sha256}} elsewhere. The last event, '
        "run.finished, holds the object of --json as result.",
    )
    return _paragraphs(texts)


def _or(words: type[StrEnum]) -> str:
    *most, last = (str(word) for word in words)
    return f"{', '.join(most)} or {last}"


def _examples() -> list[str]:
    lines = []
    for title, line in EXAMPLES:
        lines += [".PP", _text(title) + ":", ".PP", ".EX", f"    {_text(line)}", ".EE"]
    return lines[1:]
