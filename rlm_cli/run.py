"""One question, end to end: drives the loop and answers its sub-calls by calling itself.

Root call and sub-call are the same value (`Call`) and the same function (`Run.call`): recursion is recursion. Sub-call
failures are values here (`Failed`, raised inside the REPL); what no further request can mend (a wrong key, no quota)
ends the run at once.
"""

from __future__ import annotations

import asyncio
import statistics
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

from . import contexts, loop, prompts, reply
from .builder import Unwritable
from .call import Call, Complete, Completion, Execute, Message, Output, Purpose
from .corpus import Corpus
from .dispatch import OUT_OF_TIME, Deadline, Dispatch
from .earlier import Earlier, Recorded
from .errors import ConfigError, ModelError, RlmError
from .events import CallFinished, CallStarted, CodeFinished, CodeStarted, IterationStarted, NoticeGiven
from .evidence import Coverage
from .ledger import Ledger, Refusal, StopReason
from .models import Model
from .prepare import Documents, Job, Models
from .result import Answer, Status, answer_text
from .samples import Samples
from .sandbox import Context, Failed, Query, Repl, Sandbox, Span
from .seen import Seen
from .stream import Stream

USED_STEPS = (0.9, 0.75, 0.5)
"""Shares of the budget at which the root is told how much is used."""
EMPTY_REPLIES = 3
"""In a row, to the one request of direct mode, before the model is given up on."""
RUN_WIDE = frozenset({StopReason.MAX_BUDGET, StopReason.MAX_TOKENS, StopReason.MAX_SUBCALLS, StopReason.TIMEOUT})
"""Limits that a child shares with its parent: where it met one, the parent will too."""


@dataclass(slots=True)
class _Own:
    """What a run keeps of one call with a REPL. `refused`: by which limit, in its present cell."""

    children: int = 0
    refused: Refusal | None = None
    remarks: list[str] = field(default_factory=list)
    advised: bool = False


