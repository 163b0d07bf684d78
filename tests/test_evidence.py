"""The host's evidence: quotes are found where they stand, and nothing is counted as seen that was not."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rlm_cli.builder import CorpusBuilder
from rlm_cli.corpus import Corpus
from rlm_cli.evidence import Coverage, locate
from rlm_cli.result import Located, Quote


@pytest.fixture
def corpus() -> Iterator[Corpus]:
    builder = CorpusBuilder()
    for number in range(3):
        with builder.document(f"d/{number}.pdf", "pdf") as document:
            document.page()
            document.write(f"Intro line of document number {number}\nEither party may\n")
            document.write("  terminate “without” no-\ntice.\n")
            document.page()
            document.write(f"unique efﬁcient thing {number} stands here **bold** now\nshort\n")
    made = builder.finish()
    yield made
    made.close()


@pytest.mark.parametrize(
    ("text", "path", "located", "where", "matches"),
    [
        ("party may terminate", None, Located.AMBIGUOUS, None, 3),
        ("party may terminate", "1.pdf", Located.EXACT, ("d/1.pdf", 1, (2, 3)), 1),
        ("document number 2  Either\tparty", None, Located.EXACT, ("d/2.pdf", 1, (1, 2)), 1),
        ("document number 2", "d/0.pdf", Located.EXACT, ("d/2.pdf", 1, (1, 1)), 1),
        ('terminate "without" notice', "d/0.pdf", Located.APPROXIMATE, ("d/0.pdf", 1, (3, 4)), 1),
        ("Unique EFFICIENT thing 1 stands here bold", None, Located.APPROXIMATE, ("d/1.pdf", 2, (5, 5)), 1),
        ("Intro line | of document | number 1", None, Located.APPROXIMATE, ("d/1.pdf", 1, (1, 1)), 1),
        ("either party may not terminate", None, Located.NO, None, 0),
        ("===== d/1.pdf =====", None, Located.NO, None, 0),
        ("number 0 Either party may terminate “without” no- tice. un", "", Located.EXACT, ("d/0.pdf", 1, (1, 5)), 1),
        ("  ", None, Located.NO, None, 0),
        ("it", None, Located.NO, None, 0),
        ("1", "d/0.pdf", Located.EXACT, ("d/1.pdf", 1, (1, 1)), 2),
        ("a" * 30_000, None, Located.NO, None, 0),
    ],
)
def test_quotes(corpus: Corpus, text: str, path: str | None, located: Located, where: object, matches: int) -> None:
    """A quote is exact but for white space, approximate with its difference, ambiguous, or not there; no header is."""
    found = locate(corpus, Quote(text, path), 7)
    assert (found.n, found.located, found.matches) == (7, located, matches)
    assert ((found.path, found.page, found.lines) if found.path else None) == where
    assert (found.difference is not None) == (located is Located.APPROXIMATE)


def test_decomposed_letters_are_the_same_letters() -> None:
    """A document that writes ü as u and a mark (macOS does), quoted with one character, and the other way round."""
    composed = "Die Kündigungsfrist beträgt drei Monate."
    for written, quoted in (
        (unicodedata.normalize("NFD", composed), composed),
        (composed, unicodedata.normalize("NFD", composed)),
    ):
        builder = CorpusBuilder()
        with builder.document("a.txt", "text") as document:
            document.write(f"Vertrag\n{written}\n")
        made = builder.finish()
        found = locate(made, Quote(quoted), 1)
        assert (found.located, found.lines) == (Located.APPROXIMATE, (2, 2))
        assert locate(made, Quote("Die Kundigungsfrist betragt drei Monate"), 1).located is Located.NO
        made.close()


@settings(max_examples=60, deadline=None)
@given(st.lists(st.text("ab é”\n", max_size=60), min_size=1, max_size=3), st.data())
def test_what_was_copied_is_found(texts: list[str], data: st.DataObject) -> None:
    """Whatever stands in a document is located exactly, or in several documents."""
    builder = CorpusBuilder()
    for number, text in enumerate(texts):
        with builder.document(str(number), "text") as document:
            document.write(text)
    made = builder.finish()
    text = data.draw(st.sampled_from(texts))
    start = data.draw(st.integers(0, len(text)))
    quote = text[start : start + data.draw(st.integers(0, 30))]
    found = locate(made, Quote(quote), 1).located
    made.close()
    if len("".join(quote.split())) >= 3:
        assert found in (Located.EXACT, Located.AMBIGUOUS)
    elif not quote.strip():
        assert found is Located.NO


HOSTILE = ["(a+)+$" * 100, "\\", "a " * 5000, "\ud800abc", "*_`" * 50, "-" * 100, "ab " * 300 + "c"]


@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_quotes_are_only_text(corpus: Corpus, text: str) -> None:
    """What a model quotes is never a pattern and never raises."""
    assert locate(corpus, Quote(text), 1).located is Located.NO


def test_coverage_counts_document_lines_once(corpus: Corpus) -> None:
    """Lines in a prompt count once, cut lines too, headers and words of the prompt's own not at all."""
    coverage = Coverage(corpus)
    coverage.saw("Answer from this text only:\n\nline of document number 1\nEither party may\n  termin")
    assert (coverage.lines_seen, coverage.documents_seen) == (3, 1)
    coverage.saw("line of document number 1\n")
    assert (coverage.lines_seen, coverage.documents_seen) == (3, 1)
    coverage.saw("before\n" + corpus.text() + "after\n")
    assert (coverage.lines_seen, coverage.documents_seen) == (corpus.lines, 3)
