"""What a call is made of: messages, replies, outputs, and the three effects of the loop. Values only.

They stand apart from `loop.py` because `prompts.py` and `reply.py` speak in them and the loop speaks through both.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, replace
from typing import Any, Literal

from .ledger import Price, Refusal, Usage
from .result import Quote
from .schema import Schema

Kind = Literal["root", "rlm", "llm"]
Purpose = Literal["iteration", "summary", "sub", "direct", "landing"]
Dialect = Literal["auto", "text", "tools"]
"""How a model is offered the REPL: to write a block, or to call a function; `auto` is a block until it calls one."""


@dataclass(frozen=True, slots=True)
class Function:
    """A function that is offered to a model. `parameters`: the JSON Schema of its arguments."""

    name: str
    description: str
    parameters: dict[str, Any]


@dataclass(frozen=True, slots=True)
class ToolCall:
    """A function that a model called, with its arguments as it wrote them: JSON as a rule. `sealed`: what its provider
    wants to have back with the call, in JSON, for nobody else to read."""

    id: str
    name: str
    arguments: str
    sealed: str = ""


@dataclass(frozen=True, slots=True)
class Message:
    """`tools` are offered with a system message, `calls` go with an assistant's, `result_of` is the id of the call that
    a tool's message answers. `shared`: so many characters of `content`, with all messages before, are going to be sent
    again, so a provider may be told to cache them; it is no part of what is said."""

    role: Literal["system", "user", "assistant", "tool"]
    content: str
    tools: tuple[Function, ...] = ()
    calls: tuple[ToolCall, ...] = ()
    result_of: str = ""
    shared: int = field(default=0, compare=False)

    @property
    def written(self) -> str:
        """All of it that a model reads."""
        calls = "".join(called.name + called.arguments for called in self.calls)
        return self.content + calls + "".join(f"{tool.description}{tool.parameters}" for tool in self.tools)

    def without_seals(self) -> Message:
        """For another provider than the one that its calls came from."""
        if not any(called.sealed for called in self.calls):
            return self
        return replace(self, calls=tuple(replace(called, sealed="") for called in self.calls))

    def plain(self) -> dict[str, Any]:
        """For a trace and for a hash: what is set, role and content always."""
        said: dict[str, Any] = {"role": self.role, "content": self.content}
        if self.tools:
            said["tools"] = tuple(asdict(tool) for tool in self.tools)
        if self.calls:
            said["calls"] = tuple(asdict(called) for called in self.calls)
        if self.result_of:
            said["result_of"] = self.result_of
        return said

    def kept(self) -> Message:
        """The same message, all of which is going to be sent again."""
        return replace(self, shared=len(self.content))

    @classmethod
    def of(cls, plain: dict[str, Any]) -> Message:
        """One that was made `plain`, in JSON."""
        tools = tuple(Function(**tool) for tool in plain.get("tools", ()))
        calls = tuple(ToolCall(**called) for called in plain.get("calls", ()))
        return cls(plain["role"], plain["content"], tools, calls, plain.get("result_of", ""))


@dataclass(frozen=True, slots=True)
class Completion:
    """One reply of a model. `cost_usd` is the provider's own figure where it gives one, else None. `recorded`: it was
    given earlier, and nothing was used or paid for it now."""

    text: str
    finish_reason: str = "stop"
    usage: Usage = Usage()
    cost_usd: float | None = None
    reasoning: str = ""
    calls: tuple[ToolCall, ...] = ()
    recorded: bool = False

    def usd(self, price: Price | None) -> float | None:
        """What it cost: the provider's own figure, else usage times price, else None, which is never zero. What is free
        is so uncounted too."""
        if self.cost_usd is not None:
            return self.cost_usd
        counted = self.usage.input_tokens or self.usage.output_tokens
        return price.cost(self.usage) if price is not None and (counted or price.is_free) else None


@dataclass(frozen=True, slots=True)
class Handover:
    """What code handed over with FINAL: a JSON-able value and the quotes given with it."""

    value: Any
    quotes: tuple[Quote, ...] = ()


@dataclass(frozen=True, slots=True)
class Output:
    """What came of one cell.

    `stdout` is head + tail of what was printed, `omitted_chars` what was left out between them. `error`: the
    traceback's last lines, None when the cell ended well. `variables`: names the cell bound newly or rebound to
    another type or length, each with both (`"list, 12 items"`). `draft`: the content of a mapping named `answer`
    that is not ready yet. `held`: an answer that was sent back for a quote that is not there; it stands if no other
    comes. `refused`: a limit refused a sub-call (or the cell itself) while it ran. `lost`: the REPL had to be replaced;
    a line or two that say what happened, what is back and what is gone. `used`: share of the tightest limit that is
    spent, in fixed steps. `remarks`: what the model should hear of how it works, a sentence each.
    """

    stdout: str = ""
    omitted_chars: int = 0
    error: str | None = None
    answer: Handover | None = None
    held: Handover | None = None
    variables: tuple[tuple[str, str], ...] = ()
    draft: Any = None
    refused: Refusal | None = None
    lost: str | None = None
    duration_s: float = 0.0
    used: float = 0.0
    remarks: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Entry:
    """One line of the manifest as the model sees it."""

    path: str
    chars: int
    lines: int
    pages: int
    same_as: str = ""
    """A document listed before it with the same bytes."""


@dataclass(frozen=True, slots=True)
class Preview:
    """What a model is told of its context before it looks: documents, size, head and tail.

    `entries` are all documents or a sample of `documents`; `lazy`: `context` is a lazy text, not a plain `str`.
    `header` is an example of the line before each document, empty when there is one document only. `distinct`: how many
    of the documents are different files. `unread`: what was wanted and could not be read, with the reason.
    """

    documents: int
    distinct: int
    entries: tuple[Entry, ...]
    chars: int
    lines: int
    head: str
    tail: str
    lazy: bool = False
    header: str = ""
    unread: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Tool:
    """A function of the user's own that code in the REPL may call. `signature` as Python writes it, from `(` on; `doc`:
    its docstring, possibly empty."""

    name: str
    signature: str
    doc: str


@dataclass(frozen=True, slots=True)
class Call:
    """One call with a REPL: the root's or a child's. Root call and sub-call are the same value.

    `address` is `0` for the root, `0.3` for its third child. `sub_chars`: characters a sub-prompt should have at most.
    `recursive`: `rlm_query` opens a REPL for the child; else it is `llm_query`. `window_bytes`: what a request may
    have; the history is shortened to it. `landing`: False stops empty-handed at a limit. `asks_of_itself`: the question
    is the context too.
    """

    address: str
    kind: Kind
    depth: int
    question: str
    model: str
    preview: Preview
    sub_chars: int
    recursive: bool
    max_iterations: int
    window_bytes: int
    max_subcalls: int = 200
    """Of the whole tree of calls."""
    landing: bool = True
    asks_of_itself: bool = False
    protocol: Dialect = "text"
    reasons: bool = False
    """Its model thinks before it writes."""
    earlier: tuple[Turn, ...] = ()
    """Turns of the run that it goes on from."""
    sample: str = ""
    """Which of several independent trajectories it belongs to, by address; they share no reply."""
    schema: Schema | None = None
    """What its answer must satisfy."""
    strict: bool = False
    """Its answer must have a quote."""
    tools: tuple[Tool, ...] = ()
    """For its code; what a model may call itself is on its messages."""


Problem = Literal[
    "empty", "thoughts", "unfinished", "arguments", "language", "several answers", "refusal", "plan", "no code"
]  # fmt: skip
"""Why a reply holds nothing to run: it is empty, or reasoning only, or cut off inside its block; the arguments of its
call hold no code; its block is in another language; it hands over two answers that differ; it declines; it is prose
that says what comes next, or any other."""


@dataclass(frozen=True, slots=True)
class Reply:
    """A reply, read. At most one of `code`, `answer` and `problem` is set.

    `kept`: what enters the history, the reply up to the end of its block. `cut`: something followed and was dropped.
    `called`: the same as a message with the call, where the model called a function. `claim`: what prose calls its
    final answer, in words. `unseen`: the code prints something and hands over a value that cannot come of it.
    """

    kept: str
    code: str | None = None
    answer: Handover | None = None
    problem: Problem | None = None
    cut: bool = False
    called: Message | None = None
    claim: str | None = None
    unseen: bool = False


@dataclass(frozen=True, slots=True)
class Turn:
    """One iteration of a trajectory: what the model wrote and what came of it. `output` None: nothing could run.
    `told`: of an earlier run, what the model was told of it, word for word."""

    reply: Reply
    output: Output | None
    told: str = ""

    @property
    def result(self) -> tuple[str | None, str | None, str | None]:
        """Its code, what it printed, how it failed."""
        output = self.output or Output()
        return self.reply.code, output.stdout, output.error

    def without_draft(self) -> Turn:
        if self.output is None or self.output.draft is None:
            return self
        return replace(self, output=replace(self.output, draft=None))


@dataclass(frozen=True, slots=True)
class Trajectory:
    """The turns of a call, and how they are shown: the first `left_out` not at all (`summary` stands for them), the
    outputs of those up to `shortened` cut to their first lines, the rest whole."""

    turns: tuple[Turn, ...] = ()
    left_out: int = 0
    shortened: int = 0
    summary: str = ""

    def add(self, turn: Turn) -> Trajectory:
        """With one more turn. A draft takes the place of the one before: each may be as large as an answer."""
        turns = self.turns
        if turn.output is not None and turn.output.draft is not None:
            turns = tuple(one.without_draft() for one in turns)
        return replace(self, turns=(*turns, turn))

    def repeats(self, turn: Turn) -> int:
        """How many of the turns that are shown whole ran the same code with the same result."""
        if turn.output is None:
            return 0
        return [one.result for one in self.turns[self.shortened :]].count(turn.result)


@dataclass(frozen=True, slots=True)
class Complete:
    """Effect: ask the call's model. Sent back: `Completion`, or `Refusal`.

    `iteration`: its number, from 1; the same again when a request that was too long is made shorter, 0 for a landing.
    """

    messages: tuple[Message, ...]
    purpose: Purpose
    iteration: int = 0


@dataclass(frozen=True, slots=True)
class Execute:
    """Effect: run code in the call's REPL. Sent back: `Output`."""

    code: str
    subcalls: bool = True


@dataclass(frozen=True, slots=True)
class Check:
    """Effect: hold an answer against the call's schema and `strict`, as `schema.judged` does. Sent back: `Checked`.

    An effect, because it takes time for a large answer, and a rejection is news. `spoken`: the value came in words.
    """

    value: Any
    quotes: tuple[Quote, ...]
    spoken: bool = False