@dataclass(frozen=True, slots=True)
class _Asked:
    """One prompt of a query, and its fingerprint in hex."""

    kind: str
    prompt: str
    context: Context | None
    key: str


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
    ) -> None:
        """`earlier`: the run that a follow-up question goes on from."""
        self.job = job
        self.models = models
        self.documents = documents
        self.sandbox = sandbox
        self.earlier = earlier
        self.emit = stream.emit
        self.state = stream.state
        self.ledger = Ledger(job.limits)
        self.dispatch = Dispatch(
            self.ledger,
            deadline,
            stream.emit,
            retries=job.settings.retries,
            request_timeout_s=job.settings.request_timeout,
        )
        self.seen = Seen(Coverage(documents.corpus), documents.corpus.lines, stream.emit)
        # Children's places, by depth: who waits for one waits for calls of its own depth, and these for deeper ones.
        self._repls = defaultdict[int, asyncio.Semaphore](lambda: asyncio.Semaphore(job.settings.jobs))
        self._calls = defaultdict[str, _Own](_Own)
        self._asked: dict[str, asyncio.Task[str | Failed]] = {}
        """Sub-calls in flight or answered: an identical one is asked once in a run."""
        self._fatal: asyncio.Future[RlmError] | None = None

    async def answer(self, call: Call | None) -> Answer:
        """The answer of the root's call, or of one request with the whole text (None); partial if a limit refused
        anything on the way to it, in a child too.

        Raises `RlmError` where the run cannot go on.
        """
        self._fatal = asyncio.get_running_loop().create_future()
        answer = await (self._sampled(call) if self.job.settings.samples > 1 else self._trajectory(call, "0"))
        if not answer.partial and (limit := self.dispatch.first_hit(RUN_WIDE)) is not None:
            return replace(answer, stop_reason=limit)
        return answer

    async def _sampled(self, call: Call | None) -> Answer:
        """The answer that most of several trajectories agree on; they are the children of a root that only compares."""
        question, corpus = self.job.question, self.documents.corpus
        with self._open("0", CallStarted(None, 0, "root", self.models.root.name, question, corpus.chars)):
            asked = self.job.settings.samples
            self._calls["0"].children = asked
            samples = Samples(asked, question, corpus, lambda n: self._trajectory(call, f"0.{n}", "0"), self._judge)
            answer, outcome = await samples.answer()
            self.emit(outcome, "0")
            self._finished("0", answer)
        return answer

    async def _trajectory(self, call: Call | None, address: str, parent: str | None = None) -> Answer:
        """From the first iteration to the answer, or one request with the whole text."""
        kind = "root" if parent is None else "sample"
        corpus = self.documents.corpus
        with self._open(address, CallStarted(parent, 0, kind, self.models.root.name, self.job.question, corpus.chars)):
            if call is None:
                answer = await self._direct(address)
            else:
                call = replace(call, address=address, sample=address if parent else "")
                answer = await self.call(call, corpus, None)
            self._finished(address, answer)
        return answer

    async def _judge(self, prompt: str) -> Completion | None:
        """One request to the sub-LM; None where it was refused or failed."""
        self._calls["0"].children += 1
        address, model = f"0.{self._calls['0'].children}", self.models.sub
        with self._open(address, CallStarted("0", 1, "llm", model.name, prompt, len(prompt))):
            try:
                said = await self.dispatch.complete(address, model, prompts.sub(prompt, None), "sub")
            except ModelError as error:
                said = Refusal(StopReason.ERROR, str(error))
            if isinstance(said, Refusal):
                self._close_call(address, Status.FAILED, said.message)
                return None
            self._close_call(address, Status.COMPLETE, reply.spoken(said))
            return said

    async def call(self, call: Call, corpus: Corpus, spans: Sequence[Span] | None) -> Answer:
        """One call with a REPL, root or child, from its first iteration to its answer."""
        assert self.sandbox is not None
        model = self.models.root if call.kind == "root" else self._model(call.model)
        recorded = Recorded(self.earlier, corpus) if self.earlier is not None and call.kind == "root" else None

        async def ask(query: Query) -> list[str | Failed]:
            again = recorded is not None and not recorded.over
            return await (recorded.ask(query) if recorded and again else self._ask(call, corpus, query))

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
                    sent: Completion | Refusal | Output | RlmError = await self._complete(
                        call, model, messages, purpose
                    )
                case Execute(code, subcalls):
                    sent = await self._execute(call, repl, code, subcalls)
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

    async def _execute(self, call: Call, repl: Repl, code: str, subcalls: bool) -> Output:
        self.emit(CodeStarted(code), call.address)
        own = self._calls[call.address]
        own.refused = None
        deadline = self.dispatch.deadline
        left = deadline.left(landing=not subcalls)
        timeout = None if left is None else max(left, 0.0) + deadline.grace
        assert self._fatal is not None
        running = asyncio.ensure_future(repl.execute(code, subcalls=subcalls, timeout_s=timeout))
        ends: list[asyncio.Future[Any]] = [running, self._fatal]
        try:
            await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
            if self._fatal.done():
                raise self._fatal.result()
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

    async def _ask(self, parent: Call, corpus: Corpus, query: Query) -> list[str | Failed]:
        """Answer the prompts of one query, concurrently; a failure takes its place in the results."""
        assert self._fatal is not None
        if self._fatal.done():
            return [Failed("the run is ending")] * len(query.prompts)
        model = self.models.named(query.model)
        if model is None:
            known = ", ".join(sorted({m.name for m in self.models.all}))
            failed = Failed(f"model {query.model!r} may not be used here; these may: {known}")
            return [failed] * len(query.prompts)
        self._advise(parent, query)
        # A child with a REPL is the same only to its own parent: two that wait for each other would never end.
        scope = parent.address if query.kind == "rlm" and parent.recursive else parent.sample
        refusal, asked = None, list[asyncio.Task[str | Failed]]()
        async with asyncio.TaskGroup() as group:
            for prompt, context in zip(query.prompts, query.contexts, strict=True):
                print_ = contexts.fingerprint(corpus, query.kind, prompt, context)
                key = f"{scope} {model.name} {print_.hex()}" if print_ else ""
                if key in self._asked:
                    asked.append(group.create_task(_outcome(self._asked[key])))
                    continue
                if refusal := self.ledger.admit_subcall():
                    break
                one = _Asked(query.kind, prompt, context, print_.hex())
                answering = group.create_task(self._answer(parent, corpus, model, one))
                asked.append(answering)
                if key:
                    self._asked[key] = answering
                    answering.add_done_callback(partial(self._forget_failed, key))
        results = [one.result() for one in asked]
        if refusal is not None:
            results += [self._refuse(parent, refusal)] * (len(query.prompts) - len(asked))
        return results

    def _forget_failed(self, key: str, answering: asyncio.Task[str | Failed]) -> None:
        if answering.cancelled() or answering.exception() or isinstance(answering.result(), Failed):
            del self._asked[key]

    def _advise(self, parent: Call, query: Query) -> None:
        """Many thin prompts draw one advice a call."""
        own = self._calls[parent.address]
        if own.advised or len(query.prompts) <= prompts.MANY:
            return
        sizes = [len(p) + contexts.length(c) for p, c in zip(query.prompts, query.contexts, strict=True)]
        median = int(statistics.median(sizes))
        if median < prompts.THIN:
            own.advised = True
            own.remarks.append(prompts.thin(len(sizes), median, parent.sub_chars))

    async def _answer(self, parent: Call, corpus: Corpus, model: Model, asked: _Asked) -> str | Failed:
        if not asked.prompt.strip() and not contexts.length(asked.context):
            return Failed("the prompt is empty: say what is to be answered")
        try:
            if asked.kind == "rlm" and parent.recursive:
                return await self._child(parent, corpus, model, asked)
            return await self._sub(parent, corpus, model, asked)
        except ConfigError as error:
            return self._end(error)
        except ModelError as error:
            return self._end(error) if error.terminal else Failed(str(error))
        except RlmError as error:  # a child's sandbox that does not start: its parent can go on
            return Failed(str(error))
        except Unwritable as error:
            return Failed(f"the context cannot be written to disk: {error}")

    async def _sub(self, parent: Call, corpus: Corpus, model: Model, asked: _Asked) -> str | Failed:
        """A sub-call without a REPL: one completion."""
        prompt, context = asked.prompt, asked.context
        size = len(prompt) + contexts.length(context)
        if size > model.window * contexts.SURELY_TOO_LONG:
            return Failed(
                f"the prompt has {size:,} characters; {model.name} takes about {contexts.sub_chars(model):,}:"
                " cut the text into parts"
            )
        messages = prompts.sub(prompt, contexts.text_of(corpus, context))
        address = self._address(parent)
        chars = len(messages[-1].content)
        started = CallStarted(parent.address, parent.depth + 1, "llm", model.name, prompt, chars, asked.key)
        with self._open(address, started):
            completion = await self.dispatch.complete(address, model, messages, "sub")
            if isinstance(completion, Refusal):
                self._close_call(address, Status.FAILED, completion.message)
                return self._refuse(parent, completion)
            self.seen.saw(messages[-1].content)
            said = reply.spoken(completion)
            self._close_call(address, Status.COMPLETE if said else Status.FAILED, said)
        if completion.finish_reason == "length":
            self.emit(NoticeGiven("reply_cut", "a sub-call's reply was cut off by its output limit"), address)
        return said or Failed(f"{model.name} sent an empty reply")

    async def _child(self, parent: Call, corpus: Corpus, model: Model, asked: _Asked) -> str | Failed:
        """A sub-call with a REPL of its own over just what it was given: slices of its parent's corpus, or a text."""
        prompt, context = asked.prompt, asked.context
        size, most = contexts.length(context), corpus.chars + contexts.LARGEST_TEXT
        if size > most:
            return Failed(f"the context has {size:,} characters, more than all there is: pass each slice once")
        spans = contexts.spans_of(context)
        address, depth = self._address(parent), parent.depth + 1
        whole = prompt if context is None else context
        chars = contexts.length(whole)
        started = CallStarted(parent.address, depth, "rlm", model.name, prompt, chars, asked.key)
        with self._open(address, started):
            async with self._repls[depth], contexts.own_corpus(corpus, spans, whole) as own:
                call = replace(
                    parent,
                    address=address,
                    kind="rlm",
                    depth=depth,
                    question=prompt,
                    model=model.name,
                    preview=contexts.preview(own, spans, None, self.job.settings.context_memory),
                    recursive=depth + 1 < self.job.settings.max_depth,
                    window_bytes=contexts.window_bytes(model),
                    landing=True,
                    asks_of_itself=context is None,
                    earlier=(),
                )
                if lack := prompts.lacking(call):
                    too_long = f"the prompt is {lack:,} bytes too long for {model.name}: pass text as context="
                    self._close_call(address, Status.FAILED, too_long)
                    return Failed(too_long)
                answer = await self.call(call, own, spans)
            if answer.partial and not answer.found:
                why = f"the child was stopped by {answer.stop_reason}"
                self._close_call(address, Status.FAILED, why)
                if answer.stop_reason in RUN_WIDE:
                    return self._refuse(parent, Refusal(answer.stop_reason, why))
                return Failed(why)
            text = answer_text(answer.value) if answer.found else prompts.NOTHING_FOUND
            if answer.partial:
                text = f"{prompts.partial_child(answer.stop_reason)}\n{text}"
            self._close_call(address, _status(answer), text)
        return text

    async def _direct(self, address: str) -> Answer:
        """One request with the whole text, answered in words; an empty reply is no answer, and asked for again."""
        corpus, model = self.documents.corpus, self.models.root
        question, earlier = self.job.question, self.earlier
        if earlier is None:
            messages = prompts.direct(question, corpus.text(*corpus.whole))
        else:
            messages = prompts.direct_again(earlier.messages, earlier.reply, question)
        why = ""
        for _ in range(EMPTY_REPLIES):
            completion = await self.dispatch.complete(address, model, messages, "direct")
            if isinstance(completion, Refusal):
                return Answer(None, (), completion.reason)
            self.seen.saw_all()
            cut = completion.finish_reason == "length"
            if not reply.spoken(completion):
                why = "its output limit went into reasoning" if cut else ""
                continue
            if cut:
                self.emit(NoticeGiven("reply_cut", "the reply was cut off by its output limit"), address)
            said = reply.words(completion.text, [document.path for document in corpus.documents])
            return Answer(said.value, said.quotes, StopReason.MAX_TOKENS if cut else StopReason.FINAL)
        raise ModelError(f"{model.name} sent an empty reply, {EMPTY_REPLIES} times", why=why, hint="try another model")

    def _refuse(self, parent: Call, refusal: Refusal) -> Failed:
        """A limit refused a sub-call: the parent's cell goes on, and lands after it."""
        own = self._calls[parent.address]
        own.refused = own.refused or self.dispatch.hit(refusal, parent.address)
        return Failed(f"refused: {refusal.message}")

    def _end(self, error: RlmError) -> Failed:
        """No further request can succeed: the run ends at the next look."""
        assert self._fatal is not None
        if not self._fatal.done():
            self._fatal.set_result(error)
        return Failed(str(error))

    @contextmanager
    def _open(self, address: str, call: CallStarted) -> Iterator[None]:
        """A call on the stream, which its body closes; one that raises has failed."""
        self.emit(call, address)
        try:
            yield
        except BaseException as error:
            self._close_call(address, Status.FAILED, str(error))
            raise
        finally:
            self.ledger.close_call(address)

    def _finished(self, address: str, answer: Answer) -> None:
        self._close_call(address, _status(answer), answer_text(answer.value))

    def _close_call(self, address: str, status: Status, text: str) -> None:
        usage, cost = self.state.calls[address].subtree()
        self.emit(CallFinished(str(status), text, usage, cost), address)

    def _address(self, parent: Call) -> str:
        own = self._calls[parent.address]
        own.children += 1
        return f"{parent.address}.{own.children}"

    def _model(self, name: str) -> Model:
        model = self.models.named(name)
        assert model is not None
        return model


async def _outcome(answering: asyncio.Task[str | Failed]) -> str | Failed:
    """What came of a sub-call that another one asked."""
    await asyncio.wait([answering])
    if answering.cancelled() or answering.exception():
        return Failed("the same prompt was being asked, and was given up")
    return answering.result()


def _status(answer: Answer) -> Status:
    return Status.PARTIAL if answer.partial else Status.COMPLETE if answer.found else Status.NOT_FOUND
