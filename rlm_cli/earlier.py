"""The run that a follow-up question goes on from, read back from its trace: what was said, what ran, what was found.

    history      the messages of its last request, word for word (a provider that cached them charges less), its reply
    state        its cells run again in a fresh REPL, their sub-calls answered from the journal: nothing is paid twice
    documents    the corpus it had, kept under its hash; files that have changed since are said

A run that was itself a follow-up goes on from another one, whose cells come first.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict, deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

from . import contexts, kept, prompts, trace
from .call import Message, Reply, Turn
from .corpus import Corpus
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
)
from .prepare import Documents
from .read import Manifest, Skipped
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
    """Fingerprint of a sub-call → its results, in the order they were asked for."""
    skipped: tuple[dict[str, str], ...] = ()
    excluded: dict[str, int] = field(default_factory=dict)

    @property
    def first_question(self) -> str:
        """The question that its first message holds; follow-ups come later in the history."""
        return prompts.question_of(self.messages[1].content) or ""

    def turns(self, question: str) -> tuple[Turn, ...]:
        """Its history as turns; the last one asks the new question."""
        said = [message.content for message in self.messages[2:]]
        pairs = [*zip(said[::2], said[1::2], strict=False), (self.reply, prompts.follow_up(self.answer, question))]
        return tuple(Turn(Reply(kept), None, told) for kept, told in pairs)

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
        """Documents whose file is another one now, or gone. stdin cannot be looked at again."""
        changed = []
        for document in corpus.documents[:MOST_CHECKED]:
            if document.path == "-":
                continue
            try:
                file = self.folder / document.path
                status = file.stat()
                same = status.st_size == document.bytes
                if same and status.st_mtime >= self.began:
                    same = hashlib.sha256(file.read_bytes()).hexdigest() == document.sha256
            except (OSError, ValueError):
                same = False
            if not same:
                changed.append(document.path)
        return changed


class Recorded:
    """Answers the sub-calls of cells that run again, from the journal; `over` once they have."""

    def __init__(self, earlier: Earlier, corpus: Corpus) -> None:
        self.over = False
        self._corpus = corpus
        self._left = {key: deque(results) for key, results in earlier.answers.items()}

    async def ask(self, query: Query) -> list[str | Failed]:
        """What was answered then; the same again and again where it was asked more often now."""
        return [
            self._one(contexts.fingerprint(self._corpus, query.kind, prompt, context))
            for prompt, context in zip(query.prompts, query.contexts, strict=True)
        ]

    def _one(self, key: bytes) -> str | Failed:
        results = self._left.get(key.hex())
        if not results:
            return Failed("this was not asked in the earlier run, and is not asked again now")
        return results.popleft() if len(results) > 1 else results[0]


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
    messages = tuple(Message(**cast(Any, message)) for message in asked[-1].messages)
    earlier = Earlier(
        run=run,
        mode=str(ended.result["mode"]),
        corpus_sha256=loaded.sha256,
        folder=Path(began.folder),
        began=trace.started_at(run).timestamp(),
        messages=messages,
        reply=replied[-1].text,
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


def _collect(stamped: Sequence[Stamped], root: str, earlier: Earlier) -> None:
    """The cells of the root and the results of its own sub-calls, in order."""
    keys: dict[str, str] = {}
    answers = defaultdict(list, earlier.answers)
    code = ""
    for one in stamped:
        match one.event:
            case CodeStarted(code_) if one.call == root:
                code = code_
            case CodeFinished() as finished if one.call == root:
                earlier.cells.append(Cell(code, finished.stdout, finished.error))
            case CallStarted() as call if call.parent == root and call.key and one.call is not None:
                keys[one.call] = call.key
                answers[call.key].append(Failed("it was not answered"))
            case CallFinished() as call if one.call in keys:
                results = answers[keys[one.call]]
                results[-1] = Failed(call.answer) if call.status == "failed" else call.answer
    earlier.answers = dict(answers)
