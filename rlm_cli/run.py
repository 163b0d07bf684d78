"""One question, end to end: drives the loop. What code in a REPL asks goes to `queries.py`; children come back here.

Root call and sub-call are the same value (`Call`) and the same function (`Run.call`): recursion is recursion. What no
further request can mend (a wrong key, no quota) ends the run at once.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

from . import loop, prompts, reply
from .call import Call, Check, Complete, Completion, Execute, Message, Output, Purpose
from .corpus import Corpus
from .deadline import OUT_OF_TIME, Deadline
from .dispatch import Dispatch
from .documents import Documents
from .errors import ModelError, RlmError
from .events import (
    CallFinished,
    CallStarted,
    CodeFinished,
    CodeStarted,
    IterationStarted,
    NoticeGiven,
)
from .evidence import Coverage
from .ledger import RUN_WIDE, Ledger, Refusal, StopReason
from .models import Model, on_record
from .prepare import Job, Models
from .result import Answer, Status, answer_text
from .schema import Checked, Schema
from .seen import Seen
from .stream import Stream

if TYPE_CHECKING:
    from .earlier import Earlier
    from .models.replies import Replies
    from .queries import Queries
    from .sandbox import Failed, Query, Repl, Sandbox, Span
    from .tools import Tools

USED_STEPS = (0.9, 0.75, 0.5)
"""Shares of the budget at which the root is told how much is used."""
EMPTY_REPLIES = 3
"""In a row, to the one request of direct mode, before the model is given up on."""


@dataclass(slots=True)
class Own:
    """What a run keeps of one call with a REPL. `refused`: by which limit, in its present cell."""

    children: int = 0
    refused: Refusal | None = None
    remarks: list[str] = field(default_factory=list)
    advised: bool = False


class Run:
    """The calls of one run, over documents that were read, in a sandbox that was opened."""

    def __init__(
        self,
        job: Job,
        models: Models,
        documents: Documents,
        sandbox: Sandbox | None,
        stream: Stream,
        deadline: Deadline,
        earlier: Earlier | None = None,
        tools: Tools | None = None,
        replies: Replies | None = None,
    ) -> None:
        """`earlier`: the run that a follow-up question goes on from. `replies`: those on record."""
        self.job = job
        self.models = models
        self.documents = documents
        self.sandbox = sandbox
        self.earlier = earlier
        self.tools = tools
        self.replies = replies
        self.hidden = stream.trace.scrubbed
        self.emit = stream.emit
        self.state = stream.state
        self.ledger = Ledger(job.limits)
        self.dispatch = Dispatch(
            self.ledger,
            deadline,
            stream.emit,
            retries=job.settings.retries,
            request_timeout_s=job.settings.request_timeout,
            stand_ins=models.stand_ins,
        )
        self.seen = Seen(Coverage(documents.corpus), documents.corpus.lines, stream.emit)
        self.own = defaultdict[str, Own](Own)
        self.fatal: asyncio.Future[RlmError] | None = None

    @cached_property
    def _queries(self) -> Queries:
        """Where there is a REPL to ask any: one request with the whole text does not load it."""
        from .queries import Queries

        return Queries(self)

    async def answer(self, call: Call | None) -> Answer:
        """The answer of the root's call, or of one request with the whole text (None); partial if a limit refused
        anything on the way to it, in a child too.

        Raises `RlmError` where the run cannot go on.
        """
        self.fatal = asyncio.get_running_loop().create_future()
        answer = await (self._sampled(call) if self.job.settings.samples > 1 else self._trajectory(call, "0"))
        if not answer.partial and (limit := self.dispatch.first_hit(RUN_WIDE)) is not None:
            return replace(answer, stop_reason=limit)
        return answer

    async def _sampled(self, call: Call | None) -> Answer:
        """The answer that most of several trajectories agree on; they are the children of a root that only compares."""
        from .samples import Samples

        question, corpus = self.job.question, self.documents.corpus
        with self.open_call("0", CallStarted(None, 0, "root", self.models.root.name, question, corpus.chars)):
            asked = self.job.settings.samples
            self.own["0"].children = asked
            samples = Samples(asked, question, corpus, lambda n: self._trajectory(call, f"0.{n}", "0"), self._judge)
            answer, outcome = await samples.answer()
            self.emit(outcome, "0")
            self._finished("0", answer)
        return answer

    async def _trajectory(self, call: Call | None, address: str, parent: str | None = None) -> Answer:
        """From the first iteration to the answer, or one request with the whole text."""
        kind = "root" if parent is None else "sample"
        corpus = self.documents.corpus
        with self.open_call(
            address, CallStarted(parent, 0, kind, self.models.root.name, self.job.question, corpus.chars)
        ):
            if call is None:
                answer = await self._direct(address)
            else:
                call = replace(call, address=address, sample=address if parent else "")
                answer = await self.call(call, corpus, None)
            self._finished(address, answer)
        return answer

    async def _judge(self, prompt: str) -> Completion | None:
        """One request to the sub-LM; None where it was refused or failed."""
        address, model = self.new_address("0"), self.models.sub
        with self.open_call(address, CallStarted("0", 1, "llm", model.name, prompt, len(prompt))):
            try:
                asked = prompts.sub(prompt, None)
                said = await self.dispatch.complete(address, on_record(model, self.replies), asked, "sub")
            except ModelError as error:
                said = Refusal(StopReason.ERROR, str(error))
            if isinstance(said, Refusal):
                self.close_call(address, Status.FAILED, said.message)
                return None
            self.close_call(address, Status.COMPLETE, reply.spoken(said))
            return said

    async def call(self, call: Call, corpus: Corpus, spans: Sequence[Span] | None) -> Answer:
        """One call with a REPL, root or child, from its first iteration to its answer."""
        from .earlier import Recorded

        assert self.sandbox is not None
        model = self.models.root if call.kind == "root" else self._model(call.model)
        recorded = Recorded(self.earlier, corpus) if self.earlier is not None and call.kind == "root" else None

        async def ask(query: Query) -> list[str | Failed]:
            if recorded is not None and not recorded.over:
                return await recorded.ask(query)
            return await self._queries.ask(call, corpus, query)

        repl = await self.sandbox.open(corpus, spans, ask)
        try:
            if recorded is not None:
                await self._rebuild(call, repl)
                recorded.over = True
            self.seen.saw(call.preview.head)
            self.seen.saw(call.preview.tail)
            return await self._drive(call, model, repl)
        finally:
            await repl.close()

    async def _rebuild(self, call: Call, repl: Repl) -> None:
        """Run the cells of the earlier run again: their variables are what a follow-up question goes on from."""
        assert self.earlier is not None
        other = []
        for number, cell in enumerate(self.earlier.cells, 1):
            output = await repl.execute(cell.code)
            if (output.stdout, output.error) != (cell.stdout, cell.error):
                other.append(str(number))
        if other:
            told = f"run again, code of the earlier run printed something else (cell {', '.join(other[:20])})"
            self.emit(NoticeGiven("state_differs", told), call.address)

    async def _drive(self, call: Call, model: Model, repl: Repl) -> Answer:
        conversation = loop.converse(call)
        effect = next(conversation)
        iteration = 0
        failure: RlmError | None = None
        while True:
            match effect:
                case Complete(messages, purpose, number):
                    if number > iteration:
                        iteration = number
                        self.emit(IterationStarted(iteration), call.address)
                    sent: Completion | Refusal | Output | Checked | RlmError = await self._complete(
                        call, model, messages, purpose
                    )
                case Execute(code, subcalls):
                    sent = await self._execute(call, repl, code, subcalls)
                case Check():
                    sent = await self._check(effect, call.schema, call.strict, call.address)
            try:
                if isinstance(sent, RlmError):
                    failure = sent
                    effect = conversation.throw(sent)
                else:
                    failure = None
                    effect = conversation.send(sent)
            except StopIteration as stop:
                answer: Answer = stop.value
                break
        if failure is not None:
            told = f"the answer is what there was before the model failed: {failure}"
            self.emit(NoticeGiven("answer_kept", told), call.address)
        if answer.partial:
            self.dispatch.hit(Refusal(answer.stop_reason, answer.why), call.address)
        return answer

    async def _complete(
        self, call: Call, model: Model, messages: tuple[Message, ...], purpose: Purpose
    ) -> Completion | Refusal | RlmError:
        """One reply; a failure is for the loop, which may have an answer already."""
        try:
            return await self.dispatch.complete(call.address, model, messages, purpose, lands=call.landing)
        except RlmError as error:
            return error

    async def _check(self, effect: Check, schema: Schema | None, strict: bool, address: str) -> Checked:
        """An answer held against what was asked of it, in a thread: a large one takes a while. A rejection is told."""
        if schema is None and not strict:
            return Checked(effect.value)
        from .structured import judge

        checked = await asyncio.to_thread(judge, schema, strict, effect.value, effect.quotes, effect.spoken)
        if checked.problem:
            one_line = "; ".join(checked.problem.splitlines())
            self.emit(NoticeGiven("answer_rejected", f"an answer was not taken: {one_line}"), address)
        return checked

    async def _execute(self, call: Call, repl: Repl, code: str, subcalls: bool) -> Output:
        self.emit(CodeStarted(code), call.address)
        own = self.own[call.address]
        own.refused = None
        deadline = self.dispatch.deadline
        left = deadline.left(landing=not subcalls)
        timeout = None if left is None else max(left, 0.0) + deadline.grace
        assert self.fatal is not None
        running = asyncio.ensure_future(repl.execute(code, subcalls=subcalls, timeout_s=timeout))
        ends: list[asyncio.Future[Any]] = [running, self.fatal]
        try:
            await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
            if self.fatal.done():
                raise self.fatal.result()
            output = running.result()
        finally:
            if not running.done():
                running.cancel()
                await asyncio.wait([running])
        refused = own.refused
        if refused is None and subcalls and output.answer is None and deadline.is_over:
            refused = self.dispatch.hit(OUT_OF_TIME, call.address)
        used = next((step for step in USED_STEPS if self.ledger.used >= step), 0.0)
        output = replace(output, refused=refused, used=used, remarks=tuple(own.remarks))
        own.remarks.clear()
        self.seen.saw(output.stdout)
        self.emit(
            CodeFinished(
                output.stdout, output.omitted_chars, output.error, output.answer is not None, output.duration_s
            ),
            call.address,
        )
        if output.lost:
            self.emit(NoticeGiven("repl_replaced", output.lost), call.address)
        return output

    async def _direct(self, address: str) -> Answer:
        """One request with the whole text, answered in words; an empty reply is no answer, and asked for again."""
        corpus, model = self.documents.corpus, self.models.root
        question, earlier, schema = self.job.question, self.earlier, self.job.schema
        if earlier is None:
            messages = prompts.direct(question, corpus.text(*corpus.whole), schema, self.job.settings.strict)
        else:
            messages = prompts.direct_again(earlier.messages, earlier.reply, question, schema)
        why = ""
        rejected: Answer | None = None
        empty = sent_back = 0
        while empty < EMPTY_REPLIES:
            completion = await self.dispatch.complete(address, model, messages, "direct")
            if isinstance(completion, Refusal):
                return replace(rejected or Answer(None), stop_reason=completion.reason)
            self.seen.saw_all()
            cut = completion.finish_reason == "length"
            if not reply.spoken(completion):
                why = "its output limit went into reasoning" if cut else ""
                empty += 1
                continue
            if reply.is_refusal(reply.spoken(completion)):
                raise loop.refused(model.name, reply.spoken(completion))
            if cut:
                self.emit(NoticeGiven("reply_cut", "the reply was cut off by its output limit"), address)
            said = reply.words(completion.text, [document.path for document in corpus.documents])
            check = Check(said.value, said.quotes, spoken=True)
            checked = await self._check(check, schema, self.job.settings.strict, address)
            reason = StopReason.MAX_TOKENS if cut else StopReason.FINAL
            answer = Answer(checked.value, said.quotes, reason, checked.problem)
            if not answer.problem or sent_back == loop.SENT_BACK:
                return answer
            sent_back, rejected = sent_back + 1, answer
            messages = prompts.again(messages, reply.spoken(completion), answer.problem)
        raise ModelError(f"{model.name} sent an empty reply, {EMPTY_REPLIES} times", why=why, hint="try another model")

    @contextmanager
    def open_call(self, address: str, call: CallStarted) -> Iterator[None]:
        """A call on the stream, which its body closes; one that raises has failed."""
        self.emit(call, address)
        try:
            yield
        except BaseException as error:
            self.close_call(address, Status.FAILED, str(error))
            raise
        finally:
            self.ledger.close_call(address)

    def _finished(self, address: str, answer: Answer) -> None:
        self.close_call(address, answer.status, answer_text(answer.value))

    def close_call(self, address: str, status: Status, text: str) -> None:
        usage, cost = self.state.calls[address].subtree()
        self.emit(CallFinished(str(status), text, usage, cost), address)

    def new_address(self, parent: str) -> str:
        """Of the next call below that address."""
        own = self.own[parent]
        own.children += 1
        return f"{parent}.{own.children}"

    def _model(self, name: str) -> Model:
        model = self.models.named(name)
        assert model is not None
        return model
