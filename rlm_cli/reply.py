"""Reading a reply: what the model wants. Code to run, an answer handed over in prose, or neither, and then why.

With `blocks.py`, which finds the code, the only file that knows the syntax. One block a reply runs: models invent REPL
output and answer on it in the same reply, so what follows the first block is cut, and of several calls of a function
the first one counts. Code is looked for in this order: a call of a function, a fenced block, a call written as text,
bare code; then FINAL in prose. No reply is an error.

Heuristics, confessed: a `FINAL(...)` in prose counts only in a reply without code, at the start of a line and with
nothing behind it on its line; its argument counts as text when it is a literal or no Python at all, and is run as code
when it is an expression (`FINAL(total)` is far more often a variable than the word "total"). Two different ones are
none. Prose is no answer, whatever it says: it may be a plan, a guess, or half of one; what it calls its final answer is
kept as a claim. A refusal is known by its first words, in English.
"""

from __future__ import annotations

import ast
import hashlib
import json
import math
import re
from collections.abc import Collection
from dataclasses import replace
from itertools import islice

from . import blocks
from .call import Completion, Function, Handover, Message, Reply
from .mend import LONGEST_CODE, expression, is_program, mended, parsed, straight
from .result import Quote

NOT_FOUND = "NOT FOUND"
"""The words with which an answer in prose says that the documents do not answer."""
FINALS = 5
"""Hand-overs in one prose that are read."""
LAST_WORDS = 200
"""Characters at the end of prose, where a plan is announced."""
LONGEST_REFUSAL = 600
"""Characters: a longer text says more than no."""
REPL = Function(
    "repl",
    "Runs Python in the REPL that holds the documents and gives back what it printed. FINAL(...) in it ends the work.",
    {
        "type": "object",
        "properties": {"code": {"type": "string", "description": "Python"}},
        "required": ["code"],
        "additionalProperties": False,
    },
)
"""The REPL as a function to call."""

_THINKING = (
    r"<(think|thinking|thought|reasoning)>(?P<said>.*?)(?:</\1>|\Z)",
    r"◁think▷(?P<said>.*?)(?:◁/think▷|\Z)",
    r"\[THINK\](?P<said>.*?)(?:\[/THINK\]|\Z)",
    r"(?:<\|start\|>assistant)?<\|channel\|>analysis<\|message\|>(?P<said>.*?)(?:<\|end\|>|\Z)",
    r"(?P<said>(?:(?!<think).)*?)</think(?:ing)?>[ \t]*(?:\n|\Z)",
)
"""At the start of a reply; of the last kind only the closing tag comes, the model's template has opened it."""
_THOUGHTS = tuple(re.compile(pattern, re.DOTALL | re.IGNORECASE) for pattern in _THINKING)
_CHANNEL = re.compile(
    r"\s*(?:<\|start\|>assistant)?<\|channel\|>final<\|message\|>(?P<said>.*?)(?:<\|(?:return|end)\|>)?\s*", re.DOTALL
)
_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")
"""What providers take for the name of a function."""
_FINAL_LINE = re.compile(
    r"^(?:[ \t>*_`#-]|\d+\.|(?i:(?:the |my )?(?:final )?answer(?: is)?:?))*(?P<call>FINAL(?:_VAR)?[ \t]*[(（])",
    re.MULTILINE,
)
_LINE_ENDS = re.compile(r"[`*_.!;。 \t]*(?:\r?\n|\Z)")
_PLACEHOLDERS = frozenset(
    "…|...|answer|the answer|your answer|final answer|value|answer here|your answer here|your final answer".split("|")
)
"""What an example of FINAL holds, not a call of it."""
_CLAIM = re.compile(
    r"^[ \t>*_#]*(?:the )?(?:final answer|final|answer)(?: is)?[*_ \t]*[:：][*_ \t]*(?P<said>\S.*)",
    re.DOTALL | re.MULTILINE | re.IGNORECASE,
)
_BOXED = re.compile(r"\\boxed\{(?:\\text\{)?(?P<said>(?:[^{}]|\{[^{}]*\})*)\}")
_REFUSAL = re.compile(
    r"\W*(?:(?:i'?m|i am) (?:very |really |so )?sorry|sorry|i apologi[sz]e|unfortunately)?[,.;: ]*(?:but )?"
    r"(?:as an ai[^,.]*, )?"
    r"(?:i (?:can(?:'t|not| not)|won'?t|will not|am (?:not able|unable) to|(?:must |have to )?decline)"
    r"|i'm (?:not able|unable) to)\s*(?:to )?"
    r"(?:help|assist|comply|engage|continue|fulfil|participate|with (?:that|this)|(?:that|this|your) request"
    r"|(?:answer|do|discuss|provide|process) (?:that|this|such|help))",
    re.IGNORECASE,
)
_PLAN = re.compile(
    r"\b(?:let me|let's|let us|i'?ll|i will|i need to|i should|i am going to|i'm going to)\b|:\s*\Z", re.IGNORECASE
)
_NOT_FOUND = re.compile(rf"[*_`#\s]*{NOT_FOUND}[*_`.!:]*[ \t]*(?:\n|\Z)", re.IGNORECASE)
_NUMBERED = re.compile(r"\A\[\d{1,3}\]:?\s+")
_BEFORE_WORDS = re.compile(r"([^:“\"]{1,300}):(?=\s*\S)")
_QUOTE_LINE = re.compile(r"^[ \t]*>[ \t]?(?P<text>.*)$")
_MARKS = {'"': '"', "“": "”", "'": "'", "‘": "’", "«": "»", "„": "“"}


