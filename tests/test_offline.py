"""`offline/extractive`: what it finds, what it leaves alone, and that its code runs in a bare REPL."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Any

import pytest

from rlm_cli import prompts, reply
from rlm_cli.call import Call, Completion, Entry, Message, Output, Preview, Trajectory, Turn
from rlm_cli.ledger import Refusal, StopReason
from rlm_cli.models import connect
from rlm_cli.models.extract import terms

GUIDE = """# Pump guide

The pump was built in Leeds. It weighs 40 kg.

## Installation

Put it on level ground. Then run:

```
sudo pump --install
```

## Warranty

| part | years |
| --- | --- |
| motor | 5 |

- The seals are covered for 18 months.
- Damage by frost is not covered, e.g. burst
  pipes in winter.
"""
CONTRACT = """9.2 Termination
Either party may terminate this Agreement without notice. Dr. Birch signed it on 3 May 2021.
"""


@dataclass
class Document:
    """What code in the REPL sees of a document."""

    path: str
    text: str


def answer(messages: tuple[Message, ...]) -> Completion:
    model = connect("offline/extractive", models={}, keys={}, environ={})
    return asyncio.run(model.complete(messages, max_output_tokens=100, sub=False))


def directly(question: str, text: str, paths: tuple[str, ...] = ()) -> reply.Handover:
    return reply.words(answer(prompts.direct(question, text)).text, paths)


def question_call(question: str, sub_chars: int = 20_000) -> Call:
    preview = Preview(1, 1, (Entry("a", 1, 1, 0),), 10, 1, 'original query: "no"', "")
    return Call("0", "root", 0, question, "offline/extractive", preview, sub_chars, False, 20, 100_000)


def as_root(messages: tuple[Message, ...], documents: list[Document]) -> tuple[list[Any], list[str]]:
    """Run the block a root writes as the REPL would: what was handed over, and the sub-prompts."""
    parsed = reply.read(answer(messages))
    assert parsed.code is not None
    handed: list[Any] = []
    asked: list[str] = []

    def llm_query(prompt: str, context: str | None = None) -> str:
        asked.append(prompt)
        return answer(prompts.sub(prompt, context)).text

    def final(value: Any, quotes: Any = ()) -> None:
        handed.append((value, quotes))

    exec(parsed.code, {"docs": documents, "llm_query": llm_query, "FINAL": final})
    return handed, asked


@pytest.mark.parametrize(
    ("question", "text", "quote"),
    [
        ("How do I install it?", GUIDE, "sudo pump --install"),
        ("Where was the pump built?", GUIDE, "The pump was built in Leeds."),
        ("How long is the warranty of the motor?", GUIDE, "| motor | 5 |"),
        ("Is frost damage covered?", GUIDE, "Damage by frost is not covered, e.g. burst pipes in winter."),
        ("Who may terminate the agreement?", CONTRACT, "Either party may terminate this Agreement without notice."),
        ("When was it signed?", CONTRACT, "Dr. Birch signed it on 3 May 2021."),
    ],
)
def test_sentences_are_found_and_quoted(question: str, text: str, quote: str) -> None:
    """Direct mode answers with sentences of the text, each a quote that stands there, white space apart."""
    said = directly(question, text)
    quotes = [found.text for found in said.quotes]
    assert quote in quotes
    assert "[1]" in said.value
    for found in quotes:
        assert found in " ".join(text.split())


@pytest.mark.parametrize("question", ["Who is the king of Spain?", "What is it?", "", "???"])
def test_nothing_is_made_up(question: str) -> None:
    """Where the question's words are not in the text, the documents do not answer."""
    assert directly(question, GUIDE).value is None


def test_the_question_itself_is_no_answer() -> None:
    """A text that quotes the question (a README with examples) is not answered by that quotation."""
    text = 'Try: rlm ask "Where are the seals made?"\n\nThe seals are made in Oslo.\n'
    assert [q.text for q in directly("Where are the seals made?", text).quotes] == ["The seals are made in Oslo."]


def test_several_documents() -> None:
    """With headers in the text a quote names its document."""
    text = f"===== guide.md ===== 1f\n{GUIDE}\n===== c/ontract.txt ===== 1f\n{CONTRACT}"
    found = directly("Who may terminate the agreement?", text, ("guide.md", "c/ontract.txt"))
    assert found.quotes[0].path == "c/ontract.txt"


def test_root_answers_over_many_documents() -> None:
    """As root it asks about the best passages only, once, and hands over their sentences with paths."""
    filler = [Document(f"{n}.txt", f"Nothing of note happened in year {n}.\n" * 200) for n in range(50)]
    documents = [*filler, Document("guide.md", GUIDE), Document('q"\\.txt', CONTRACT)]
    handed, asked = as_root(prompts.turn(question_call("Who may terminate the agreement?"), Trajectory()), documents)
    assert len(asked) == 1
    assert len(asked[0]) < 20_000
    value, quotes = handed[0]
    assert value == "Either party may terminate this Agreement without notice. [1]"
    assert quotes == [('q"\\.txt', "Either party may terminate this Agreement without notice.")]


def test_root_finds_one_line_among_many() -> None:
    """A needle in a text of many passages is found, and what is asked stays within the sub-LM's size."""
    lines = [f"2026-01-01 pump {n} runs as it should\n" for n in range(20_000)]
    lines.insert(12_345, "2026-01-01 pump 7 reports a broken impeller\n")
    call = question_call("Which pump has a broken impeller?", sub_chars=8_000)
    handed, asked = as_root(prompts.turn(call, Trajectory()), [Document("log", "".join(lines))])
    assert "pump 7 reports a broken impeller" in handed[0][0]
    assert len(asked[0]) <= 8_000


@pytest.mark.parametrize("question", ['Who said "no"? \\ {x} """', "Who reigns in Spain's kingdom?"])
def test_root_without_an_answer(question: str) -> None:
    """Questions of any shape make code that runs; without a match None is handed over and nobody is asked."""
    handed, asked = as_root(
        prompts.turn(question_call(question), Trajectory()), [Document("x", "Something else entirely.")]
    )
    assert (handed[0][0], asked) == (None, [])


def test_root_after_a_failed_subcall_and_at_the_landing() -> None:
    """When its sub-call failed, or none are allowed any more, it quotes the best lines itself."""
    call = question_call("Where was the pump built?")
    first = reply.read(answer(prompts.turn(call, Trajectory())))
    failed = Trajectory((Turn(first, Output(error="SubcallError: no")),))
    stop = Refusal(StopReason.MAX_BUDGET, "the budget is spent")
    for messages in (prompts.turn(call, failed), prompts.landing_code(call, Trajectory(), stop)):
        handed, asked = as_root(messages, [Document("guide.md", GUIDE)])
        assert asked == []
        assert "The pump was built in Leeds." in handed[0][0]
    words = reply.words(answer(prompts.landing_words(call, failed, stop)).text)
    assert "No answer" in words.value


def test_usage_and_price() -> None:
    """It counts what it read and costs nothing, known to be nothing; the same request has the same reply."""
    messages = prompts.direct("Where was the pump built?", GUIDE)
    completion = answer(messages)
    assert completion.cost_usd == 0
    assert completion.usage.input_tokens > 0
    assert completion == answer(messages)


def test_terms() -> None:
    """Endings and stop words do not keep a question from its words."""
    assert terms("How do I install it?") == terms("the installation") == terms("installing")
    assert terms("Which parties terminated?") == terms("party termination")
