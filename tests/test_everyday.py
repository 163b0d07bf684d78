"""Everyday Python in the REPL: what models write for text work runs as it would anywhere, and errors say what mends them.

One REPL for each table, so that a case costs milliseconds; cells see what those before them bound.
"""

from __future__ import annotations

import asyncio
import importlib.util
import sys
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from rlm_cli.builder import CorpusBuilder
from rlm_cli.call import Output
from rlm_cli.corpus import Corpus
from rlm_cli.sandbox import Failed, Query, open_sandbox

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the process sandbox is Linux only")


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Corpus]:
    builder = CorpusBuilder(tmp_path_factory.mktemp("corpus"))
    for path, text in (("reports/2024/a.txt", "alpha\nnotice of thirty days\n"), ("notes.md", "beta line\n" * 3)):
        with builder.document(path, "text") as document:
            document.write(text)
    made = builder.finish()
    yield made
    made.close()


async def answer(query: Query) -> Sequence[str | Failed]:
    return [Failed("refused") if "fail" in prompt else f"llm:{prompt}" for prompt in query.prompts]


def run(corpus: Corpus, cells: Sequence[str]) -> list[Output]:
    async def main() -> list[Output]:
        place = open_sandbox("process", cell_timeout_s=30, repl_memory=512 << 20, context_memory=64 << 20)
        repl = await place.open(corpus, None, answer)
        outputs = [await repl.execute(cell) for cell in cells]
        await place.close()
        return outputs

    return asyncio.run(main())


