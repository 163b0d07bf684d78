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


TABLE = """Some words about pumps.

pump,site,installed
P-101,Leeds,2019-04-02
P-102,York,2021-11-19
"""
TERMS = """1.4. "Covered Software"
    means source code to which a notice is attached.

Covered Software is provided as it is. Covered Software may be copied.
Covered Software is provided as it is.
"""
LONG = "The lender " + "and everybody else who has anything to do with it " * 12 + "shall pay a fine of 20 euros."


@pytest.mark.parametrize(
    ("question", "text", "quote"),
    [
        ("When was the pump in York installed?", TABLE, "P-102,York,2021-11-19"),
        ("What is Covered Software?", TERMS, "means source code to which a notice is attached."),
        (
            "每月租金是多少？",
            "出租方将房屋出租。每月租金为人民币八千元，押金另付。合同三年。",
            "每月租金为人民币八千元，押金另付。",
        ),
        (
            "委託料はいくらですか？",
            "甲は業務を行う。委託料は月額二十万円とする。期間は一年。",
            "委託料は月額二十万円とする。",
        ),
        ("월급은 얼마입니까?", "근로자는 매일 근무한다. 월급은 삼백만 원이다. 휴가는 없다.", "월급은 삼백만 원이다."),
        (
            "Какова арендная плата?",
            "Склад большой. Арендная плата составляет 9 рублей. Конец.",
            "Арендная плата составляет 9 рублей.",
        ),
        (
            "Wie hoch ist die Miete?",
            "Die Wohnung ist schön. Die Miete beträgt 850 Euro. Ende.",
            "Die Miete beträgt 850 Euro.",
        ),
        (
            "How many guests are allowed at most?",
            "Guests are welcome. Up to 8 guests are allowed. 3 guests came.",
            "Up to 8 guests are allowed.",
        ),
        (
            "How long is the notice period?",
            "The notice period is fair. The notice period is two weeks.",
            "The notice period is two weeks.",
        ),
        (
            "Which ids are for users?",
            "There are ids.\n\n100-999:\n\n   Ids for users of the system.",
            "100-999: Ids for users of the system.",
        ),
    ],
)
def test_forms_and_scripts(question: str, text: str, quote: str) -> None:
    """Tables by their first line, definitions, numbers and durations, scripts without spaces, other languages."""
    quotes = [found.text for found in directly(question, text).quotes]
    assert quote in quotes
    for found in quotes:
        assert found in " ".join(text.split())


def test_copies_and_long_sentences() -> None:
    """The same sentence is quoted once; of one too long to quote, a part that stands there."""
    said = directly("Is Covered Software provided?", TERMS)
    assert [found.text for found in said.quotes].count("Covered Software is provided as it is.") == 1
    (found,) = directly("What fine shall the lender pay?", LONG).quotes
    assert "fine of 20 euros" in found.text
    assert found.text in LONG
    assert len(found.text) < 400


def test_names_decide() -> None:
    """Who asks for the Eiffel Tower is not told of a mill, which is tall too."""
    assert directly("How tall is the Eiffel Tower?", "The mill is 20 m tall.").value is None
    assert directly("How tall is the Eiffel Tower?", "The Eiffel Tower is 330 m tall.").value is not None


@pytest.mark.slow
def test_the_fact_is_in_the_answer() -> None:
    """Of the benchmark's questions, where Debian's documents are installed: a share that is worth having."""
    from benchmarks.bench_offline import HELD_OUT, QUESTIONS, quality

    for questions, least in ((QUESTIONS, 0.85), (HELD_OUT, 0.7)):
        root, reader, none, _ = quality(questions=questions)
        assert min(root, reader) >= least
        assert none == 1


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
    assert terms("When did the war end?") == terms("Is there a war end?") == ["war", "end"]
    assert terms("Welche Kündigungsfrist gilt?") == terms("Kündigungsfrist")
