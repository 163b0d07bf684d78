"""Every reply is ordinary: one table of what models write, and what comes of it, in the real loop with a real REPL.

A row says what the first reply is and what becomes of it: `runs` (exactly this code), `nudged` (for this reason, and
nothing ran), or `ends` (with exactly this answer). After it the model behaves, so a run that goes wrong shows.
"""

from __future__ import annotations

import asyncio
import sys
from dataclasses import dataclass
from typing import Any

import pytest
from test_loop import a_call

from rlm_cli.call import Complete, Completion, Execute, Message, Output, ToolCall
from rlm_cli.corpus import Corpus
from rlm_cli.errors import ModelError
from rlm_cli.history import _NUDGES as NUDGES
from rlm_cli.loop import converse
from rlm_cli.result import Answer
from rlm_cli.sandbox import Failed, Query, Repl, open_sandbox

ONE = "print(1)"
SPACE, NO_WIDTH = "\u00a0", "\u200b"


def called(arguments: str, name: str = "repl", text: str = "", **more: Any) -> Completion:
    return Completion(text, **{"finish_reason": "tool_calls", "calls": (ToolCall("c1", name, arguments),)} | more)


RUNS: list[tuple[str, str | Completion, str]] = [
    ("the fence it was told", "I look.\n```repl\nprint(1)\n```", ONE),
    ("python", "```python\nprint(1)\n```", ONE),
    ("py", "```py\nprint(1)\n```", ONE),
    ("Python with a capital", "```Python\nprint(1)\n```", ONE),
    ("tool_code", "```tool_code\nprint(1)\n```", ONE),
    ("no tag", "```\nprint(1)\n```", ONE),
    ("tildes", "~~~python\nprint(1)\n~~~", ONE),
    ("four backticks", "````repl\nprint(1)\n````", ONE),
    ("an indented fence", "   ```repl\n   print(1)\n   ```", ONE),
    ("a fence in a list", "1. I look:\n\n   ```python\n   print(1)\n   ```", ONE),
    ("a fence after text on its line", "Here it is: ```repl\nprint(1)\n```", ONE),
    ("a fence on one line", "I run ```python print(1)``` now.", ONE),
    ("code on the line of the fence", "```repl print(1)\n```", ONE),
    ("a closing fence behind the code", "```repl\nprint(1)```", ONE),
    ("attributes behind the tag", '```python title="look.py"\nprint(1)\n```', ONE),
    ("a tag in braces", "```{python}\nprint(1)\n```", ONE),
    ("the language on a line of its own", "```\npython\nprint(1)\n```", ONE),
    ("a label inside the block", "```repl\nlanguage: python\nprint(1)\n```", ONE),
    ("an empty block first", "```repl\n```\n```repl\nprint(1)\n```", ONE),
    ("a fence in a string in the code", '```repl\nx = """\n```\nno end\n```\n"""\nprint(1)\n```\nDone.', 'x = """\n```\nno end\n```\n"""\nprint(1)'),
    ("a longer fence around a shorter one", "````repl\nx = '''\n```\n'''\nprint(1)\n````", "x = '''\n```\n'''\nprint(1)"),
    ("an unclosed fence", "```repl\nprint(1)\n", ONE),
    ("several blocks", "```repl\nprint(1)\n```\nThen:\n```repl\nprint(2)\n```", ONE),
    ("output that it made up", "```repl\nprint(1)\n```\nOutput:\n2\n\nFINAL(\"two\")", ONE),
    ("output that it made up inside the block", "```repl\nprint(1)\nOutput:\n2\n```", ONE),
    ("FINAL in prose before a block", 'FINAL("a guess")\n```repl\nprint(1)\n```', ONE),
    ("a block of text before the code", "It says:\n```\nThe notice period is thirty days.\n```\n```repl\nprint(1)\n```", ONE),
    ("a block of JSON before the code", '```json\n{"plan": "look"}\n```\n```repl\nprint(1)\n```', ONE),
    ("a block for a shell before the code", "```bash\nls\n```\n```python\nprint(1)\n```", ONE),
    ("Windows line ends", "```repl\r\nprint(1)\r\n```\r\n", ONE),
    ("a byte order mark", "\ufeff```repl\nprint(1)\n```", ONE),
    ("no-width characters", f"{NO_WIDTH}```repl\nprint({NO_WIDTH}1)\n```", ONE),
    ("no-break spaces", f"```repl\nif{SPACE}True:\n{SPACE * 4}print(1)\n```", "if True:\n    print(1)"),
    ("typographic quotes", "```repl\nprint(“1”)\n```", 'print("1")'),
    ("escaped for HTML", "```repl\nif 1 &lt; 2: print(1)\n```", "if 1 < 2: print(1)"),
    ("line ends escaped twice", "```repl\\nprint(1)\\n```", ONE),
    ("a session with >>>", "```python\n>>> x = 1\n>>> print(x)\n1\n```", "x = 1\nprint(x)"),
    ("a session with >>> in prose", "I type:\n>>> print(1)\n1", ONE),
    ("a notebook", "```\nIn [1]: x = 1\nIn [2]: print(x)\nOut[2]: 7\n```", "x = 1\nprint(x)"),
    ("a console", "```console\n>>> print(1)\n```", ONE),
    ("return at top level", "```repl\nprint(1)\nif False:\n    return FINAL(2)\n```", "print(1)\nif False:\n    FINAL(2)"),
    ("code without a fence", "x = 1\nprint(x)", "x = 1\nprint(x)"),
    ("code without a fence after prose", "I look at it first.\n\nprint(1)\n", ONE),
    ("code in <code>", "<code>\nprint(1)\n</code>", ONE),
    ("a fence in <code>", "<code>\n```python\nprint(1)\n```\n</code>", ONE),
    ("<python>", "Look: <python>print(1)</python> and so on", ONE),
    ("<execute>", "<execute>\nprint(1)\n</execute>", ONE),
    ("a JSON object", '{"code": "print(1)"}', ONE),
    ("a JSON object with thoughts", '{"thought": "look", "action": "python", "action_input": "print(1)"}', ONE),
    ("a JSON object in a fence", '```json\n{"name": "repl", "arguments": {"code": "print(1)"}}\n```', ONE),
    ("a dict of Python", "{'code': '''x = 1\nprint(x)'''}", "x = 1\nprint(x)"),
    ("a fence inside a JSON object", '{"code": "```python\\nprint(1)\\n```"}', ONE),
    ("<tool_call>", '<tool_call>\n{"name": "repl", "arguments": {"code": "print(1)"}}\n</tool_call>', ONE),
    ("[TOOL_CALLS]", '[TOOL_CALLS] [{"name": "repl", "arguments": {"code": "print(1)"}}]', ONE),
    ("<function=…>", "<function=repl>\n<parameter=code>\nprint(1)\n</parameter>\n</function>", ONE),
    ("<invoke>", '<invoke name="repl"><parameter name="code">print(1)</parameter></invoke>', ONE),
    ("<|python_tag|>", "<|python_tag|>print(1)<|eom_id|>", ONE),
    ("<|python_tag|> without an end", "<|python_tag|>print(1)", ONE),
    ("a channel for calls", '<|channel|>analysis<|message|>I look.<|end|><|start|>assistant<|channel|>commentary to=functions.repl <|constrain|>json<|message|>{"code": "print(1)"}<|call|>', ONE),
    ("a channel for Python", "<|channel|>commentary to=python code<|message|>print(1)<|call|>", ONE),
    ("marks of its template", "<｜tool▁call▁begin｜>function<｜tool▁sep｜>repl\n```json\n{\"code\": \"print(1)\"}\n```<｜tool▁call▁end｜>", ONE),
    ("Action Input", "Thought: look\nAction: python\nAction Input: print(1)\nObservation: 2", ONE),
    ("repl(…) as code", "```python\nrepl(\"print(1)\")\n```", ONE),
    ("thinking first", "<think>```repl\nprint(2)\n```</think>\n```repl\nprint(1)\n```", ONE),
    ("only the end of its thinking", "I think.\n```python\nprint(2)\n```\n</think>\n\n```repl\nprint(1)\n```", ONE),
    ("◁think▷", "◁think▷hm◁/think▷```repl\nprint(1)\n```", ONE),
    ("another language", "Ich sehe nach.\n```repl\nprint(1)\n```\nDann weiter.", ONE),
    ("a call of the function", called('{"code": "print(1)"}'), ONE),
    ("a call without JSON", called("print(1)"), ONE),
    ("a call with JSON around JSON", called('"{\\"code\\": \\"print(1)\\"}"'), ONE),
    ("a call with quotes that were not escaped", called('{"code": "x = "1"\\nprint(x)"}'), 'x = "1"\nprint(x)'),
    ("a call with line ends in JSON", called('{"code": "x = 1\nprint(x)"}'), "x = 1\nprint(x)"),
    ("a call by another name", called('{"script": "print(1)"}', "functions.python"), ONE),
    ("a call with a fence in it", called('{"code": "```python\\nprint(1)\\n```"}'), ONE),
    ("a call of what is in the REPL", called('{"prompt": "one?"}', "llm_query"), "llm_query('one?')"),
    ("two calls", called("", calls=(ToolCall("a", "repl", '{"code": "print(1)"}'), ToolCall("b", "repl", '{"code": "print(2)"}'))), ONE),
    ("a call without code, and a block", called("{}", text="```repl\nprint(1)\n```"), ONE),
    ("a call with no name and no id", called("", calls=(ToolCall("", "", '{"code": "print(1)"}'),)), ONE),
    ("a FINAL that is only spoken of", "I use FINAL(x) later.\n```repl\nprint(1)\n```", ONE),
    ("a whole block although the limit came", Completion("```repl\nprint(1)\n```\nand then", "length"), ONE),
]  # fmt: skip
"""Habit, reply, the code that runs: all of it prints 1."""