WORKS = [
    ("re.findall(r'(\\w+) of (\\w+)', context)", "[('notice', 'thirty')]"),
    ("re.sub(r'(?P<n>\\d+)', lambda m: str(int(m['n']) * 2), 'a1 b22')", "'a2 b44'"),
    ("[m.start() for m in re.finditer('a', 'banana')], re.split(r'[,;]\\s*', 'a, b;c')", "([1, 3, 5], ['a', 'b', 'c'])"),
    ("re.compile('X', re.IGNORECASE).search('axb').span()", "(1, 2)"),
    ("json.loads('{\"a\": [1, null]}'), json.dumps({'ü': 1}, ensure_ascii=False)", "({'a': [1, None]}, '{\"ü\": 1}')"),
    ("rows = list(csv.DictReader(io.StringIO('name,n\\nx,1\\n\"y, z\",2')))\nsum(int(row['n']) for row in rows)", "3"),
    ("out = io.StringIO()\ncsv.writer(out).writerow(['a', 'b,c'])\nout.getvalue()", "'a,\"b,c\"\\r\\n'"),
    ("from datetime import datetime, timedelta, timezone\n(datetime(2024, 3, 1) - timedelta(days=1)).strftime('%d %b %Y')", "'29 Feb 2024'"),
    ("datetime.fromisoformat('2024-05-06T07:08:09+02:00').astimezone(timezone.utc).hour", "5"),
    ("from zoneinfo import ZoneInfo\ndatetime(2024, 1, 1, tzinfo=ZoneInfo('America/New_York')).tzname()", "'EST'"),
    ("import zoneinfo\n'Europe/Paris' in zoneinfo.available_timezones()", "True"),
    ("from collections import Counter, defaultdict, OrderedDict, deque, namedtuple\nCounter('abca').most_common(1)", "[('a', 2)]"),
    ("groups = defaultdict(list)\nfor word in 'ant bee ape'.split(): groups[word[0]].append(word)\ndict(groups)", "{'a': ['ant', 'ape'], 'b': ['bee']}"),
    ("dict(sorted({'a': 1, 'b': 3, 'c': 2}.items(), key=lambda kv: -kv[1]))", "{'b': 3, 'c': 2, 'a': 1}"),
    ("P = namedtuple('P', 'x y')\nP(1, 2)._replace(x=3)", "P(x=3, y=2)"),
    ("from dataclasses import dataclass, field, asdict\n@dataclass(order=True)\nclass Item:\n    n: int\n    tags: list = field(default_factory=list)", ""),
    ("max(Item(1), Item(2, ['x'])), asdict(Item(3))", "(Item(n=2, tags=['x']), {'n': 3, 'tags': []})"),
    ("class Base:\n    def greet(self): return f'{type(self).__name__}!'\nclass Child(Base):\n    @property\n    def loud(self): return super().greet().upper()", ""),
    ("Child().loud", "'CHILD!'"),
    ("import pickle, copy\npickle.loads(pickle.dumps(Item(1))) == copy.deepcopy(Item(1))", "True"),
    ("def count(start=0):\n    while True:\n        yield start\n        start += 1\nnumbers = count()\nnext(numbers)", "0"),
    ("next(numbers), next(numbers)", "(1, 2)"),
    ("list(itertools.islice(itertools.accumulate(count(1)), 4))", "[1, 3, 6, 10]"),
    ("from functools import lru_cache, reduce, partial\n@lru_cache\ndef fib(n): return n if n < 2 else fib(n - 1) + fib(n - 2)\nfib(60)", "1548008755920"),
    ("total = 0\ndef add(n):\n    global total\n    total += n\nadd(2); add(3)\ntotal", "5"),
    ("del total\n'total' in globals()", "False"),
    ("from decimal import Decimal, ROUND_HALF_UP\nDecimal('2.675').quantize(Decimal('0.01'), ROUND_HALF_UP)", "Decimal('2.68')"),
    ("from fractions import Fraction\nFraction(1, 3) + Fraction(1, 6)", "Fraction(1, 2)"),
    ("import difflib\ndifflib.get_close_matches('appel', ['ape', 'apple', 'peach']), round(difflib.SequenceMatcher(None, 'abcd', 'bcde').ratio(), 2)", "(['apple', 'ape'], 0.75)"),
    ("import heapq, bisect\nheapq.nlargest(2, [5, 1, 9]), bisect.bisect([1, 3, 5], 3)", "([9, 5], 2)"),
    ("import textwrap\ntextwrap.dedent('  a\\n  b'), textwrap.shorten('one two three', 9)", "('a\\nb', 'one [...]')"),
    ("import unicodedata\nunicodedata.normalize('NFKD', 'é').encode('ascii', 'ignore'), unicodedata.category('€')", "(b'e', 'Sc')"),
    ("import statistics\nstatistics.median([3, 1, 2]), round(statistics.stdev([1, 2, 4]), 3)", "(2, 1.528)"),
    ("'“x”'.encode('cp1252'), b'\\x82\\xa0'.decode('shift_jis'), 'ü'.encode('mac_roman')", "(b'\\x93x\\x94', 'あ', b'\\x9f')"),
    ("import codecs, base64, hashlib, zlib\ncodecs.encode('abc', 'rot13'), base64.b64encode(b'hi'), hashlib.sha256(b'').hexdigest()[:8]", "('nop', b'aGk=', 'e3b0c442')"),
    ("import xml.etree.ElementTree as ET\nET.fromstring('<a><b n=\"1\">x</b></a>').find('b').attrib", "{'n': '1'}"),
    ("from html.parser import HTMLParser\nfrom html import unescape\nfrom urllib.parse import urlparse, quote\nunescape('&lt;'), urlparse('http://h/p?q=1').query, quote('ä b')", "('<', 'q=1', '%C3%A4%20b')"),
    ("import sqlite3\nbase = sqlite3.connect(':memory:')\nbase.execute('create table t (a)')\nbase.executemany('insert into t values (?)', [(1,), (2,)])\nbase.execute('select sum(a) from t').fetchone()", "(3,)"),
    ("import zipfile, gzip\nbox = io.BytesIO()\nwith zipfile.ZipFile(box, 'w') as z: z.writestr('a', 'x')\nzipfile.ZipFile(box).read('a'), gzip.decompress(gzip.compress(b'y'))", "(b'x', b'y')"),
    ("import inspect\nprint(inspect.getsource(add))", "def add(n):\n    global total\n    total += n"),
    ("import logging\nlogging.basicConfig(level=logging.INFO)\nlogging.info('said')", "INFO:root:said"),
    ("import warnings\nwarnings.warn('careful')", "UserWarning: careful"),
    ("match {'kind': 'x', 'n': 3}:\n    case {'kind': 'x', 'n': n} if n > 2: print('matched', n)", "matched 3"),
    ("f'{1234567.891:,.2f} {\"x\":>3} {0.256:.0%}'", "'1,234,567.89   x 26%'"),
    ("if (n := len('abc')) > 2: print(n)", "3"),
    ("first, *rest = 'a b c'.split()\nrest", "['b', 'c']"),
    ("import threading\nheard = []\nthreads = [threading.Thread(target=lambda c: heard.append(llm_query(c)), args=(c,)) for c in 'abc']\n[t.start() for t in threads]; [t.join() for t in threads]\nsorted(heard)", "['llm:a', 'llm:b', 'llm:c']"),
    ("from concurrent.futures import ThreadPoolExecutor, as_completed\nwith ThreadPoolExecutor(2) as pool:\n    futures = [pool.submit(llm_query, c) for c in 'ab']\n    print(sorted(f.result() for f in as_completed(futures)))", "['llm:a', 'llm:b']"),
    ("import multiprocessing\np = multiprocessing.Process(target=print, args=('as a thread',))\np.start(); p.join()", "as a thread"),
    ("import asyncio\nawait asyncio.to_thread(llm_query, 'x')", "'llm:x'"),
    ("await asyncio.gather(*[asyncio.to_thread(llm_query, c) for c in 'ab'])", "['llm:a', 'llm:b']"),
    ("async with asyncio.TaskGroup() as group:\n    asked = [group.create_task(asyncio.to_thread(llm_query, c)) for c in 'ab']\n[task.result() for task in asked]", "['llm:a', 'llm:b']"),
    ("async def ask(c):\n    async with limit: return await asyncio.to_thread(llm_query, c)\nlimit = asyncio.Semaphore(1)\nawait asyncio.gather(ask('a'), ask('b'))", "['llm:a', 'llm:b']"),
    ("async def f(): return 5\nasyncio.run(f())", "5"),
    ("[await f() for _ in range(2)]", "[5, 5]"),
    ("{doc.path: len(doc.lines) for doc in docs}", "{'reports/2024/a.txt': 2, 'notes.md': 3}"),
    ("docs['a.txt'].text.splitlines()[0], 'notes.md' in docs, docs.keys()", "('alpha', True, ['reports/2024/a.txt', 'notes.md'])"),
    ("from pathlib import PurePath, Path\nPath('a/b.txt').stem, PurePath('x.tar.gz').suffixes", "('b', ['.tar', '.gz'])"),
    ("import os\nos.path.basename('a/b'), os.getenv('HOME', 'none')", "('b', 'none')"),
    ("import random\nrandom.seed(1)\nrandom.sample(range(10), 3)", "[2, 1, 4]"),
    ("help(len)", "len: Return the number of items in a container."),
    ("exit()\nprint('not reached')", ""),
    ("import sys\nsys.exit(3)", ""),
    ("rest", "['b', 'c']"),
]  # fmt: skip


