"""Reading a reply: its code, an answer handed over in prose, or neither. The only file that knows the syntax.

One block a reply runs: models invent REPL output and answer on it in the same reply, so what follows the first block
is cut. Where a fence ends is decided by the compiler: of several closing fences the first one that leaves a complete
program wins, so a fence inside a string inside the code does no harm.

Heuristics, confessed: a `FINAL(...)` in prose counts only at the start of a line of a reply without a block; its
argument counts as text when it is a literal or no Python at all, and is run as code when it is an expression
(`FINAL(total)` is far more often a variable than the word "total"). A reply without a fence that compiles and calls or
binds something is code.
"""

from __future__ import annotations

import ast
import math
import re
import textwrap
import warnings
from collections.abc import Collection

from .call import Completion, Handover, Reply
from .result import Quote

LONGEST_CODE = 100_000
"""Characters of code that are compiled to see whether they are some; CPython's compiler dies of much more."""
NOT_FOUND = "NOT FOUND"
"""The words with which an answer in prose says that the documents do not answer."""

_OPEN = re.compile(r"^[ \t]*(?P<fence>`{3,}|~{3,})[ \t]*(?P<tag>[\w+.#-]*)[^`\n]*$")
_OPEN_LINE = re.compile(_OPEN.pattern, re.MULTILINE)
_THINKING = re.compile(r"\A\s*<(think|thinking|reasoning)>.*?(</\1>|\Z)", re.DOTALL | re.IGNORECASE)
_FINAL_LINE = re.compile(r"^[ \t>*_`]*(?P<call>FINAL(?:_VAR)?[ \t]*\()", re.MULTILINE)
_QUOTE_LINE = re.compile(r"^[ \t]*>[ \t]?(?P<text>.*)$")
_MARKS = {'"': '"', "“": "”", "'": "'", "‘": "’", "«": "»", "„": "“"}


def read(completion: Completion) -> Reply:
    """What the model wants: code to run, an answer, or neither (then `problem` says why)."""
    text = _THINKING.sub("", completion.text or "").strip("\n")
    if not text.strip():
        return Reply("", problem="empty")
    block = _first_block(text)
    if block is not None:
        code, end, closed = block
        kept = text[:end]
        if not closed and (completion.finish_reason == "length" or not _compiles(code)):
            return Reply(kept, problem="unfinished")
        return Reply(kept, code=code, cut=bool(text[end:].strip()))
    if completion.finish_reason != "length":
        final = _final_in_prose(text)
        if final is not None:
            return final
        if _is_program(text):
            return Reply(text, code=text)
    return Reply(text, problem="no code")


def spoken(completion: Completion) -> str:
    """The text of a reply without its thinking; "" where there is nothing else."""
    return _THINKING.sub("", completion.text or "").strip()


def words(text: str, paths: Collection[str] = ()) -> Handover:
    """An answer in words: the text, then `> quote` or `> path: quote` lines. `NOT FOUND` alone hands over None.

    `paths`: the documents' paths; only a known path is taken for one.
    """
    said: list[str] = []
    quotes: list[Quote] = []
    for line in _THINKING.sub("", text).strip().splitlines():
        match = _QUOTE_LINE.match(line)
        if match is None:
            said.append(line)
        elif match["text"].strip():
            quotes.append(_quote(match["text"].strip(), paths))
    answer = "\n".join(said).strip()
    if answer.rstrip(".!").upper() == NOT_FOUND or not (answer or quotes):
        return Handover(None)
    return Handover(answer or "\n".join(quote.text for quote in quotes), tuple(quotes))


def closing(completion: Completion, paths: Collection[str] = ()) -> Handover | None:
    """The very last reply, when no code runs any more: a FINAL with literals, in a block or not, else words. None for
    one that goes on working: a program and nothing else, or a block for the REPL."""
    parsed = read(completion)
    final = _final_in_prose(parsed.code) if parsed.code is not None else parsed
    if final is not None and final.answer is not None:
        return final.answer
    said = spoken(completion)
    opening = _OPEN_LINE.search(said)
    alone = opening is None or not said[: opening.start()].strip()
    if parsed.code is not None and _is_program(parsed.code) and (alone or (opening and opening["tag"] == "repl")):
        return None
    return words(completion.text, paths)


def _quote(text: str, paths: Collection[str]) -> Quote:
    path = next((p for p in sorted(paths, key=len, reverse=True) if text.startswith((f"{p}: ", f"{p}:“"))), None)
    if path is not None:
        text = text[len(path) + 1 :].strip()
    if len(text) > 1 and text[-1] == _MARKS.get(text[0]):
        text = text[1:-1]
    return Quote(text, path)


