"""The run that a follow-up question goes on from, read back from its trace: what was said, what ran, what was found.

    history      the messages of its last request, word for word (a provider that cached them charges less), its reply
    state        its cells run again in a fresh REPL, what they asked answered from the journal: nothing is done twice
    documents    the corpus it had, kept under its hash; files that have changed since are said

A run that was itself a follow-up goes on from another one, whose cells come first.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict, deque
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from . import contexts, kept, prompts, reply, trace
from .call import Completion, Message, Reply, ToolCall, Turn
from .corpus import Corpus, Document
from .documents import Documents
from .errors import UsageError
from .events import (
    CallFinished,
    CallStarted,
    CodeFinished,
    CodeStarted,
    CompletionFinished,
    CompletionStarted,
    CorpusLoaded,
    RunFinished,
    RunStarted,
    Stamped,
    ToolFinished,
    ToolStarted,
)
from .read import Manifest, Skipped, addresses, formats
from .sandbox import Failed, Query

MOST_CHECKED = 10_000
"""Files that are looked at for changes."""
MOST_NAMED = 5
LONGEST_CHAIN = 100
"""Follow-ups of follow-ups."""


@dataclass(frozen=True, slots=True)
class Cell:
    """Code that ran, and what it printed and how it failed then."""

    code: str
    stdout: str
    error: str | None


@dataclass
class Earlier:
    """`messages`: of its last request; `reply`: what came of it; `answer`: what the user read."""

    run: str
    mode: str
    corpus_sha256: str
    folder: Path
    """Its working directory: paths of documents start there."""
    began: float
    """Unix time."""
    messages: tuple[Message, ...]
    reply: str
    answer: str
    cells: list[Cell] = field(default_factory=list)
    answers: dict[str, list[str | Failed]] = field(default_factory=dict)
    """Fingerprint of a sub-call, or a call of a tool → its results, in the order they were asked for."""
    skipped: tuple[dict[str, str], ...] = ()
    excluded: dict[str, int] = field(default_factory=dict)

    @property
    def first_question(self) -> str:
        """The question that its first message holds; follow-ups come later in the history."""
        return prompts.question_of(self.messages[1].content) or ""

    def turns(self, question: str) -> tuple[Turn, ...]:
        """Its history as turns; the last one asks the new question."""
        turns: list[Turn] = []
        for message in self.messages[2:]:
            if message.role == "assistant":
                called = message if message.calls else None
                turns.append(Turn(Reply(_said(message.content, message.calls), called=called), None))
                continue
            before = turns[-1]
            told = f"{before.told}\n\n{message.content}" if before.told else message.content
            # What the user asked for after the result of a call goes with what came of the call: in words, then.
            called = before.reply.called if message.role == "tool" else None
            turns[-1] = Turn(replace(before.reply, called=called), None, told)
        return (*turns, Turn(Reply(self.reply), None, prompts.follow_up(self.answer, question)))

    def documents(self, folder: Path) -> Documents:
        """Its documents, from `folder`. Raises `UsageError` when they are not kept any more."""
        corpus = kept.load(folder, self.corpus_sha256)
        if corpus is None:
            raise UsageError(
                f"the documents of run {self.run} are not kept",
                why="they were too large for corpora_size, or others took their place",
                hint='ask anew: rlm ask "…" SOURCE',
            )
        skipped = tuple(Skipped(**one) for one in self.skipped)
        changed = self._changed(corpus)
        notices = (prompts.documents_changed(changed, MOST_NAMED),) if changed else ()
        manifest = Manifest(skipped, dict(self.excluded), notices)
        return Documents(corpus, manifest, len({document.sha256 for document in corpus.documents}))

    def _changed(self, corpus: Corpus) -> list[str]:
        """Paths whose file is another one now, or gone. stdin and what came from elsewhere are not looked at again."""
        changed: dict[str, None] = {}
        for document in corpus.documents[:MOST_CHECKED]:
            if document.path == "-" or addresses.is_url(document.path):
                continue
            file, inside, _ = document.path.partition("!/")
            row = formats.by_name(file)
            packed = bool(inside) or (row is not None and row.wraps)
            try:
                same = self._is_same(self.folder / file, None if packed else document)
            except (OSError, ValueError):
                same = False
            if not same:
                changed[file] = None
        return list(changed)

    def _is_same(self, file: Path, document: Document | None) -> bool:
        """Whether a file is what was read, by its size and, where it was written since, its content. `document` None:
        what was read was inside or packed and is not the file's own, so when it was written must do."""
        status = file.stat()
        if document is None:
            return status.st_mtime < self.began + 1  # the time of a run is known to the second
        if status.st_size != document.bytes or status.st_mtime < self.began:
            return status.st_size == document.bytes
        with file.open("rb") as content:
            return hashlib.file_digest(content, "sha256").hexdigest() == document.sha256


