"""One question, end to end: drives the loop and answers its sub-calls by calling itself.

Root call and sub-call are the same value (`Call`) and the same function (`Run.call`): recursion is recursion. Sub-call
failures are values here (`Failed`, raised inside the REPL); what no further request can mend (a wrong key, no quota)
ends the run at once.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from . import contexts, loop, prompts, reply
from .builder import Unwritable
from .call import Call, Complete, Completion, Execute, Message, Output, Purpose
from .corpus import Corpus
from .dispatch import OUT_OF_TIME, Deadline, Dispatch
from .errors import ConfigError, ModelError, RlmError
from .events import (
    CallFinished,
    CallStarted,
    CodeFinished,
    CodeStarted,
    IterationStarted,
    NoticeGiven,
    ToolFinished,
    ToolStarted,
)
from .evidence import Coverage
from .ledger import Ledger, Refusal, StopReason
from .models import Model
from .prepare import Documents, Job, Models
from .result import Answer, Status, answer_text
from .sandbox import Context, Failed, Query, Repl, Sandbox, Span
from .seen import Seen
from .stream import Stream
from .tools import Returned, Tools

USED_STEPS = (0.9, 0.75, 0.5)
"""Shares of the budget at which the root is told how much is used."""
EMPTY_REPLIES = 3
"""In a row, to the one request of direct mode, before the model is given up on."""
TOOL_CHARS = 100_000
"""Characters that the trace keeps of the arguments, and of the result, of a call of a function of the user's."""
PRINTED_CHARS = 2_000
"""And of what its code printed: the end of it."""
RUN_WIDE = frozenset({StopReason.MAX_BUDGET, StopReason.MAX_TOKENS, StopReason.MAX_SUBCALLS, StopReason.TIMEOUT})
"""Limits that a child shares with its parent: where it met one, the parent will too."""


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
        tools: Tools | None = None,
    ) -> None:
        self.job = job
        self.models = models
        self.documents = documents
        self.sandbox = sandbox
        self.tools = tools
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
        )
        self.seen = Seen(Coverage(documents.corpus), documents.corpus.lines, stream.emit)
        # Children's places, by depth: who waits for one waits for calls of its own depth, and these for deeper ones.
        self._repls = defaultdict[int, asyncio.Semaphore](lambda: asyncio.Semaphore(job.settings.jobs))
        self._children: dict[str, int] = {}
        self._refused: dict[str, Refusal] = {}
        self._fatal: asyncio.Future[RlmError] | None = None

    async def answer(self, call: Call | None) -> Answer:
        """The answer of the root's call, or of one request with the whole text (None); partial if a limit refused
        anything on the way to it, in a child too.

        Raises `RlmError` where the run cannot go on.
        """
        self._fatal = asyncio.get_running_loop().create_future()
        if call is None:
            return await self._direct()
        with self._open(call.address, CallStarted(None, 0, "root", call.model, call.question, call.preview.chars)):
            answer = await self.call(call, self.documents.corpus, None)
            self._finished(call.address, answer)
        if not answer.partial and (limit := self.dispatch.first_hit(RUN_WIDE)) is not None:
            return replace(answer, stop_reason=limit)
        return answer

    async def call(self, call: Call, corpus: Corpus, spans: Sequence[Span] | None) -> Answer:
        """One call with a REPL, root or child, from its first iteration to its answer."""
        assert self.sandbox is not None
        model = self.models.root if call.kind == "root" else self._model(call.model)
        repl = await self.sandbox.open(corpus, spans, lambda query: self._ask(call, corpus, query))
        try:
            self.seen.saw(call.preview.head)
            self.seen.saw(call.preview.tail)
            return await self._drive(call, model, repl)
        finally:
            await repl.close()

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
        own = {StopReason.MAX_ITERATIONS: loop.out_of_iterations(call), StopReason.NO_PROGRESS: loop.NO_PROGRESS}
        if answer.stop_reason in own:
            self.dispatch.hit(own[answer.stop_reason], call.address)
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
        self._refused.pop(call.address, None)
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
        refused = self._refused.pop(call.address, None)
        if refused is None and subcalls and output.answer is None and deadline.is_over:
            refused = self.dispatch.hit(OUT_OF_TIME, call.address)
        output = replace(output, refused=refused, used=next((s for s in USED_STEPS if self.ledger.used >= s), 0.0))
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
        if query.kind == "tool":
            return [await self._tool(parent, query.model or "", query.prompts[0])]
        model = self.models.named(query.model)
        if model is None:
            known = ", ".join(sorted({m.name for m in self.models.all}))
            failed = Failed(f"model {query.model!r} may not be used here; these may: {known}")
            return [failed] * len(query.prompts)
        refusal, asked = None, list[asyncio.Task[str | Failed]]()
        async with asyncio.TaskGroup() as group:
            for prompt, context in zip(query.prompts, query.contexts, strict=True):
                if refusal := self.ledger.admit_subcall():
                    break
                asked.append(group.create_task(self._answer(parent, corpus, query.kind, model, prompt, context)))
        results = [one.result() for one in asked]
        if refusal is not None:
            results += [self._refuse(parent, refusal)] * (len(query.prompts) - len(asked))
        return results

    async def _answer(
        self, parent: Call, corpus: Corpus, kind: str, model: Model, prompt: str, context: Context | None
    ) -> str | Failed:
        if not prompt.strip() and not contexts.length(context):
            return Failed("the prompt is empty: say what is to be answered")
        try:
            if kind == "rlm" and parent.recursive:
                return await self._child(parent, corpus, model, prompt, context)
            return await self._sub(parent, corpus, model, prompt, context)
        except ConfigError as error:
            return self._end(error)
        except ModelError as error:
            return self._end(error) if error.terminal else Failed(str(error))
        except RlmError as error:  # a child's sandbox that does not start: its parent can go on
            return Failed(str(error))
        except Unwritable as error:
            return Failed(f"the context cannot be written to disk: {error}")

    async def _sub(
        self, parent: Call, corpus: Corpus, model: Model, prompt: str, context: Context | None
    ) -> str | Failed:
        """A sub-call without a REPL: one completion."""
        size = len(prompt) + contexts.length(context)
        if size > model.window * contexts.SURELY_TOO_LONG:
            return Failed(
                f"the prompt has {size:,} characters; {model.name} takes about {contexts.sub_chars(model):,}:"
                " cut the text into parts"
            )
        messages = prompts.sub(prompt, contexts.text_of(corpus, context))
        address = self._address(parent)
        chars = len(messages[-1].content)
        with self._open(address, CallStarted(parent.address, parent.depth + 1, "llm", model.name, prompt, chars)):
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

    async def _child(
        self, parent: Call, corpus: Corpus, model: Model, prompt: str, context: Context | None
    ) -> str | Failed:
        """A sub-call with a REPL of its own over just what it was given: slices of its parent's corpus, or a text."""
        size, most = contexts.length(context), corpus.chars + contexts.LARGEST_TEXT
        if size > most:
            return Failed(f"the context has {size:,} characters, more than all there is: pass each slice once")
        spans = contexts.spans_of(context)
        address, depth = self._address(parent), parent.depth + 1
        whole = prompt if context is None else context
        chars = contexts.length(whole)
        with self._open(address, CallStarted(parent.address, depth, "rlm", model.name, prompt, chars)):
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
            self._finished(address, answer)
        text = answer_text(answer.value) if answer.found else prompts.NOTHING_FOUND
        return f"{prompts.partial_child(answer.stop_reason)}\n{text}" if answer.partial else text

    async def _tool(self, parent: Call, name: str, arguments: str) -> str | Failed:
        """A call of a function of the user's. What it says is shown to models, so no key may be in it."""
        if self.tools is None or (objection := self.tools.objection(name)):
            return Failed(objection if self.tools is not None else "NameError: there are no tools")
        address, kept = self._address(parent), TOOL_CHARS
        shown = self.hidden(arguments)
        omitted = max(len(shown) - kept, 0)
        self.emit(ToolStarted(parent.address, parent.depth + 1, name, shown[:kept], omitted), address)
        returned = Returned(error="CancelledError: the call was cancelled")
        try:
            returned = await self.tools.call(name, arguments)
        finally:
            result, error, printed = map(self.hidden, (returned.result, returned.error, returned.printed))
            omitted = max(len(result) - kept, 0)
            took, printed = round(returned.duration_s, 4), printed[-PRINTED_CHARS:]
            self.emit(ToolFinished(name, result[:kept], omitted, error or None, printed, took), address)
        return Failed(error) if error else result

    async def _direct(self) -> Answer:
        """One call with the whole text."""
        corpus, model = self.documents.corpus, self.models.root
        text = corpus.text(*corpus.whole)
        with self._open("0", CallStarted(None, 0, "root", model.name, self.job.question, len(text))):
            answer = await self._read_whole(model, prompts.direct(self.job.question, text))
            self._finished("0", answer)
        return answer

    async def _read_whole(self, model: Model, messages: tuple[Message, ...]) -> Answer:
        """The answer in words; an empty reply is no answer, and asked for again."""
        why = ""
        for _ in range(EMPTY_REPLIES):
            completion = await self.dispatch.complete("0", model, messages, "direct")
            if isinstance(completion, Refusal):
                return Answer(None, (), completion.reason)
            self.seen.saw_all()
            cut = completion.finish_reason == "length"
            if not reply.spoken(completion):
                why = "its output limit went into reasoning" if cut else ""
                continue
            if cut:
                self.emit(NoticeGiven("reply_cut", "the reply was cut off by its output limit"), "0")
            said = reply.words(completion.text, [document.path for document in self.documents.corpus.documents])
            return Answer(said.value, said.quotes, StopReason.MAX_TOKENS if cut else StopReason.FINAL)
        raise ModelError(f"{model.name} sent an empty reply, {EMPTY_REPLIES} times", why=why, hint="try another model")

    def _refuse(self, parent: Call, refusal: Refusal) -> Failed:
        """A limit refused a sub-call: the parent's cell goes on, and lands after it."""
        self._refused.setdefault(parent.address, self.dispatch.hit(refusal, parent.address))
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
        status = Status.PARTIAL if answer.partial else Status.COMPLETE if answer.found else Status.NOT_FOUND
        self._close_call(address, status, answer_text(answer.value))

    def _close_call(self, address: str, status: Status, text: str) -> None:
        usage, cost = self.state.calls[address].subtree()
        self.emit(CallFinished(str(status), text, usage, cost), address)

    def _address(self, parent: Call) -> str:
        self._children[parent.address] = self._children.get(parent.address, 0) + 1
        return f"{parent.address}.{self._children[parent.address]}"

    def _model(self, name: str) -> Model:
        model = self.models.named(name)
        assert model is not None
        return model
