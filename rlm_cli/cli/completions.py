"""Static completions of bash, zsh and fish, written from the table of commands.

Static, because a TAB that starts Python costs 190–590 ms and these cost 1–30 ms. They complete commands, options, the
values of options that have a closed list, `RUN` ids not (that needs the state folder), and files where a file goes.

bash splits `--opt=val` at the `=` (it is in COMP_WORDBREAKS), so `cur` is `=` or `prev` is `=` there; both are put
right at the top of the function. Rejected: Typer's own scripts; a completion that sources itself from `rlm`.
"""

from __future__ import annotations

from collections.abc import Callable

from .commands import SHELLS, Command, Option, commands

HEAD = "# Completions of rlm for {shell}. Written by `python -m rlm_cli.cli.generate`; do not edit.\n"


def script(shell: str) -> str:
    """The completions of one of `SHELLS`, with a final newline. Raises `KeyError` for another shell."""
    writers: dict[str, Callable[[], str]] = dict(zip(SHELLS, (bash, zsh, fish), strict=True))
    first = "#compdef rlm\n" if shell == "zsh" else ""  # zsh looks at the very first line
    return first + HEAD.format(shell=shell) + writers[shell]()


# ── bash ────────────────────────────────────────────────────────────────────────────────────────────────────────────


def bash() -> str:
    names = " ".join(command.name for command in commands())
    flags = "\n".join(f"        {c.name}) flags='{_flags(c)}' ;;" for c in commands())
    words = "\n".join(f"        {c.name}) words='{' '.join(c.words)}' ;;" for c in commands() if c.words)
    values = "\n".join(_bash_value(option) for option in _options() if option.takes_value)
    sources = "".join(f" {command.name} " for command in commands() if command.takes_sources)
    parts = {"names": names, "flags": flags, "words": words, "values": values, "sources": sources}
    text = BASH
    for name, part in parts.items():
        text = text.replace(f"@{name}@", part)
    return text


BASH = """\
_rlm() {
    local cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD-1]} command= flags= words= word n
    # --mode=rlm arrives as three words: --mode, =, rlm
    if [[ $cur == '=' ]]; then
        cur=
    elif [[ $prev == '=' ]] && ((COMP_CWORD > 1)); then
        prev=${COMP_WORDS[COMP_CWORD-2]}
    fi
    for ((n = 1; n < COMP_CWORD; n++)); do
        word=${COMP_WORDS[n]}
        if [[ $word != -* ]]; then
            command=$word
            break
        fi
    done
    COMPREPLY=()
    if [[ -z $command ]]; then
        COMPREPLY=($(compgen -W '@names@ -h --help --version' -- "$cur"))
        return
    fi
    case $prev in
@values@
    esac
    case $command in
@flags@
        *) return ;;
    esac
    case $command in
@words@
    esac
    if [[ $cur == -* ]]; then
        COMPREPLY=($(compgen -W "$flags" -- "$cur"))
    elif [[ -n $words ]]; then
        COMPREPLY=($(compgen -W "$words" -- "$cur"))
    elif [[ "@sources@" == *" $command "* ]]; then
        compopt -o filenames 2>/dev/null
        local IFS=$'\\n'
        COMPREPLY=($(compgen -f -- "$cur"))
    fi
}
complete -F _rlm rlm
"""


def _bash_value(option: Option) -> str:
    pattern = "|".join(option.all_flags)
    if option.spelling.choices:
        choices = " ".join(option.spelling.choices)
        return f"""        {pattern}) COMPREPLY=($(compgen -W '{choices}' -- "$cur")); return ;;"""
    if option.spelling.names_files:
        return (
            f"        {pattern}) compopt -o filenames 2>/dev/null; local IFS=$'\\n'; "
            """COMPREPLY=($(compgen -f -- "$cur")); return ;;"""
        )
    return f"        {pattern}) return ;;"


def _flags(command: Command) -> str:
    return " ".join([flag for option in command.options for flag in option.all_flags] + ["-h", "--help"])


def _options() -> list[Option]:
    """Every option of every command, once."""
    return list({option.name: option for command in commands() for option in command.options}.values())


# ── zsh ─────────────────────────────────────────────────────────────────────────────────────────────────────────────


def zsh() -> str:
    names = "\n".join(f"        {_zsh_quoted(f'{c.name}:{c.help}')}" for c in commands())
    cases = "\n".join(_zsh_command(command) for command in commands())
    return ZSH.replace("@names@", names).replace("@cases@", cases)


