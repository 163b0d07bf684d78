"""The parser: Typer, fed from the table of commands, with help and messages of our own.

A command's parser is built when it is called, from `commands.py`: flags are plain text, bool or a count for Typer, and
`settings.parse` turns them into values, so a message names the flag and pydantic stays unloaded. Environment and files
are `configuration.py`'s business; Typer sees the command line only.

A line without a command is never taken for a question: `rlm shwo d.txt` would cost money. It is refused with the line
to copy.

Rejected: one Python function with thirty-five annotated parameters, which is a second table of settings; Typer's rich
help, which eats `[brackets]` and takes twice the time.
"""

from __future__ import annotations

import inspect
import shlex
from collections.abc import Callable, Sequence
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer._coercion import bool_flag_type_descriptor
from typer.core import TyperCommand, TyperGroup, TyperOption
from typer.main import get_command_from_info, get_group
from typer.models import CommandInfo

from ..errors import UsageError
from .commands import GROUPS, SUMMARY, Command, Option, command_names, commands

if TYPE_CHECKING:
    from typer._click import Command as ClickCommand
    from typer._click import Context, HelpFormatter

WIDTH = {"max_content_width": 100}


def run(argv: list[str]) -> int:
    """Parse and run one command line (without the program's name). Returns the exit code; raises what went wrong."""
    group = get_group(
        typer.Typer(cls=Commands, rich_markup_mode=None, add_completion=False, help=SUMMARY, context_settings=WIDTH)
    )
    code = group.main(args=argv, prog_name="rlm", standalone_mode=False)
    return code if isinstance(code, int) else 0


def ask(arguments: list[str], options: dict[str, Any]) -> int:
    """Resolve the settings of a question and hand over to `cli.ask.run`."""
    from .configuration import resolve

    for_real = line(["ask", *_options_again(options), *(["--"] if any(map(_is_flag, arguments)) else []), *arguments])
    config_file = options.pop("config_file", None)
    if options.get("output") == "-":
        del options["output"]  # stdout, as everywhere
    if options.get("trace") == "-":
        raise UsageError("--trace writes to a file", hint="--jsonl prints the events on stdout")
    _refuse_contradictions(options)
    if options.get("question_file") is None and not arguments:
        raise UsageError("no question", hint='rlm ask "What does it say about …?" FILE')
    if options.get("question_file") is None:
        _refuse_swapped(arguments, options)
    resolved = resolve(options, config_file=config_file)
    if not resolved.settings.quiet:
        resolved.warn()
    question = None if options.get("question_file") is not None else arguments.pop(0)
    s = resolved.settings
    if not s.dry_run:
        warm_up_early = import_module("rlm_cli.models").warm_up_early
        warm_up_early(s.model, models=s.models, keys=s.keys, transport=s.transport)
    run = import_module("rlm_cli.cli.ask").run
    code: int = run(question, arguments, resolved.settings, resolved.origins, for_real)
    return code


def _options_again(options: dict[str, Any]) -> list[str]:
    """The options of `ask` as words again, but --dry-run: for a line to copy."""
    words: list[str] = []
    ask = next(command for command in commands() if command.name == "ask")
    for option in ask.options:
        flag, value = option.spelling.flags[0], options.get(option.name)
        match value:
            case _ if value is None or option.name == "dry_run":
                continue
            case bool():
                words.append(flag if value else option.spelling.negation)
            case int():
                words += [flag] * value
            case list():
                words += [word for part in value for word in (flag, part)]
            case _:
                words += [flag, value]
    return words


def _is_flag(word: str) -> bool:
    return word.startswith("-") and word != "-"


def _refuse_contradictions(options: dict[str, Any]) -> None:
    for one, other, flags in (
        ("quiet", "verbose", "-q and -v"),
        ("json", "jsonl", "--json and --jsonl"),
        ("exit_status", "schema", "-e and --schema"),
        ("dry_run", "json", "-n and --json"),
        ("dry_run", "jsonl", "-n and --jsonl"),
        ("dry_run", "output", "-n and -o"),
    ):
        if options.get(one) and options.get(other):
            raise UsageError(f"{flags} exclude each other", hint="leave one of them out")