class Recorded:
    """Answers the sub-calls of cells that run again, from the journal; `over` once they have."""

    def __init__(self, earlier: Earlier, corpus: Corpus) -> None:
        self.over = False
        self._corpus = corpus
        self._left = {key: deque(results) for key, results in earlier.answers.items()}

    async def ask(self, query: Query) -> list[str | Failed]:
        """What was answered then; the same again and again where it was asked more often now."""
        if query.kind == "tool":
            return [self._one(_tool_key(query.model or "", query.prompts[0]))]
        return [
            self._one(contexts.fingerprint(self._corpus, query, prompt, context).hex())
            for prompt, context in zip(query.prompts, query.contexts, strict=True)
        ]

    def _one(self, key: str) -> str | Failed:
        results = self._left.get(key)
        if not results:
            return Failed("this was not asked in the earlier run, and is not asked again now")
        return results.popleft() if len(results) > 1 else results[0]


def _said(text: str, calls: tuple[ToolCall, ...]) -> str:
    """A reply in words: a call of the REPL as the block that it stands for."""
    return reply.read(Completion(text, calls=calls)).kept if calls else text


def load(state: Path, prefix: str | None) -> Earlier:
    """The run whose id begins with `prefix`, else the last one. Raises `UsageError` where none can be gone on from."""
    return _load(state, trace.find(state, prefix), LONGEST_CHAIN)


def _load(state: Path, folder: Path, chain: int) -> Earlier:
    run = folder.name
    hint = "rlm runs lists what was asked; --run takes another one"
    try:
        stamped = list(trace.read(folder / trace.TRACE))
    except OSError as error:
        raise UsageError(f"run {run} cannot be read", why=error.strerror or "", hint=hint) from error
    happened = [one.event for one in stamped]
    began = next((event for event in happened if isinstance(event, RunStarted)), None)
    loaded = next((event for event in happened if isinstance(event, CorpusLoaded)), None)
    ended = next((event for event in happened if isinstance(event, RunFinished)), None)
    if began is None or loaded is None or ended is None:
        raise UsageError(f"run {run} did not come to an end", hint=hint)
    samples = ended.result.get("samples") or {}
    root = str(samples.get("chosen") or "0")
    asked = [one.event for one in stamped if one.call == root and isinstance(one.event, CompletionStarted)]
    replied = [one.event for one in stamped if one.call == root and isinstance(one.event, CompletionFinished)]
    if not asked or not replied or (ended.result.get("answer") is None and ended.result.get("found") is not False):
        raise UsageError(f"run {run} has no answer to go on from", hint=hint)
    messages = tuple(Message.of(message) for message in asked[-1].messages)
    earlier = Earlier(
        run=run,
        mode=str(ended.result["mode"]),
        corpus_sha256=loaded.sha256,
        folder=Path(began.folder),
        began=trace.started_at(run).timestamp(),
        messages=messages,
        reply=_said(replied[-1].text, tuple(ToolCall(**called) for called in replied[-1].calls)),
        answer=str(ended.result.get("answer") or prompts.NOTHING_FOUND),
        skipped=loaded.skipped,
        excluded=loaded.excluded,
    )
    if began.continues:
        if not chain:
            raise UsageError(f"run {run} is one follow-up too many", hint='ask anew: rlm ask "…" SOURCE')
        before = _load(state, trace.find(state, began.continues), chain - 1)
        earlier.cells, earlier.answers = before.cells, before.answers
    _collect(stamped, root, earlier)
    return earlier


_CUT = "the trace of the earlier run does not hold it whole"


def _tool_key(name: str, arguments: str) -> str:
    return f"tool {name} {arguments}"


def _collect(stamped: Sequence[Stamped], root: str, earlier: Earlier) -> None:
    """The cells of the root and the results of its own sub-calls and tools, in order."""
    asked: dict[str | None, tuple[str, int]] = {}
    answers = defaultdict(list, earlier.answers)
    code = ""

    def begin(address: str | None, key: str) -> None:
        asked[address] = key, len(answers[key])
        answers[key].append(Failed("it was not answered"))

    for one in stamped:
        match one.event:
            case CodeStarted(code_) if one.call == root:
                code = code_
            case CodeFinished() as finished if one.call == root:
                earlier.cells.append(Cell(code, finished.stdout, finished.error))
            case CallStarted() as call if call.parent == root and call.key:
                begin(one.call, call.key)
            case ToolStarted() as tool if tool.parent == root:
                begin(one.call, _tool_key(tool.name, tool.arguments))
            case ToolFinished() as tool if one.call in asked:
                key, place = asked[one.call]
                answers[key][place] = Failed(tool.error) if tool.error else tool.result
                if tool.omitted_chars:
                    answers[key][place] = Failed(_CUT)
            case CallFinished() as call if one.call in asked:
                key, place = asked[one.call]
                answers[key][place] = Failed(call.answer) if call.status == "failed" else call.answer
    earlier.answers = dict(answers)
