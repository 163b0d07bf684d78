"""Where the code is in a reply: fenced blocks, tags, calls of a function written as text or sent as such, or bare.

With `reply.py`, which decides what a reply means, the only file that knows the syntax. A fence ends where the compiler
says: of several closing fences the first one that leaves a complete program wins, so a fence inside a string inside the
code does no harm.

Heuristics, confessed: a block whose tag names another language is not run; one without a tag is, when it is Python and
more than a constant. A JSON object without a function's name counts as a call when what it holds under `code` (or a
word like it) is a program. Code without a fence compiles and calls or binds something; prose may stand before it.
"""

from __future__ import annotations

import ast
import json
import re
import textwrap
from collections.abc import Collection, Iterator
from dataclasses import dataclass, replace
from typing import Any

from .mend import compiles, expression, is_program, mended, parsed, without_label

PYTHON = frozenset("repl python py python3 py3 ipython ipython3 pycon tool_code execute".split())
"""Tags of blocks that are run whatever is in them."""
OTHERS = frozenset(
    "bash sh shell zsh console cmd powershell json jsonc json5 text txt plaintext plain markdown md yaml yml toml xml"
    " html css sql csv tsv diff output out stdout log quote js javascript ts typescript java c cpp go rust ruby r"
    " latex tex".split()
)
"""Tags of blocks that are not."""
BLOCKS, CLOSINGS, MENDED_CLOSINGS = 20, 20, 3
"""Blocks that are looked at; lines that are tried as the end of one, as it is and with mends."""
STARTS, OBJECTS = 60, 20
"""Lines after which bare code is looked for; braces at which a JSON object is."""

_OPEN = re.compile(
    r"^[ \t\ufeff\u200b\u2060]*(?P<fence>`{3,}|~{3,})[ \t]*\{?[ \t]*\.?(?P<tag>[\w+.#-]*)(?P<more>[^`\n]*)$"
)
OPENING = re.compile(_OPEN.pattern, re.MULTILINE)
"""The line that opens a block, anywhere in a text."""
_AFTER_TEXT = re.compile(r"(?<=[^\s`])[ \t]*(?P<fence>```(?:repl|python|py)[ \t]*)$", re.MULTILINE)
_INLINE = re.compile(r"```(?:repl|python|py)[ \t]+(?P<code>[^`\n]+)```")
_TAGS = (
    r"<(?P<tag>code|python|repl|py|execute|tool_code|ipython)\b[^>\n]*>(?P<code>.*?)(?:</(?P=tag)>|(?P<open>\Z))",
    r"<parameter(?:=|\s+name=)[\"']?(?:code|source|script)[\"']?[^>\n]*>(?P<code>.*?)(?:</parameter>|(?P<open>\Z))",
    r"<\|python_tag\|>(?P<code>.*?)(?:<\|(?:eom_id|eot_id|end)\|>|(?P<open>\Z))",
    r"to=(?:functions\.)?(?:repl|python)\b[^\n]{0,200}?<\|message\|>(?P<code>.*?)(?:<\|call\|>|(?P<open>\Z))",
    r"^Action Input:(?P<code>.*?)(?:^Observation:|(?P<open>\Z))",
)
"""Of Hermes and CodeAct, Qwen and Claude, Llama, gpt-oss, ReAct."""
_TAGGED = tuple(re.compile(pattern, re.DOTALL | re.MULTILINE) for pattern in _TAGS)
_LEFT_OF_A_TAG = re.compile(r"</?[\w.=-]+>|<[|｜][^>]*[|｜]>|[\s\]}`]")
_CODE = ("code", "python", "source", "script", "program", "input", "action_input")
_ARGUMENTS = ("arguments", "parameters", "args", "input")
_FUNCTIONS = frozenset("FINAL FINAL_VAR SHOW_VARS llm_query llm_query_batched rlm_query rlm_query_batched".split())
"""Of the REPL; a model that calls one of them means code that does."""
_RUNNERS = frozenset("repl python run_python execute execute_python execute_code run_code".split())
_UNESCAPED = re.compile(r'\s*\{\s*"code"\s*:\s*"(?P<code>.*)"\s*\}\s*', re.DOTALL)


@dataclass(frozen=True, slots=True)
class Found:
    """Code in a reply: what of the reply stays with it, and what follows. `cut_off`: nothing says that it is whole."""

    code: str
    kept: str
    rest: str
    cut_off: bool = False

    @property
    def followed(self) -> bool:
        """Whether what follows is more than the end of what held the code."""
        return bool(_LEFT_OF_A_TAG.sub("", self.rest))


