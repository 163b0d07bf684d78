"""Code as models write it: whether a text is a program, and the small mends that make it one.

A mend is tried only on code that does not compile, and kept only where it does then; so none changes what a program
means. Each is tried alone before they are tried together: fewer changes first. Rejected: repairing brackets and
indentation, where a guess runs something nobody wrote; the model mends those itself, from the error's own words.
"""

from __future__ import annotations

import ast
import html
import re
import warnings
from collections.abc import Iterator
from functools import lru_cache

LONGEST_CODE = 100_000
"""Characters of code that are compiled to see whether they are some; CPython's compiler dies of much more."""
CACHED = 32
"""Texts whose last verdict is remembered: one reply asks for the same several times."""
LABELS = frozenset(
    {"repl", "python", "py", "python3", "ipython", "language: python", "language=python", "lang: python"}
)
"""A first line that says what language follows."""

_SPACES = str.maketrans(
    dict.fromkeys("\u00a0\u2007\u202f\u3000", " ") | dict.fromkeys("\u200b\u200c\u200d\u2060\ufeff\u00ad")
)
_QUOTES = str.maketrans({"“": '"', "”": '"', "„": '"', "‘": "'", "’": "'", "（": "(", "）": ")"})
_PROMPT = re.compile(r"^[ \t]*(?:>>>|In \[\d*\]:) ?")
_NOTEBOOK = re.compile(r"\s*In \[\d*\]:")
_GOES_ON = re.compile(r"^[ \t]*\.\.\.:? ?")
_INVENTED = re.compile(r"^[ \t]*(?:#+ *|\*\*)?(?:Output|Result|Observation|Out\[\d*\])(?:\*\*)? ?:", re.IGNORECASE)


@lru_cache(maxsize=CACHED)
def compiles(code: str) -> bool:
    """Whether it is Python, top-level `await` allowed; what is too long to try counts as if it were."""
    if len(code) > LONGEST_CODE:
        return True
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # an invalid escape in a model's string is no news
            compile(code, "cell", "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT, dont_inherit=True)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return False
    return True


def parsed(code: str) -> ast.Module | None:
    """The tree of a program, None for what is none or too long."""
    return _grammatical(code) if len(code) <= LONGEST_CODE and compiles(code) else None


def expression(source: str) -> ast.expr | None:
    """The tree of an expression, None for what is none."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return ast.parse(source, mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None


def _grammatical(code: str) -> ast.Module | None:
    """The tree of what obeys the grammar, if not all rules."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return ast.parse(code)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None


def is_program(text: str) -> bool:
    """Whether a text that nobody called code is some: it compiles, and it does something."""
    tree = parsed(text)
    doing = (ast.Call, ast.Assign, ast.AugAssign, ast.Import, ast.ImportFrom, ast.For, ast.FunctionDef)
    return tree is not None and any(isinstance(found, doing) for found in ast.walk(tree))


@lru_cache(maxsize=CACHED)
def mended(code: str) -> str | None:
    """`code` if it compiles, else what the fewest mends make of it, None where none helps."""
    if _NOTEBOOK.match(code) and compiles(typed := _without_prompts(code)):
        return typed  # `In [1]: x = 1` is Python too, by accident
    if compiles(code):
        return code
    for mend in _MENDS:
        if (alone := mend(code)) != code and alone.strip() and compiles(alone):
            return alone
    together = code
    for mend in _MENDS:
        together = mend(together)
        if together.strip() and compiles(together):
            return together
    return None


def straight(text: str) -> str:
    """With the quotes and brackets that Python knows."""
    return text.translate(_QUOTES)


def plain_spaces(text: str) -> str:
    """With spaces for those that only look so, and without characters of no width."""
    return text.translate(_SPACES)


def without_label(code: str) -> str:
    """Without a first line that names the language."""
    first, _, rest = code.partition("\n")
    return rest if first.strip().lower() in LABELS else code


def _without_prompts(code: str) -> str:
    """Of a session in an interpreter what was typed, without what was printed."""
    lines = code.split("\n")
    if not any(_PROMPT.match(line) for line in lines):
        return code
    typed, typing = [], False
    for line in lines:
        prompt = _PROMPT.match(line) or (_GOES_ON.match(line) if typing else None)
        typing = prompt is not None
        if prompt is not None:
            typed.append(line[prompt.end() :])
    return "\n".join(typed) + "\n"


def _before_invention(code: str) -> str:
    """Up to the output that the model made up."""
    kept: list[str] = []
    for line in code.split("\n"):
        if _INVENTED.match(line):
            return "\n".join(kept).rstrip() + "\n"
        kept.append(line)
    return code


def _real_lines(code: str) -> str:
    """Line ends that were escaped once too often."""
    if "\n" in code.strip() or "\\n" not in code:
        return code
    return code.strip().replace("\\n", "\n").replace('\\"', '"').replace("\\t", "\t") + "\n"


def _without_return(code: str) -> str:
    """`return FINAL(…)` outside a function is `FINAL(…)`, which ends the cell as well."""
    tree = _grammatical(code)
    if tree is None:
        return code
    lines = [line.encode() for line in code.split("\n")]  # columns count bytes
    for found in reversed(list(_returns(tree))):
        line, start = found.lineno - 1, found.col_offset
        lines[line] = lines[line][:start] + lines[line][start:].removeprefix(b"return").lstrip(b" \t")
    return b"\n".join(lines).decode()


def _returns(tree: ast.AST) -> Iterator[ast.Return]:
    """Outside functions, of a FINAL."""
    for child in ast.iter_child_nodes(tree):
        match child:
            case ast.FunctionDef() | ast.AsyncFunctionDef() | ast.Lambda() | ast.ClassDef():
                continue
            case ast.Return(value=ast.Call(func=ast.Name(id="FINAL" | "FINAL_VAR"))):
                yield child
            case _:
                yield from _returns(child)


_MENDS = (
    plain_spaces,
    without_label,
    _real_lines,
    html.unescape,
    _without_prompts,
    _before_invention,
    _without_return,
    straight,
)