def read(completion: Completion, tools: Collection[str] = ()) -> Reply:
    """What the model wants: code to run, an answer, or neither (then `problem` says why). `tools`: names of functions
    of the user's; a model that calls one of them means code that does."""
    text = split(completion.text)[0].strip("\n")
    if completion.calls:
        called = _read_call(completion, text, tools)
        if called.code is not None or not text.strip():
            return called
        said = _read_text(text, completion.finish_reason)
        return called if said.code is None and said.answer is None else said
    if not text.strip():
        return Reply("", problem="thoughts" if completion.reasoning or completion.text.strip() else "empty")
    return _read_text(text, completion.finish_reason)


def split(text: str) -> tuple[str, str]:
    """What a reply says, and the thinking that was written into it."""
    thoughts = []
    while match := next(filter(None, (pattern.match(text.lstrip()) for pattern in _THOUGHTS)), None):
        thoughts.append(match["said"].strip())
        text = match.string[match.end() :]
    if match := _CHANNEL.fullmatch(text):
        text = match["said"]
    return text, "\n".join(filter(None, thoughts))


def block(code: str) -> str:
    """Code as the block a model would write."""
    longest = max(map(len, re.findall(r"^[ \t]*(`{3,})", code, re.MULTILINE)), default=2)
    fence = "`" * (longest + 1)
    return f"{fence}repl\n{code.rstrip()}\n{fence}"


def is_refusal(value: object) -> bool:
    """Whether a model declines. `value`: what it says or hands over."""
    if not isinstance(value, str) or len(value) > LONGEST_REFUSAL:
        return False
    return _REFUSAL.match(straight(value)) is not None


def _read_call(completion: Completion, text: str, tools: Collection[str]) -> Reply:
    """A function was called; in the history it is a call again, or the block that it stands for."""
    first = completion.calls[0]
    cut = len(completion.calls) > 1
    if completion.finish_reason == "length":
        return Reply(text, problem="unfinished")
    code = blocks.called(first.name, first.arguments, tools)
    arguments = first.arguments if _is_object(first.arguments) else json.dumps({"code": code or first.arguments})
    written = replace(
        first,
        id=first.id or f"call_{hashlib.sha256(arguments.encode()).hexdigest()[:12]}",
        name=first.name if _NAME.fullmatch(first.name) else REPL.name,
        arguments=arguments,
    )
    called = Message("assistant", text, calls=(written,))
    if code is None:
        return Reply(f"{text}\n{first.name}({first.arguments})".strip(), problem="arguments", cut=cut, called=called)
    code = mended(code) or code
    return Reply(f"{text}\n{block(code)}".strip(), code=code, cut=cut, called=called, unseen=_is_unseen(code))


def _is_object(text: str) -> bool:
    try:
        return isinstance(json.loads(text), dict)
    except ValueError:
        return False