def _first_block(text: str) -> tuple[str, int, bool] | None:
    """The first fenced block that holds anything: its code, where it ends in `text`, whether it was closed."""
    lines = text.splitlines(keepends=True)
    offsets = [0]
    for line in lines:
        offsets.append(offsets[-1] + len(line))
    at = 0
    while at < len(lines):
        opening = _OPEN.match(lines[at].rstrip("\r\n"))
        if opening is None:
            at += 1
            continue
        closings = _closings(lines, at + 1, opening["fence"])
        bodies = [_dedent("".join(lines[at + 1 : closing])) for closing in closings]
        if not closings:
            return _dedent("".join(lines[at + 1 :])), len(text), False
        best = next((i for i, body in enumerate(bodies) if body.strip() and _compiles(body)), 0)
        if bodies[best].strip():
            return bodies[best], offsets[closings[best] + 1], True
        at = closings[best] + 1
    return None


def _closings(lines: list[str], start: int, fence: str) -> list[int]:
    """Lines that may close a block opened by `fence`, the first forty."""
    found: list[int] = []
    for number in range(start, len(lines)):
        stripped = lines[number].strip()
        if stripped and set(stripped) == {fence[0]} and len(stripped) >= len(fence):
            found.append(number)
    return found[:40]


def _dedent(code: str) -> str:
    code = textwrap.dedent(code).rstrip()
    return f"{code}\n" if code else ""


def _final_in_prose(text: str) -> Reply | None:
    match = _FINAL_LINE.search(text)
    if match is None:
        return None
    rest = text[match.start("call") :]
    source = _complete_call(rest)
    if source is None:  # FINAL(The notice period is thirty days.)
        inner = re.match(r"FINAL[ \t]*\((?P<text>.*)\)[`*_\s]*\Z", rest, re.DOTALL)
        if inner is None or not inner["text"].strip():
            return None
        return Reply(text, answer=Handover(inner["text"].strip()))
    call = ast.parse(source, mode="eval").body
    assert isinstance(call, ast.Call)
    if isinstance(call.func, ast.Name) and call.func.id == "FINAL_VAR":
        return Reply(text, code=source)
    literal = _literal_handover(call)
    return Reply(text, code=source) if literal is None else Reply(text, answer=literal)


def _complete_call(text: str) -> str | None:
    """The shortest prefix of `text` that is a whole call in Python."""
    for end in [i for i, letter in enumerate(text[:LONGEST_CODE]) if letter == ")"][:200]:
        try:
            if isinstance(ast.parse(text[: end + 1], mode="eval").body, ast.Call):
                return text[: end + 1]
        except (SyntaxError, ValueError, RecursionError, MemoryError):
            continue
    return None


def _literal_handover(call: ast.Call) -> Handover | None:
    try:
        values = [ast.literal_eval(argument) for argument in call.args]
        named = {keyword.arg: ast.literal_eval(keyword.value) for keyword in call.keywords}
    except (ValueError, TypeError, SyntaxError, RecursionError, MemoryError):
        return None
    quotes = named.get("quotes") or []
    quotes = [quotes] if isinstance(quotes, str) else quotes
    if len(values) != 1 or set(named) - {"quotes"} or not isinstance(quotes, list) or not _is_json(values[0]):
        return None  # for the REPL to read, or to explain
    return Handover(values[0], tuple(_literal_quote(quote) for quote in quotes))


def _is_json(value: object) -> bool:
    match value:
        case None | bool() | int() | str():
            return True
        case float():
            return math.isfinite(value)
        case list():
            return all(map(_is_json, value))
        case dict():
            return all(isinstance(key, str) for key in value) and all(map(_is_json, value.values()))
    return False


def _literal_quote(quote: object) -> Quote:
    match quote:
        case (str(path), str(text)):
            return Quote(text, path)
        case _:
            return Quote(str(quote))


def _compiles(code: str) -> bool:
    if len(code) > LONGEST_CODE:
        return True
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # an invalid escape in a model's string is no news
            compile(code, "cell", "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT, dont_inherit=True)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return False
    return True


def _is_program(text: str) -> bool:
    """Code without a fence: it compiles, and it does something."""
    if len(text) > LONGEST_CODE or not _compiles(text):
        return False
    doing = (ast.Call, ast.Assign, ast.Import, ast.ImportFrom, ast.For)
    return any(isinstance(found, doing) for found in ast.walk(ast.parse(text)))