NUDGED: list[tuple[str, str | Completion, str]] = [
    ("nothing", "", "empty"),
    ("white space", " \n\t", "empty"),
    ("the word None", "None", "no code"),
    ("reasoning only", Completion("", reasoning="I should look."), "thoughts"),
    ("reasoning only, in the text", "<think>I should look.", "thoughts"),
    ("an empty block", "```repl\n```", "no code"),
    ("code cut off by the limit", Completion("```repl\nprint((1", "length"), "unfinished"),
    ("code cut off where it compiles", Completion("```repl\nprint(1)", "length"), "unfinished"),
    ("a tag cut off where it compiles", Completion("<code>print(1)", "length"), "unfinished"),
    ("<|python_tag|> cut off", Completion("<|python_tag|>print(1)", "length"), "unfinished"),
    ("a call cut off", called('{"code": "print(1)', finish_reason="length"), "unfinished"),
    ("FINAL cut off", Completion('FINAL("Thirty', "length"), "no code"),
    ("an unclosed block that is not whole", "```repl\nprint((1", "unfinished"),
    ("a call with no code", called("{}"), "arguments"),
    ("a call with broken JSON", called('{"code": "print('), "arguments"),
    ("a call of what it made up", called('{"path": "a.txt"}', "read_file"), "arguments"),
    ("a call with a list", called("[]"), "arguments"),
    ("a shell", "```bash\ngrep -r notice .\n```", "language"),
    ("text in a block", "```text\nThirty days\n```", "language"),
    ("SQL", "```sql\nselect 1\n```", "language"),
    ("text in a block without a tag", "```\nThe period is thirty days.\n```", "no code"),
    ("data as JSON", '{"answer": "Thirty days"}', "no code"),
    ("a refusal", "I'm sorry, but I can't help with that.", "refusal"),
    ("a refusal, curled", "I’m sorry, I can’t assist with that request.", "refusal"),
    ("a refusal handed over", 'FINAL("I cannot help with that.")', "refusal"),
    ("a plan", "Let me look at the documents first.", "plan"),
    ("a plan with FINAL", "I will use FINAL(x) when I know.", "plan"),
    ("an answer in prose", "The notice period is thirty days.", "no code"),
    ("an answer in Chinese", "通知期为三十天。", "no code"),
    ("a boxed answer", "So \\boxed{30}.", "no code"),
    ("Final Answer:", "**Final Answer:** thirty days", "no code"),
    ("one word", "Yes", "no code"),
    ("FINAL with nothing in it", "FINAL()", ""),
    ("FINAL that is not closed", "FINAL(", "no code"),
    ("FINAL with a placeholder", 'At the end I write:\nFINAL("your answer")', "no code"),
    ("FINAL followed by more words", "FINAL(42) is what I think of.", "no code"),
    ("two answers", 'FINAL("thirty")\nor rather\nFINAL("sixty")', "several answers"),
    ("FINAL_VAR of words", "FINAL_VAR(the result)", "no code"),
    ("FINAL of a word that is no variable", "FINAL(thirty)", ""),
    ("FINAL_VAR of what is not there", "FINAL_VAR(total)", ""),
    ("code that does not compile", "```repl\nfor x in docs print(x)\n```", ""),
    ("code that does not compile, no tag", "```\nfor x in docs print(x)\n```", ""),
    ("an empty answer", "```repl\nFINAL('')\n```", ""),
    ("an answer guessed before the look", "```repl\nprint(len(docs))\nFINAL('thirty days')\n```", ""),
    ("not found, before the look", "```repl\nprint(len(docs))\nFINAL(None)\n```", ""),
    ("a quote that is not there", "```repl\nFINAL('thirty', quotes=['forty weeks it is'])\n```", ""),
    ("a guess in an answer mapping", "```repl\nanswer = {'content': 'thirty', 'ready': False}\n```", ""),
]  # fmt: skip
"""Habit, reply, the reason the model is told; empty where code ran and its own output says what is wrong."""