def test_everyday_python_works(corpus: Corpus) -> None:
    """Every cell prints what Python prints; classes, functions, generators and variables live from cell to cell."""
    cells = ["import sys", *(code for code, _ in WORKS)]
    for (code, expected), output in zip(WORKS, run(corpus, cells)[1:], strict=True):
        assert output.error is None, (code, output.error)
        assert output.stdout.strip() == expected, code
        assert output.lost is None


HINTS = [
    ("found_rows = {'total_revenue': 1, 'year': 2}\nprint(found_row)", "close: found_rows"),
    ("print(nowhere_bound)", "SHOW_VARS() lists"),
    ("print(sys.version)", "`import sys` first"),
    ("Counter('ab')", "`from collections import Counter` first"),
    ("found_rows['total_revenu']", "close: total_revenue"),
    ("found_rows[3]", "`found_rows` has 2 keys: 'total_revenue', 'year'"),
    ("three = [1, 2, 3]\nthree[3]", "`three` has 3 items, from 0"),
    ("docs[99]", "`docs` has 2 items, from 0"),
    ("docs['b.txt']", "close: 'reports/2024/a.txt'"),
    ("docs['zzz.pdf']", "docs.keys() lists the paths"),
    ("docs[0].content", "a document has .path .text"),
    ("docs[0]['text']", "a document has .path .text"),
    ("docs.items()", "`docs` is a list of documents"),
    ("for path, doc in docs: pass", "[doc.path for doc in docs]"),
    ("context.text", "it is plain text already"),
    ("'a b'.splt()", "close: split"),
    ("match = re.search('nothing like it', context)\nmatch.group(1)", "`match` is None"),
    ("match[1]", "`match` is None"),
    ("datetime.now()", "(datetime.datetime.now)"),
    ("def outer(rows):\n    return [inner(row) for row in rows]\ndef inner(row):\n    return row + 1\nouter([1, 'a'])", "line 4, in inner:\n    return row + 1\nTypeError: can only concatenate str"),
    ("text = 'unterminated", "cell 21, line 1\n    text = 'unterminated\n           ^\nSyntaxError: unterminated string literal"),
    ("if True:\nprint(1)", "IndentationError: expected an indented block after 'if' statement on line 1"),
    ("%timeit 1", "plain Python"),
    ("b'\\xff'.decode()", "UnicodeDecodeError: 'utf-8' codec can't decode byte 0xff"),
    ("def down(n): return down(n + 1)\ndown(0)", "return down(n + 1)\nRecursionError"),
    ("count = 0\ndef bump(): count += 1\nbump()", "`global count` in it means the cell's"),
    ("await llm_query('x')", "plain functions: call them without await"),
    ("import asyncio\nawait asyncio.gather(llm_query('a'), llm_query('b'))", "llm_query_batched(prompts)"),
    ("async def g():\n    asyncio.run(asyncio.sleep(0))\nawait g()", "`await` works at the top of a cell"),
    ("async def h(): pass\nasyncio.run(h())\nasyncio.get_event_loop().run_until_complete(h())", "`await` works at the top of a cell"),
    ("llm_query('x', max_tokens=3)", "llm_query(prompt, context=None, model=None, schema=None)"),
    ("FINAL()", "FINAL(value, quotes=())"),
    ("llm_query(docs[0])", "a document has .path .text"),
    ("sum = 3\nsum([1])", "`del sum` brings the builtin back"),
    ("json.loads('```json\\n{}\\n```')", "code fence"),
    ("json.loads('{\"a\": 1,}')", "the text there: "),
    ("from collections import Countr", "cannot import name 'Countr' from 'collections'\n(close: Counter)"),
    ("import numpy", "only the standard library is here; use math, statistics"),
    ("import pandas as pd", "use lists of dicts"),
    ("import some_package.part", "only the standard library is here"),
    ("import curses", "not loaded here"),
    ("open('x')", "`docs`"),
    ("input()", "llm_query"),
    ("breakpoint()", "print what you want to see"),
    ("import os\nos.environ['HOME']", "no environment"),
    ("import tempfile\ntempfile.mkdtemp()", "no files"),
    ("import urllib.request\nurllib.request.urlopen('http://example.com')", "no files, network"),
    ("try:\n    {}['k']\nexcept KeyError as e:\n    raise ValueError('bad') from e", "caused by KeyError: 'k'"),
    ("class Odd(Exception):\n    def __str__(self): raise ValueError\nraise Odd", "Odd"),
]  # fmt: skip