def _read_text(text: str, finish_reason: str) -> Reply:
    whole = finish_reason != "length"
    fenced = blocks.fenced(text)
    found = fenced.found or blocks.tagged(text)
    if found is None and "\n" not in text and "```" in text:  # line ends that were escaped once too often
        found = blocks.fenced(text.replace("\\n", "\n").replace('\\"', '"')).found
    if found is not None:
        if found.cut_off and not (whole and mended(found.code) is not None):
            return Reply(found.kept, problem="unfinished")
        return _to_run(found.code, found.kept, found.followed)
    if whole:
        bare = blocks.bare(text)
        if bare is not None and not _is_final_only(bare):
            return _to_run(bare, text)
        final = _final_in_prose(text)
        if final is not None:
            return final
        if bare is not None and not _FINAL_LINE.search(text):  # one that was not taken is an example
            return _to_run(bare, text)
        if fenced.broken is not None:  # its error says what is wrong with it
            return _to_run(fenced.broken.code, fenced.broken.kept, fenced.broken.followed)
    if is_refusal(text) or fenced.foreign:
        return Reply(text, problem="refusal" if is_refusal(text) else "language")
    claim = _claim(text) if whole else None
    return Reply(text, problem="plan" if claim is None and _PLAN.search(text[-LAST_WORDS:]) else "no code", claim=claim)


def _to_run(code: str, kept: str, cut: bool = False) -> Reply:
    code = blocks.unwrapped(mended(code) or code)
    return Reply(kept, code=code, cut=cut, unseen=_is_unseen(code))


def _is_final_only(code: str) -> bool:
    tree = parsed(code)
    return tree is not None and all(isinstance(line, ast.Expr) and _is_final(line.value) for line in tree.body)


def _is_final(node: ast.expr) -> bool:
    match node:
        case ast.Call(func=ast.Name(id="FINAL" | "FINAL_VAR")):
            return True
        case ast.Call(func=ast.Name(id="print"), args=[inner]):
            return _is_final(inner)
    return False


def _is_unseen(code: str) -> bool:
    """Whether code looks at something and then hands over words that stood fixed before: they were guessed."""
    tree = parsed(code)
    fixed: set[str] = set()
    looked = False
    for line in tree.body if tree is not None else ():
        match line:
            case ast.Expr(value=ast.Call(func=ast.Name(id="FINAL"), args=[value], keywords=[])):
                return looked and _is_fixed(value, fixed)
            case ast.Assign(targets=[ast.Name(name)], value=value) if _is_fixed(value, fixed):
                fixed.add(name)
            case _:
                looked = looked or any(isinstance(inner, ast.Call) for inner in ast.walk(line))
    return False


def _is_fixed(node: ast.expr, names: Collection[str]) -> bool:
    if isinstance(node, ast.Name):
        return node.id in names
    try:
        ast.literal_eval(node)
    except (ValueError, TypeError, SyntaxError, RecursionError, MemoryError):
        return False
    return True


def _claim(text: str) -> str | None:
    """What prose says is its answer: in a box, after such words, or all of it where quotes stand below."""
    boxed = list(_BOXED.finditer(text))
    if boxed:
        return boxed[-1]["said"].strip().rstrip("}") or None
    if (match := _CLAIM.search(text)) is not None:
        return match["said"].strip("*_ ") or None
    return text if words(text).quotes else None


def spoken(completion: Completion) -> str:
    """The text of a reply without its thinking; "" where there is nothing else."""
    return split(completion.text)[0].strip()


def words(text: str, paths: Collection[str] = ()) -> Handover:
    """An answer in words: the text, then `> quote` or `> path: quote` lines. `NOT FOUND` on a line of its own before
    everything else, and no quote, hands over None.

    `paths`: the documents' paths; only a known path is taken for one.
    """
    said: list[str] = []
    quotes: list[Quote] = []
    for line in split(text)[0].strip().splitlines():
        match = _QUOTE_LINE.match(line)
        if match is None:
            said.append(line)
        elif match["text"].strip():
            quotes.append(_quote(match["text"].strip(), paths))
    answer = "\n".join(said).strip()
    if not quotes and (not answer or _NOT_FOUND.match(answer)):
        return Handover(None)
    return Handover(answer or "\n".join(quote.text for quote in quotes), tuple(quotes))