def _refuse_swapped(arguments: list[str], options: dict[str, Any]) -> None:
    """`rlm ask ./contracts "Which …?"`: the first argument is a file and another one is none."""
    first, *others = arguments
    strays = [other for other in others if other != "-" and not _exists(other)]
    if not strays or not _exists(first) or _is_glob(strays[0]):
        return
    question = strays[0]
    sources = [word for word in arguments if word != question]
    raise UsageError(
        "the question comes first, then the sources",
        why=f"{first} is a file or folder, {question!r} is not",
        hint=f"did you mean: {line(['ask', *_options_again(options), question, *sources])}",
    )


def _is_glob(word: str) -> bool:
    """A pattern that found nothing, not a question of one word (`what?`)."""
    return " " not in word and any(mark in word.removesuffix("?") for mark in "*?[")


def _exists(path: str) -> bool:
    try:
        return Path(path).exists()
    except (OSError, ValueError):  # a question is longer than a name can be
        return False


def line(words: Sequence[str]) -> str:
    """A command line to copy."""
    return shlex.join(["rlm", *words])


class Commands(TyperGroup):
    """The group: builds the one command that was called, and its own short help without building any."""

    def __init__(self, **attributes: Any) -> None:
        super().__init__(**attributes)
        self.suggest_commands = False
        self.params.append(_short_help())

    def list_commands(self, ctx: Context) -> list[str]:
        return list(command_names())

    def get_command(self, ctx: Context, cmd_name: str) -> ClickCommand | None:
        return next((_parser(command) for command in commands() if command.name == cmd_name), None)

    def resolve_command(self, ctx: Context, args: list[str]) -> tuple[str | None, ClickCommand | None, list[str]]:
        command = self.get_command(ctx, args[0])
        if command is None:
            raise _no_such_command(args)
        return args[0], command, args[1:]

    def parse_args(self, ctx: Context, args: list[str]) -> list[str]:
        if not args:
            raise UsageError(
                "a command is wanted", why=", ".join(command_names()), hint='rlm ask "QUESTION" FILE…, or rlm -h'
            )
        if args[0].startswith("-") and args[0] not in ("-h", "--help", "--version", "--"):
            names = [word for word in args if word in command_names()]
            raise UsageError(
                f"{args[0]} stands before the command",
                why="options come after it",
                hint=line([names[0], "-h"]) if names else "rlm -h",
            )
        return super().parse_args(ctx, args)

    def get_help_option(self, ctx: Context) -> Any:
        return _as_typed(super().get_help_option(ctx))

    def format_options(self, ctx: Context, formatter: HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(command.name, command.help) for command in commands()])
        with formatter.section("Options"):
            formatter.write_dl(
                [
                    ("-h, --help", "Show this. rlm COMMAND -h: the common options; --help: all."),
                    ("--version", "Show the version."),
                ]
            )


def _no_such_command(args: list[str]) -> UsageError:
    """A question without its command gets the line to copy; a word that looks like a command the nearest names."""
    import difflib

    word = args[0]
    near = difflib.get_close_matches(word, command_names(), n=2)
    asked = " " in word or "?" in word
    if near and not asked:
        return UsageError(
            f"there is no command {word!r}", hint="did you mean: " + ", or ".join(line([n, *args[1:]]) for n in near)
        )
    if asked:
        return UsageError("a command is wanted before the question", hint=line(["ask", *args]))
    if _exists(word):
        return UsageError(
            f"there is no command {word!r}, but a file or folder", hint=f'rlm ask "QUESTION" {shlex.quote(word)}'
        )
    return UsageError(
        f"there is no command {word!r}",
        why="there are " + ", ".join(command_names()),
        hint=f"a question? {line(['ask', *args])}",
    )


class _Command(TyperCommand):
    """A command whose help is made of the table: grouped, `-h` the common options only."""

    described: Command

    def get_help_option(self, ctx: Context) -> Any:
        return _as_typed(super().get_help_option(ctx))

    def format_usage(self, ctx: Context, formatter: HelpFormatter) -> None:
        formatter.write_usage(ctx.command_path, f"[OPTIONS] {self.described.operands}".rstrip())

    def format_options(self, ctx: Context, formatter: HelpFormatter) -> None:
        short = bool(ctx.meta.get("rlm.short"))
        options = [
            o for o in self.described.options if o.spelling.common or not short or len(self.described.options) < 5
        ]
        if self.described.words:
            with formatter.section("Arguments"):
                formatter.write_dl(list(zip(self.described.words, self.described.word_helps, strict=True)))
        for group in GROUPS:
            if rows := [(written(o), explained(o)) for o in options if o.spelling.group == group]:
                with formatter.section(group):
                    formatter.write_dl(rows, col_max=30)
        more = "Show the common options; --help shows all." if len(self.described.options) >= 5 else "Show this."
        with formatter.section("Help"):
            formatter.write_dl([("-h, --help", more)], col_max=30)