@dataclass(frozen=True, slots=True)
class Fenced:
    """The blocks of a reply: the one to run, whether one in another language was passed over, and the first one that
    looks like code and is not."""

    found: Found | None = None
    foreign: bool = False
    broken: Found | None = None


def fenced(text: str) -> Fenced:
    """The first block that is to be run."""
    read = _fenced(text)
    if read.found is not None:
        return read
    apart = _AFTER_TEXT.sub(r"\n\g<fence>", text)
    if apart != text and (found := _fenced(apart).found) is not None:
        return Fenced(found)
    inline = _INLINE.search(text)
    if inline is not None and mended(inline["code"].strip()) is not None:
        return Fenced(Found(inline["code"].strip(), text[: inline.end()], text[inline.end() :]))
    return read


def tagged(text: str) -> Found | None:
    """The first call that is written as text, in tags or as a JSON object."""
    for pattern in _TAGGED:
        for match in pattern.finditer(text):
            code = (_in_json(match["code"]) or (match["code"].strip("\n"), 0))[0]
            code = _dedented(_undressed(code))
            if mended(code) is None if "<code" in match[0] else not code.strip():
                continue
            if is_program(mended(code) or "") or "<code" not in match[0]:
                return Found(code, text[: match.end()], text[match.end() :], match["open"] is not None)
    called = _in_json(text)
    return None if called is None else Found(_undressed(called[0]), text[: called[1]], text[called[1] :])


def bare(text: str) -> str | None:
    """Code without anything around it, with prose before it at most; None where there is none."""
    whole = mended(text)
    if whole is not None:
        return whole if is_program(whole) else None
    lines = text.splitlines(keepends=True)
    for number, before in enumerate(lines[:STARTS], 1):
        if not before.strip() or before.rstrip().endswith((":", ".")):
            rest = "".join(lines[number:])
            if rest[:1].strip() and is_program(rest):
                return rest
    return None


def called(name: str, arguments: Any, tools: Collection[str] = ()) -> str | None:
    """The code that a call of a function means. `arguments`: JSON text, bare code, or values; None where it holds no
    code. `tools`: names of functions that code can call too."""
    if isinstance(arguments, str):
        try:
            arguments = json.loads(arguments, strict=False)
        except ValueError:
            slack = _UNESCAPED.fullmatch(arguments)
            bare_code = slack["code"].replace("\\n", "\n").replace('\\"', '"') if slack else arguments
            bare_code = _undressed(bare_code)
            return bare_code if mended(bare_code) is not None and bare_code.strip() else None
        if isinstance(arguments, str):
            return called(name, arguments, tools)
    base = name.rpartition(".")[2]
    match arguments:
        case [first, *_]:
            return called(name, first, tools)
        case dict() if base in _FUNCTIONS:
            return f"{base}({_as_arguments(arguments)})"
        case dict() if base in tools and base not in _RUNNERS:
            return f"{base}(**{arguments!r})"
        case dict():
            alone = tuple(arguments) if len(arguments) == 1 and base in _RUNNERS else ()
            for key in (*_CODE, *alone):
                if isinstance(code := arguments.get(key), str) and code.strip():
                    return _undressed(code)
            inner = next((arguments[key] for key in _ARGUMENTS if isinstance(arguments.get(key), dict)), None)
            return None if inner is None else called(name, inner, tools)
    return None


def unwrapped(code: str) -> str:
    """`repl("…")` written as code is the code in it."""
    tree = parsed(code)
    match tree.body if tree is not None else ():
        case [ast.Expr(ast.Call(ast.Name(name), arguments, keywords))] if name in _RUNNERS:
            values = [*arguments, *(keyword.value for keyword in keywords)]
            try:
                return (len(values) == 1 and called(name, ast.literal_eval(values[0]))) or code
            except ValueError:
                return code
    return code


