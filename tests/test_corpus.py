"""The corpus and its lazy text behave as one `str` with places in it, whatever is written into them."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import rlm_cli.corpus as corpus_module
from rlm_cli import builder, lazy
from rlm_cli.builder import CorpusBuilder, char_width
from rlm_cli.corpus import BLOCK, RESIDENT, WINDOW, Corpus

ODD = st.sampled_from(["\r", "\n", "\r\n", "aa", "aaa\n", "😀é\n", "日本"])
PIECES = st.lists(st.text(max_size=30) | ODD, max_size=12)
BIG = "plain line\nzwölf “Boxkämpfer” 😀 日本語\n" * 9_000
"""Longer than several blocks, with characters of every width."""


@contextmanager
def corpus_of(*texts: str | list[str]) -> Iterator[Corpus]:
    builder = CorpusBuilder()
    for number, text in enumerate(texts):
        with builder.document(f"d/{number}.txt", "text") as document:
            for piece in [text] if isinstance(text, str) else text:
                document.write(piece)
    corpus = builder.finish()
    try:
        yield corpus
    finally:
        corpus.close()


def normal(text: str) -> str:
    text = re.sub("[\ud800-\udfff]", "\ufffd", text.replace("\r\n", "\n").replace("\r", "\n"))
    return text if not text or text.endswith("\n") else text + "\n"


@settings(max_examples=60, deadline=None)
@given(st.lists(PIECES, max_size=4))
def test_documents_come_back_as_written(texts: list[list[str]]) -> None:
    """Every document is its text with `\\n` only, in whatever pieces it came; headers stand between, in one nonce."""
    with corpus_of(*texts) as corpus:
        whole = corpus.text()
        assert len(whole) == corpus.chars
        assert corpus.char_width == char_width(whole)
        for document, pieces in zip(corpus.documents, texts, strict=True):
            assert whole[document.start : document.stop] == normal("".join(pieces))
            assert document.lines == normal("".join(pieces)).count("\n")
            assert corpus.header(document).endswith(f" {corpus.nonce}\n")
        assert corpus.lines == sum(document.lines for document in corpus.documents)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, len(BIG) + 60), st.integers(0, 200))
def test_slices_are_exact_across_blocks(start: int, length: int) -> None:
    """A slice by characters is what `str` gives, wherever the blocks of the index cut a character in two."""
    with corpus_of(BIG) as corpus:
        whole = corpus.header(corpus.documents[0]) + BIG
        assert corpus.bytes > 3 * BLOCK
        assert corpus.text(start, start + length) == whole[start : start + length]
        byte = len(whole[:start].encode())
        assert corpus.byte_of(start) == byte
        assert corpus.char_of(byte) == min(start, len(whole))
        assert corpus.newlines(byte) == whole[:start].count("\n")


def test_a_failed_document_leaves_no_trace() -> None:
    """An exception while reading takes the document out, even when much of it was on disk already."""
    builder = CorpusBuilder()
    with builder.document("a", "text") as document:
        document.write("first é\n" * 50_000)
    with pytest.raises(ZeroDivisionError), builder.document("bad", "text") as document:  # noqa: PT012
        document.page()
        document.write("😀" * 3_000_000)
        raise ZeroDivisionError
    with builder.document("b", "text") as document:
        document.write("second\n")
    corpus = builder.finish()
    assert [document.path for document in corpus.documents] == ["a", "b"]
    assert corpus.text(corpus.documents[0].start, corpus.documents[0].stop) == "first é\n" * 50_000
    assert corpus.text(corpus.documents[1].start) == "second\n"
    assert corpus.char_width == 1
    corpus.close()


def test_pages_and_places() -> None:
    """A place names path, line and page; pages are found again as spans; text before page 1 belongs to it."""
    builder = CorpusBuilder()
    with builder.document("x.pdf", "pdf") as document:
        document.write("title\n")
        for text in ("one", "", "three\nmore"):
            document.page()
            document.write(text)
    corpus = builder.finish()
    document_ = corpus.documents[0]
    assert [corpus.text(*span) for span in corpus.page_spans(document_)] == ["title\none\n", "", "three\nmore\n"]
    place = corpus.place(corpus.find("more"))
    assert (place.path, place.line, place.page) == ("x.pdf", 4, 3)
    assert corpus.text(*corpus.whole) == "title\none\nthree\nmore\n"
    corpus.close()


def test_hostile_paths_stay_on_their_line() -> None:
    """A path cannot forge a header, break a line or carry what is not text."""
    builder = CorpusBuilder()
    with builder.document("a\n===== b\x1b[31m\udc80", "text") as document:
        document.write("x")
    corpus = builder.finish()
    assert corpus.documents[0].path == "a\\n===== b\\x1b[31m\\udc80"
    assert corpus.text().count("\n") == 2
    corpus.close()


def test_the_descriptor_is_all_there_is() -> None:
    """The file has no name, its descriptor cannot write, and another opens the same corpus."""
    with corpus_of("hello\n", "world\n") as corpus:
        with pytest.raises(OSError, match=r"."):
            os.ftruncate(corpus.fd, 0)
        other = Corpus(os.dup(corpus.fd))
        assert (other.sha256, other.text()) == (corpus.sha256, corpus.text())
        other.close()
    with pytest.raises(ValueError, match="no corpus"):
        Corpus(os.open(__file__, os.O_RDONLY))


@contextmanager
def small_windows(slice_chars: int) -> Iterator[None]:
    """Everything is read a few bytes at a time, so that a short text has many borders; parts above `slice_chars` are
    lazy texts."""
    with pytest.MonkeyPatch.context() as patch:
        for module in (corpus_module, builder):
            patch.setattr(module, "BLOCK", 8)
        for module in (corpus_module, lazy.slices, lazy.parts, lazy.text, lazy.regex):
            patch.setattr(module, "WINDOW", 16)
        for module, near in ((lazy.parts, 12), (lazy.slices, 20)):
            patch.setattr(module, "NEAR", near)
        for module in (lazy.parts, lazy.text):
            patch.setattr(module, "SLICE", slice_chars)
        yield


def plain(value: Any) -> Any:
    """Lazy texts and sequences as strings and lists."""
    if isinstance(value, lazy.Text):
        return str(value)
    if isinstance(value, (lazy.parts.Lazy, list, tuple)):
        return [plain(item) for item in value]
    return value


PATTERNS = ["", "a", "a+", r"\w+", "^a", "(?m)^a.*$", r"a\Z", "(a)(b)?", r"\ba", "x*", r"(?<=a)a", r"\n", "$",
            "ab", "ab+", r"\bab", "ab|b", "(?i)AB", "a(b)?é", r"\s", r"(?s)a.*?b", "😀", "日a*"]  # fmt: skip
INDEX = st.one_of(st.none(), st.integers(-90, 90))


@settings(max_examples=200, deadline=None)
@given(
    texts=st.lists(st.text("ab\né😀 日\t\u3000\x1c", max_size=60), min_size=1, max_size=3),
    sub=st.sampled_from(["", "a", "aa", "aba", "\n", "é", "b\n", "zz", "😀", "日a", " "]),
    start=INDEX,
    stop=INDEX,
    step=st.sampled_from([None, 1, 2, 3, -1, -2]),
    pattern=st.sampled_from(PATTERNS),
    slice_chars=st.sampled_from([16, 1000]),
    cuts=st.lists(st.integers(0, 60), max_size=4),
)
def test_a_lazy_text_does_what_a_string_does(
    texts: list[str],
    sub: str,
    start: int | None,
    stop: int | None,
    step: int | None,
    pattern: str,
    slice_chars: int,
    cuts: list[int],
) -> None:
    """Every method, every sequence and every `re` function gives the `str`'s result, over slices of the corpus that
    begin and end anywhere, wherever the borders of windows and of the index fall."""
    with small_windows(slice_chars), corpus_of(*texts) as corpus:
        spans = [(document.start, document.stop) for document in corpus.documents]
        spans += [(low, low + 20) for low in cuts if low + 20 <= corpus.chars]
        text = lazy.Text(corpus, spans)
        same = "".join(corpus.text(*span) for span in spans)
        assert len(text) == len(same)
        assert text == same
        assert str(text) == same
        assert plain(text[start:stop]) == same[start:stop]
        if slice_chars == 1000:
            assert text[start:stop:step] == same[start:stop:step]
        assert [text[at] for at in range(len(same))] == list(same)
        assert [text[at] for at in (-1, len(same) // 2)] == [same[-1], same[len(same) // 2]] if same else not text
        for name in ("find", "rfind", "count", "startswith", "endswith"):
            assert getattr(text, name)(sub, start, stop) == getattr(same, name)(sub, start, stop), name
        assert text.startswith(("zz", sub)) == same.startswith(("zz", sub))
        assert (sub in text) == (sub in same)
        for name in ("strip", "lstrip", "rstrip"):
            assert plain(getattr(text, name)()) == getattr(same, name)(), name
            assert plain(getattr(text, name)(sub or "b")) == getattr(same, name)(sub or "b"), name
        for name in ("removeprefix", "removesuffix"):
            assert plain(getattr(text, name)(sub)) == getattr(same, name)(sub), name
        a_few = (start or 0) % 3
        if sub:
            assert plain(text.split(sub)) == same.split(sub)
            assert plain(text.split(sub, a_few)) == same.split(sub, a_few)
            assert plain(text.rsplit(sub, a_few)) == same.rsplit(sub, a_few)
            assert plain(text.partition(sub)) == list(same.partition(sub))
            assert plain(text.rpartition(sub)) == list(same.rpartition(sub))
        assert plain(text.split(None, a_few)) == same.split(None, a_few)
        lines = re.findall(r"[^\n]*\n|[^\n]+", same)
        for lazily, eager in (
            (text.splitlines(), [line.removesuffix("\n") for line in lines]),
            (text.splitlines(True), lines),
            (text.split("\n"), same.split("\n")),
            (text.split(), same.split()),
            (text.split("a"), same.split("a")),
        ):
            assert plain(lazily) == eager
            assert len(lazily) == len(eager)
            assert bool(lazily) == bool(eager)
            assert [plain(lazily[at]) for at in range(-len(eager), len(eager))] == eager + eager
            assert plain(lazily[start:stop]) == eager[start:stop]
            assert plain(lazily[start:stop:step]) == eager[start:stop:step]
            with pytest.raises(IndexError):
                lazily[len(eager)]
            with pytest.raises(IndexError):
                lazily[-len(eager) - 1]
        assert list(map(plain, reversed(text.splitlines()))) == [line.removesuffix("\n") for line in reversed(lines)]
        compiled = lazy.re.compile(pattern)
        assert text.findall(pattern) == re.findall(pattern, same)
        assert compiled.findall(text, 3, 30) == re.compile(pattern).findall(same, 3, 30)
        assert [m.span() for m in text.finditer(pattern)] == [m.span() for m in re.finditer(pattern, same)]
        assert [m.groups() for m in compiled.finditer(text, 2)] == [
            m.groups() for m in re.compile(pattern).finditer(same, 2)
        ]
        assert span_of(lazy.re.search(pattern, text)) == span_of(re.search(pattern, same))
        assert span_of(lazy.re.match(pattern, text)) == span_of(re.match(pattern, same))
        assert plain(lazy.re.split(pattern, text)) == re.split(pattern, same)
        assert plain(lazy.re.split(pattern, text, maxsplit=2)) == re.split(pattern, same, maxsplit=2)


def span_of(match: Any) -> tuple[int, int] | None:
    return None if match is None else match.span()


def test_patterns_see_across_windows() -> None:
    """Windows do not show: matches at their edges, anchors and borders are those of one string."""
    plain = ("word " * 60_000 + "\n") * 9
    with corpus_of(plain) as corpus:
        text = lazy.view(corpus, None, 0)
        assert isinstance(text, lazy.Text)
        for pattern in (r"\bword\b", r"\A\w+", r"d\s+\Z", r"(?m)^w", "d \nw"):
            assert [m.span() for m in text.finditer(pattern)] == [m.span() for m in re.finditer(pattern, plain)]
        assert text.count("d w") == plain.count("d w")
        assert text.splitlines()[3] == plain.splitlines()[3]
        for long in (plain[5:1_500_000], plain[:1_500_000] + "x"):  # longer than a window
            assert (text.count(long), text.find(long), text.rfind(long)) == (
                plain.count(long), plain.find(long), plain.rfind(long),
            )  # fmt: skip


def test_what_a_corpus_cannot_hold_is_not_in_it() -> None:
    """A lone surrogate is no question mark; a range that ends before it begins holds no match."""
    with corpus_of("who?\n") as corpus:
        text = lazy.Text(corpus, [corpus.whole])
        assert "\ud800" not in text
        assert text.count("\ud800") == 0
        assert text.rfind("\ud800") == corpus.find("\ud800") == -1
        assert lazy.re.compile("").match(text, 3, 2) is None
        assert lazy.re.compile("").match(text, 3, 3).span() == (3, 3)


@pytest.mark.parametrize(
    "code", ["f'{t}'", "t + 'x'", "'x' + t", "''.join(t)", "list(t)", "t.lower()", "re.sub('a', 'b', t)"]
)
def test_what_would_copy_everything_names_the_right_spelling(code: str) -> None:
    """One line that says what to write instead, never gigabytes."""
    with corpus_of("hello\n") as corpus:
        with pytest.raises((ValueError, AttributeError)) as raised:
            eval(code, {"t": lazy.view(corpus, None, 0), "re": lazy.re})
        message = str(raised.value)
        assert "use " in message
        assert "\n" not in message


def test_docs() -> None:
    """Documents by number and by path; in a child only what its slices touch, cut to them."""
    with corpus_of("one\ntwo\n", "three\n", "four\n") as corpus:
        docs = lazy.Docs(corpus)
        assert [doc.path for doc in docs] == ["d/0.txt", "d/1.txt", "d/2.txt"]
        assert docs["d/0.txt"].lines == ["one", "two"]
        assert docs[-1].text == "four\n"
        assert docs["1.txt"].path == "d/1.txt"  # the only one that ends so
        with pytest.raises(KeyError, match=r"close: 'd/1\.txt'"):
            docs["d/1.tex"]
        docs[0].lines.sort(reverse=True)
        assert docs[0].lines == ["one", "two"]  # each is a list of its own
        first, second = corpus.documents[0], corpus.documents[1]
        part = lazy.Docs(corpus, [(first.start + 4, second.start)])
        assert [(doc.path, doc.text, doc.chars) for doc in part] == [("d/0.txt", "two\n", 4)]


def test_a_large_document() -> None:
    """Lines and pages of a document that is large are lazy, with what lists have; an index reads just that."""
    maker = CorpusBuilder()
    with maker.document("x.pdf", "pdf") as document:
        for number in range(30):
            document.page()
            document.write(f"page {number}\n" + "é and more\n" * 20_000)
    corpus = maker.finish()
    doc = lazy.Docs(corpus)[0]
    assert doc.chars > lazy.docs.LISTED
    assert (len(doc.pages), doc.pages[7][:7], doc.pages[-1][:7]) == (30, "page 7\n", "page 29")
    assert [page[:6] for page in doc.pages[2:4]] == ["page 2", "page 3"]
    assert (len(doc.lines), doc.lines[20_001], doc.lines[-1]) == (30 * 20_001, "page 1", "é and more")
    assert sum(len(line) + 1 for line in doc.lines) == sum(map(len, doc.pages)) == doc.chars
    part = lazy.Docs(corpus, [(doc._document.start + 5, doc._document.start + 8)])[0]
    assert (part.text, part.pages[0], len(part.pages), part.pages[1]) == ("0\né", "0\né", 30, "")
    corpus.close()


@pytest.mark.skipif(sys.platform != "linux", reason="/proc")
def test_pages_of_the_map_are_handed_back() -> None:
    """Who has read all of a corpus does not hold all of it in memory."""

    def mapped() -> int:
        return 1024 * int(re.findall(r"RssFile:\s+(\d+)", Path("/proc/self/status").read_text())[0])

    with corpus_of(BIG * 30) as corpus:
        before, most = mapped(), 0
        for low in range(0, corpus.bytes, WINDOW):
            corpus.read(low, low + WINDOW)
            most = max(most, mapped() - before)
        assert corpus.bytes > 3 * RESIDENT
        assert most < 1.5 * RESIDENT


def test_a_small_context_is_a_plain_string() -> None:
    """`context` is a `str` up to the limit, by the widest character; one document comes without its header."""
    with corpus_of("héllo\n") as corpus:
        assert lazy.view(corpus, None, 6) == "héllo\n"
        assert isinstance(lazy.view(corpus, None, 5), lazy.Text)