def written(option: Option) -> str:
    """`-b, --max-budget USD`"""
    value = f" {option.spelling.metavar}" if option.takes_value else ""
    flags = list(option.spelling.flags)
    if flags[0].startswith("--"):
        flags[0] = f"    {flags[0]}"
    return ", ".join(flags) + (f" / {option.spelling.negation}" if option.spelling.negation else "") + value


def explained(option: Option) -> str:
    choices = f" One of {', '.join(option.spelling.choices)}." if option.spelling.choices else ""
    return option.help + choices + (f" [{option.default}]" if option.default else "")


def _parser(command: Command) -> ClickCommand:
    """Typer's command for an entry of the table."""

    def body(arguments: list[str], **options: Any) -> int:
        return _call(command, arguments or [], options)

    parameters = [_parameter("arguments", list[str], typer.Argument(metavar=command.operands or "ARGS"), [])]
    parameters += [_parameter(o.name, *_typed(o)) for o in command.options]
    body.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    body.__annotations__ = {p.name: p.annotation for p in parameters}
    info = CommandInfo(command.name, cls=_Command, callback=body, help=command.help, context_settings=dict(WIDTH))
    made = get_command_from_info(info, pretty_exceptions_short=False, rich_markup_mode=None)
    assert isinstance(made, _Command)
    made.described = command
    made.params.append(_short_help())
    for parameter in made.params:
        _as_typed(parameter)
    return made


class _AsTyped:
    """Stands where Typer would build a pydantic adapter (77 ms): what was typed is passed on as it is."""

    def coerce(self, value: Any, param: Any, ctx: Any) -> Any:
        return value


def _as_typed(parameter: Any) -> Any:
    parameter._runtime_param = _AsTyped()
    return parameter


def _parameter(name: str, annotation: Any, info: Any, default: Any) -> inspect.Parameter:
    return inspect.Parameter(
        name, inspect.Parameter.KEYWORD_ONLY, annotation=Annotated[annotation, info], default=default
    )


def _typed(option: Option) -> tuple[Any, Any, Any]:
    """Annotation, Typer's parameter and default: text, bool or count; what is not given stays None."""
    spelling = option.spelling
    match spelling.kind:
        case "flag":
            flags = [f"{flag}/{spelling.negation}" if spelling.negation else flag for flag in spelling.flags]
            return bool, typer.Option(*flags), None
        case "count":
            return int, typer.Option(*spelling.flags, count=True), 0
        case "list":
            return list[str], typer.Option(*spelling.flags, metavar=spelling.metavar), None
        case _:
            return str, typer.Option(*spelling.flags, metavar=spelling.metavar), None


def _short_help() -> Any:
    """`-h`. Typer's own help option stays `--help`; this one sets a mark and prints the same help through it."""

    def show(ctx: Context, param: Any, value: bool) -> None:
        if value and not ctx.resilient_parsing:
            ctx.meta["rlm.short"] = True
            typer.echo(ctx.get_help())
            raise typer.Exit(0)

    option = TyperOption(
        param_decls=["short_help", "-h"],
        type_descriptor=bool_flag_type_descriptor(),
        is_flag=True,
        is_eager=True,
        expose_value=False,
        hidden=True,
        callback=show,
    )
    return _as_typed(option)


def _call(command: Command, arguments: list[str], options: dict[str, Any]) -> int:
    if command.at_most is not None and len(arguments) > command.at_most:
        raise UsageError(
            f"rlm {command.name}: {arguments[command.at_most]!r} is one argument too many",
            hint=f"rlm {command.name} -h",
        )
    given = {name: value for name, value in options.items() if value not in (None, 0, []) or value is False}
    module, function = command.run.split(":")
    action: Callable[[list[str], dict[str, Any]], int] = getattr(import_module(f"rlm_cli.cli.{module}"), function)
    return action(arguments, given)