ENDS: list[tuple[str, str | Completion, Any]] = [
    ("FINAL in a block", "```repl\nFINAL('thirty')\n```", "thirty"),
    ("FINAL in prose", 'FINAL("thirty days")', "thirty days"),
    ("FINAL in prose after words", 'It is clear.\n\nFINAL("thirty days")', "thirty days"),
    ("FINAL and words after it", 'FINAL("thirty days")\n\nTell me if you need more.', "thirty days"),
    ("FINAL in bold", '**FINAL("thirty")**', "thirty"),
    ("FINAL in backticks", '`FINAL("thirty")`', "thirty"),
    ("FINAL behind a label", 'Final answer: FINAL("thirty")', "thirty"),
    ("FINAL twice alike", 'FINAL("thirty")\n\nFINAL("thirty")', "thirty"),
    ("FINAL with brackets and quotes", 'FINAL("It (really) says \\"30\\" days")', 'It (really) says "30" days'),
    ("FINAL with words", "FINAL(The period is thirty (30) days.)", "The period is thirty (30) days."),
    ("FINAL with words, and more after", "FINAL(The period is thirty (30) days.)\nSee (above).", "The period is thirty (30) days."),
    ("FINAL with a list in words", "FINAL(1) thirty 2) sixty)", "1) thirty 2) sixty"),
    ("FINAL with typographic quotes", "FINAL(“thirty days”)", "thirty days"),
    ("FINAL with wide brackets", "FINAL（“三十天”）", "三十天"),
    ("FINAL with half a quote", 'FINAL("thirty days)', "thirty days"),
    ("FINAL over lines", 'FINAL("""thirty\ndays""")', "thirty\ndays"),
    ("FINAL with a number", "FINAL(42)", 42),
    ("FINAL with a list", "FINAL(['a', 'b'])", ["a", "b"]),
    ("FINAL with a dict", 'FINAL({"days": 30})', {"days": 30}),
    ("FINAL with an expression in prose", "FINAL(len(docs))", 1),
    ("FINAL with an f-string in prose", 'FINAL(f"{len(docs)} document")', "1 document"),
    ("FINAL(None)", "FINAL(None)", None),
    ("FINAL with quotes in prose", 'FINAL("thirty [1]", quotes=[("a.txt", "notice of thirty days")])', "thirty [1]"),
    ("FINAL in a block of text", '```text\nFINAL("thirty")\n```', "thirty"),
    ("FINAL_VAR in a block", "```repl\ntotal = 30\nFINAL_VAR('total')\n```", 30),
    ("FINAL_VAR of a variable", "```repl\ntotal = 30\nFINAL_VAR(total)\n```", 30),
    ("print(FINAL())", "```repl\nprint(FINAL('thirty'))\n```", "thirty"),
    ("return FINAL()", "```repl\nn = 30\nreturn FINAL(n)\n```", 30),
    ("FINAL in a function", "```repl\ndef main():\n    FINAL('thirty')\nmain()\n```", "thirty"),
    ("FINAL under __main__", "```repl\nif __name__ == '__main__':\n    FINAL('thirty')\n```", "thirty"),
    ("FINAL in a thread", "```repl\nimport threading\nt = threading.Thread(target=lambda: FINAL('thirty'))\nt.start(); t.join()\n```", "thirty"),
    ("FINAL in a pool", "```repl\nfrom concurrent.futures import ThreadPoolExecutor\nwith ThreadPoolExecutor() as p:\n    list(p.map(FINAL, ['thirty']))\n```", "thirty"),
    ("FINAL in try/except Exception", "```repl\ntry:\n    FINAL('thirty')\nexcept Exception:\n    FINAL('none')\n```", "thirty"),
    ("FINAL in a bare except", "```repl\ntry:\n    FINAL('thirty')\nexcept:\n    print('went on')\n```", "thirty"),
    ("two FINALs in a block", "```repl\nFINAL('thirty')\nFINAL('sixty')\n```", "thirty"),
    ("await at top level", "```repl\nasync def main():\n    FINAL('thirty')\nawait main()\n```", "thirty"),
    ("the answer mapping", "```repl\nanswer = {'content': 'thirty', 'ready': True}\n```", "thirty"),
    ("the answer mapping without a fence", "answer = {'content': 'thirty', 'ready': True}", "thirty"),
    ("an answer computed in the block of the look", "```repl\nprint(docs[0].path)\nFINAL(docs[0].text.count('notice'))\n```", 1),
    ("a proved answer in the block of the look", "```repl\nprint(1)\nFINAL('thirty', quotes=['notice of thirty days'])\n```", "thirty"),
    ("FINAL as a function", called('{"value": "thirty"}', "FINAL"), "thirty"),
    ("FINAL as a function with another name for it", called('{"answer": "thirty", "quotes": [["a.txt", "notice of thirty days"]]}', "FINAL"), "thirty"),
    ("FINAL in a call as text", '<tool_call>{"name": "FINAL", "arguments": {"value": "thirty"}}</tool_call>', "thirty"),
    ("FINAL in a call", called('{"code": "FINAL(\'thirty\')"}'), "thirty"),
    ("FINAL after thinking", '<think>FINAL("sixty")</think>FINAL("thirty")', "thirty"),
    ("FINAL in its last channel", '<|channel|>analysis<|message|>hm<|end|><|start|>assistant<|channel|>final<|message|>FINAL("thirty")<|return|>', "thirty"),
]  # fmt: skip
"""Habit, reply, the answer."""