ZSH = """\
_rlm() {
    local curcontext=$curcontext state line
    typeset -A opt_args
    local -a names
    names=(
@names@
    )
    _arguments -C \\
        '(- *)'{-h,--help}'[show help]' \\
        '(- *)--version[show the version]' \\
        '1: :->command' \\
        '*:: :->rest'
    case $state in
    command) _describe -t commands command names ;;
    rest)
        case $words[1] in
@cases@
        esac
        ;;
    esac
}
if [[ $funcstack[1] == _rlm ]]; then
    _rlm "$@"
else
    compdef _rlm rlm
fi
"""


def _zsh_command(command: Command) -> str:
    lines = [_zsh_option(option) for option in command.options]
    lines.append("'(- *)'{-h,--help}'[show help]'")
    if command.words:
        told = " ".join(
            _zsh_escaped(word) + "\\:" + _zsh_quoted(help_)
            for word, help_ in zip(command.words, command.word_helps, strict=True)
        )
        lines.append(f'"1: :(({told}))"')
    elif command.takes_sources:
        lines += ["'1:question: '"] * command.operands.startswith("QUESTION") + ["'*:source:_files'"]
    return (
        f"        {command.name})\n            _arguments -s -S "
        + " \\\n                ".join(lines)
        + "\n            ;;"
    )


def _zsh_option(option: Option) -> str:
    """`'(-b --max-budget)'{-b+,--max-budget=}'[help]:USD:'`"""
    spelling = option.spelling
    repeats = spelling.kind in ("list", "count")
    marks = [flag + ("=" if flag.startswith("--") else "+") if option.takes_value else flag for flag in spelling.flags]
    text = f"[{_zsh_escaped(_first(option.help))}]"
    if option.takes_value:
        action = f"({' '.join(spelling.choices)})" if spelling.choices else "_files" if spelling.names_files else " "
        text += f":{_zsh_escaped(spelling.metavar)}:{action}"
    excluded = "*" if repeats else f"({' '.join(option.all_flags)})"
    flags = "{" + ",".join(marks) + "}" if len(marks) > 1 else marks[0]
    made = f"'{excluded}'{flags}{_zsh_quoted(text)}"
    if spelling.negation:
        made += f" '({' '.join(option.all_flags)}){spelling.negation}[do not]'"
    return made


def _zsh_escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace(":", "\\:").replace("[", "\\[").replace("]", "\\]")


def _zsh_quoted(text: str) -> str:
    return "'" + text.replace("'", "'\\''") + "'"


def _first(help_: str) -> str:
    """The first clause of a help, short enough for a menu."""
    for end in ("; ", ". ", ": "):
        help_ = help_.split(end)[0]
    return help_.rstrip(".")


# ── fish ────────────────────────────────────────────────────────────────────────────────────────────────────────────


def fish() -> str:
    lines = [
        "complete -c rlm -f",
        "set -l none 'not __fish_seen_subcommand_from " + " ".join(c.name for c in commands()) + "'",
    ]
    lines.append("complete -c rlm -n $none -l version -d 'Show the version'")
    lines.append("complete -c rlm -s h -l help -d 'Show help'")
    for command in commands():
        lines.append(f"complete -c rlm -n $none -a {command.name} -d {_fish_quoted(command.help)}")
    for command in commands():
        seen = f"-n '__fish_seen_subcommand_from {command.name}'"
        lines += [f"complete -c rlm {seen} {part}" for option in command.options for part in _fish_option(option)]
        for word, help_ in zip(command.words, command.word_helps, strict=True):
            lines.append(f"complete -c rlm {seen} -a {word} -d {_fish_quoted(help_)}")
        if command.takes_sources:
            lines.append(f"complete -c rlm {seen} -F")
    return "\n".join(lines) + "\n"


def _fish_option(option: Option) -> list[str]:
    spelling = option.spelling
    flags = [f"-l {flag[2:]}" if flag.startswith("--") else f"-s {flag[1:]}" for flag in spelling.flags]
    value = ""
    if option.takes_value:
        value = " -r -F" if spelling.names_files else " -x"
        value += f" -a {_fish_quoted(' '.join(spelling.choices))}" if spelling.choices else ""
    parts = [f"{' '.join(flags)}{value} -d {_fish_quoted(_first(option.help))}"]
    if spelling.negation:
        parts.append(f"-l {spelling.negation[2:]} -d 'Do not'")
    return parts


def _fish_quoted(text: str) -> str:
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"