def test_an_error_says_what_mends_it(corpus: Corpus) -> None:
    """Typical mistakes: the model's own line, the error, and what it cannot see from there, in a few lines."""
    for (code, expected), output in zip(HINTS, run(corpus, [code for code, _ in HINTS]), strict=True):
        assert expected in (output.error or ""), (code, output)
        assert len((output.error or "").splitlines()) < 15, output.error
        assert str(Path(sys.prefix)) not in (output.error or "")
        assert str(Path(__file__).parents[1]) not in (output.error or "")
        assert output.lost is None


def test_what_is_not_called_or_awaited_is_said(corpus: Corpus) -> None:
    """FINAL without its call, a coroutine without its await: shown as what they are, without a place of the host's."""
    final, coroutine = run(corpus, ["FINAL", "async def f(): return 1\nf()"])
    assert final.stdout == "FINAL is a function, and this does not call it: FINAL(…)\n"
    assert "`await` it" in coroutine.stdout
    assert "never awaited" in coroutine.stdout
    assert ".py" not in coroutine.stdout


NOT_HERE = {
    "antigravity", "idlelib", "lib2to3", "msilib", "msvcrt", "nt", "ntpath", "this", "tkinter", "turtle", "turtledemo",
    "winreg", "winsound",
    # extensions that need a file, a terminal or a service, and what stands on them
    "audioop", "crypt", "curses", "nis", "ossaudiodev", "readline", "spwd", "syslog", "dbm",
}  # fmt: skip


def test_every_pure_module_of_the_standard_library_can_be_imported(corpus: Corpus) -> None:
    """Early or late, whatever the host has."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what is deprecated is there all the same
        there = [
            name
            for name in sorted(sys.stdlib_module_names - NOT_HERE)
            if not name.startswith("_") and importlib.util.find_spec(name) is not None
        ]
    assert len(there) > 150
    for name, output in zip(there, run(corpus, [f"import {name}" for name in there]), strict=True):
        assert output.error is None, (name, output.error)
        assert output.lost is None