@dataclass(frozen=True, slots=True)
class Course:
    """How a run went: its answer, what ran with what output, what was asked."""

    answer: Answer | str
    ran: list[tuple[str, Output]]
    asked: list[tuple[Message, ...]]


def play(corpus: Corpus, conversations: list[list[str | Completion]], **call: Any) -> list[Course]:
    """Each list of replies through a loop of its own, all with one REPL: starting one takes longer than all rows."""

    async def ask(query: Query) -> list[str | Failed]:
        return ["1"] * len(query.prompts)

    async def main() -> list[Course]:
        sandbox = open_sandbox("process", cell_timeout_s=20.0, repl_memory=512 << 20, context_memory=64 << 20)
        try:
            repl = await sandbox.open(corpus, None, ask)
            return [await one(repl, replies) for replies in conversations]
        finally:
            await sandbox.close()

    async def one(repl: Repl, replies: list[str | Completion]) -> Course:
        left, ran, asked = list(replies), list[tuple[str, Output]](), list[tuple[Message, ...]]()
        conversation = converse(a_call(protocol="auto", **call))
        effect = next(conversation)
        try:
            while True:
                match effect:
                    case Complete(messages):
                        asked.append(messages)
                        said = left.pop(0)
                        effect = conversation.send(Completion(said) if isinstance(said, str) else said)
                    case Execute(code, subcalls):
                        output = await repl.execute(code, subcalls=subcalls)
                        ran.append((code.strip(), output))
                        effect = conversation.send(output)
        except StopIteration as stop:
            answer: Answer = stop.value
            return Course(answer, ran, asked)
        except ModelError as error:
            return Course(str(error), ran, asked)
        finally:
            await repl.execute("for name in ('answer', 'total', 'thirty'): globals().pop(name, None)")

    return asyncio.run(main())