def closing(completion: Completion, paths: Collection[str] = ()) -> Handover | None:
    """The very last reply, when no code runs any more: a FINAL with literals, in a block or not, else words. None for
    one that goes on working: a program and nothing else, or a block for the REPL."""
    said = spoken(completion)
    reply = read(completion)
    final = _final_in_prose(reply.code, runs=False) if reply.code is not None else reply
    if final is not None and final.answer is not None:
        return final.answer
    if reply.problem == "refusal" or not said:
        return None
    if reply.code is None or not is_program(reply.code):
        return words(completion.text, paths)
    opening = blocks.OPENING.search(said)
    start = opening.start() if opening else max(said.find(reply.code.split("\n")[0]), 0)
    alone = not re.sub(r"[<{\[].*", "", said[:start]).strip()
    return None if alone or (opening and opening["tag"] == "repl") else words(completion.text, paths)


def _quote(text: str, paths: Collection[str]) -> Quote:
    path, text = _with_path(_NUMBERED.sub("", text), paths)
    if len(text) > 1 and text[-1] == _MARKS.get(text[0]):
        text = text[1:-1]
    return Quote(text, path)


def _with_path(text: str, paths: Collection[str]) -> tuple[str | None, str]:
    """A quote's path and its words; the path whole, or its last parts as a quote in code may name it."""
    for path in sorted(paths, key=len, reverse=True):
        if text.startswith((f"{path}: ", f"{path}:“")):
            return path, text[len(path) + 1 :].strip()
    if match := _BEFORE_WORDS.match(text):
        for path in paths:
            if path.endswith(f"/{match[1].strip()}"):
                return path, text[match.end() :].strip()
    return None, text


def _final_in_prose(text: str, runs: bool = True) -> Reply | None:
    """The FINAL of a reply without code; of several the first, unless they differ. One with quotes is code, where code
    `runs`: they are looked up there, and can be mended."""
    finals = [
        _one_final(text, text[match.start("call") :], runs) for match in islice(_FINAL_LINE.finditer(text), FINALS)
    ]
    found = [final for final in finals if final is not None]
    if any(final != found[0] for final in found):
        return Reply(text, problem="several answers")
    return found[0] if found else None


def _one_final(text: str, rest: str, runs: bool) -> Reply | None:
    source = _complete_call(rest) or _complete_call(straight(rest))
    if source is None or not _LINE_ENDS.match(rest, len(source)):
        said = _in_brackets(rest)  # FINAL(The notice period is thirty days.)
        return None if said is None else _answered(text, Handover(said))
    call = expression(source)
    assert isinstance(call, ast.Call)
    if isinstance(call.func, ast.Name) and call.func.id == "FINAL_VAR":
        return Reply(text, code=source)
    literal = _literal_handover(call)
    if literal is None or (literal.quotes and runs):
        return Reply(text, code=source)
    return _answered(text, literal)


def _answered(text: str, handed: Handover) -> Reply | None:
    if is_refusal(handed.value):
        return Reply(text, problem="refusal")
    if isinstance(handed.value, str) and (
        not handed.value.strip() or handed.value.strip(" <>[]{}").lower() in _PLACEHOLDERS
    ):
        return None
    return Reply(text, answer=handed)


def _in_brackets(rest: str) -> str | None:
    """The words in `FINAL(…)`: up to the bracket that fits and ends its line, else up to one that ends the text."""
    opening = re.match(r"FINAL[ \t]*[(（]", rest)
    if opening is None:
        return None
    depth, end = 1, None
    for at in range(opening.end(), len(rest)):
        depth += (rest[at] in "(（") - (rest[at] in ")）")
        if depth == 0:
            end = at if _LINE_ENDS.match(rest, at + 1) else None
            break
    if end is None:
        last = re.search(r"[)）][`*_.!\s]*\Z", rest)
        end = last.start() if last else None
    said = "" if end is None else rest[opening.end() : end].strip()
    if said and (said[0] in _MARKS) != (said[-1] in _MARKS.values()):
        said = said.strip("\"'“”„‘’«»")  # a quotation mark without its other half
    return said or None


def _complete_call(text: str) -> str | None:
    """The shortest prefix of `text` that is a whole call in Python."""
    for end in [i for i, letter in enumerate(text[:LONGEST_CODE]) if letter == ")"][:200]:
        if isinstance(expression(text[: end + 1]), ast.Call):
            return text[: end + 1]
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