def _fenced(text: str) -> Fenced:
    lines = text.splitlines(keepends=True)
    at, blocks, foreign, broken = 0, 0, False, None
    while at < len(lines) and blocks < BLOCKS:
        opening = _OPEN.match(lines[at].rstrip("\r\n"))
        if opening is None:
            at += 1
            continue
        blocks += 1
        code, end, closed = _block(lines, at, opening["fence"])
        tag = opening["tag"].lower()
        info = opening["more"] if tag in PYTHON else opening["tag"] + opening["more"]
        if "(" in info and is_program(info.strip()):
            code = f"{info.strip()}\n{code}"
        code = without_label(code)
        found = Found(code, "".join(lines[:end]), "".join(lines[end:]), not closed)
        at = end
        if not code.strip():
            continue
        if tag in PYTHON:
            return Fenced(found)
        if (inner := _in_json(code)) is not None:
            return Fenced(replace(found, code=inner[0], cut_off=False))
        if tag in OTHERS and not re.search(r"^[ \t]*(?:>>>|In \[\d*\]:)", code, re.MULTILINE):
            foreign = True
        elif _does_something(code):
            return Fenced(found)
        elif broken is None and closed and re.search(r"^[ \t]*(?:import|from|for|def|if)\b|\w\(|=", code):
            broken = found
    return Fenced(None, foreign, broken)


def _block(lines: list[str], opening: int, fence: str) -> tuple[str, int, bool]:
    """The code of a block, the number of the line after it, and whether a fence closed it."""
    ends = list(_closings(lines, opening + 1, fence))
    bodies = [_dedented("".join(lines[opening + 1 : end]) + before) for end, before in ends]
    if not ends:
        return _dedented("".join(lines[opening + 1 :])), len(lines), False
    whole = (n for n, body in enumerate(bodies) if body.strip() and compiles(body))
    nearly = (n for n, body in enumerate(bodies[:MENDED_CLOSINGS]) if body.strip() and mended(body) is not None)
    alone = (n for n, (_, before) in enumerate(ends) if not before)
    best = next(whole, next(nearly, next(alone, -1)))
    if best < 0:
        return _dedented("".join(lines[opening + 1 :])), len(lines), False
    return bodies[best], ends[best][0] + 1, True


def _closings(lines: list[str], start: int, fence: str) -> Iterator[tuple[int, str]]:
    """Lines that may close a block opened by `fence`, each with the code before the fence on it."""
    found = 0
    for number in range(start, len(lines)):
        line = lines[number].rstrip()
        bare_line = line.rstrip(fence[0])
        if len(line) - len(bare_line) >= len(fence) and found < CLOSINGS:
            found += 1
            yield number, bare_line if bare_line.strip() else ""


def _does_something(code: str) -> bool:
    """Python of which more can come than itself."""
    tree = parsed(mended(code) or "")
    return tree is not None and any(
        not (isinstance(line, ast.Expr) and isinstance(line.value, ast.Constant)) for line in tree.body
    )


def _dedented(code: str) -> str:
    code = textwrap.dedent(code.replace("\r\n", "\n")).rstrip()
    return f"{code}\n" if code else ""


def _undressed(code: str) -> str:
    """Code that came in a fence of its own."""
    if not OPENING.match(code.lstrip()):
        return code
    found = _fenced(code).found
    return code if found is None else found.code


def _in_json(text: str) -> tuple[str, int] | None:
    """The code of the first JSON object that is a call, and where it ends."""
    decoder = json.JSONDecoder(strict=False)
    for match in list(re.finditer(r"[{\[]", text))[:OBJECTS]:
        try:
            value, end = decoder.raw_decode(text, match.start())
        except (ValueError, RecursionError):
            continue
        if (code := _of_object(value)) is not None:
            return code, end
    literal = expression(text.strip()) if text.lstrip().startswith("{") else None
    try:
        value = None if literal is None else ast.literal_eval(literal)
    except (ValueError, SyntaxError, RecursionError, MemoryError, TypeError):
        return None
    code = _of_object(value)
    return None if code is None else (code, len(text))


def _of_object(value: Any) -> str | None:
    match value:
        case [dict(first), *_] | {"tool_calls": [dict(first), *_]} | {"function": dict(first)}:
            return _of_object(first)
        case {"name": str(name)} | {"function": str(name)} | {"tool": str(name)}:
            arguments = next((value[key] for key in _ARGUMENTS if key in value), None)
            return None if arguments is None else called(name, arguments)
        case dict():
            code = called("", value)
            return code if code is not None and is_program(mended(code) or "") else None
    return None


def _as_arguments(values: dict[str, Any]) -> str:
    """Arguments for a function of the REPL; a lone one may have any name."""
    others = [key for key in values if key not in ("quotes", "context", "contexts", "model", "schema")]
    return ", ".join(
        repr(value) if [key] == others or not key.isidentifier() else f"{key}={value!r}"
        for key, value in sorted(values.items(), key=lambda item: item[0] not in others)
    )