DONE = '```repl\nFINAL("done", quotes=["notice of thirty days"])\n```'

needs_repl = pytest.mark.skipif(sys.platform != "linux", reason="the process sandbox is Linux only")


@needs_repl
def test_code_in_any_dress_runs(corpus: Corpus) -> None:
    """Exactly that code runs, it prints what it should, and the run goes on to its answer."""
    for (habit, _, code), course in zip(RUNS, play(corpus, [[reply, DONE] for _, reply, _ in RUNS]), strict=True):
        first, output = course.ran[0]
        assert (first, output.stdout.strip("'\n"), output.error) == (code, "1", None), habit
        assert isinstance(course.answer, Answer), habit
        assert (course.answer.value, len(course.asked)) == ("done", 2), habit


@needs_repl
def test_what_cannot_run_is_explained(corpus: Corpus) -> None:
    """Nothing is taken for an answer, the model is told why, and the next reply ends the run."""
    for (habit, _, why), course in zip(NUDGED, play(corpus, [[reply, DONE] for _, reply, _ in NUDGED]), strict=True):
        assert isinstance(course.answer, Answer), habit
        assert (course.answer.value, len(course.asked)) == ("done", 2), (habit, course)
        told = course.asked[1][-1].content
        if why:
            assert len(course.ran) == 1, (habit, course.ran)
            assert told.startswith(NUDGES[why]), (habit, told)  # type: ignore[index]
        else:
            assert len(course.ran) == 2, (habit, course.ran)
            output = course.ran[0][1]
            assert (output.error or "") in told, habit
            assert output.error or "not taken yet" in told or output.draft, (habit, output)


@needs_repl
def test_an_answer_that_is_clear_ends_the_run(corpus: Corpus) -> None:
    """The very value, after one reply."""
    for (habit, _, value), course in zip(ENDS, play(corpus, [[reply] for _, reply, _ in ENDS]), strict=True):
        assert isinstance(course.answer, Answer), (habit, course)
        assert (course.answer.value, course.answer.partial) == (value, False), habit


def test_the_table_is_long_enough() -> None:
    """No habit twice, and enough of them."""
    habits = [habit for habit, _, _ in (*RUNS, *NUDGED, *ENDS)]
    assert len(set(habits)) == len(habits) >= 80
