"""`offline/extractive`: how often its answer holds the fact, and how long it takes to rank a corpus.

    python tests/benchmarks/bench_offline.py [--speed MEGABYTES]...

Questions are asked of all the documents together (as `rlm ask` does it, by the code that it writes for the REPL) and of
the one that holds the fact (as a reader). The documents are this repository's README and manual, what Debian installs
(policy, FAQ, constitution, licences; those that are not there are left out, with their questions) and short ones in
other languages. A fact is a pattern that must be in the answer, and is checked to be in its document. For the last
questions nothing is right but to find nothing.
"""

from __future__ import annotations

import asyncio
import gzip
import re
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rlm_cli import prompts, reply
from rlm_cli.builder import CorpusBuilder
from rlm_cli.call import Call, Completion, Entry, Message, Preview, Trajectory
from rlm_cli.lazy import docs as lazy_docs
from rlm_cli.models import connect

ROOT = Path(__file__).parents[2]
DEBIAN = Path("/usr/share/doc")
LICENSES = Path("/usr/share/common-licenses")
FILES = {
    "README.md": ROOT / "README.md",
    "rlm.1": ROOT / "man/rlm.1",
    "policy.txt": DEBIAN / "debian-policy/policy.txt.gz",
    "faq.txt": DEBIAN / "debian/FAQ/debian-faq.en.txt.gz",
    "constitution.txt": DEBIAN / "debian/constitution.txt.gz",
    "social-contract.txt": DEBIAN / "debian/social-contract.txt.gz",
    "GPL-3": LICENSES / "GPL-3",
    "GPL-2": LICENSES / "GPL-2",
    "Apache-2.0": LICENSES / "Apache-2.0",
    "MPL-2.0": LICENSES / "MPL-2.0",
}
WRITTEN = {
    "vertrag.txt": """Mietvertrag
Der Vermieter vermietet dem Mieter die Wohnung im zweiten Obergeschoss links, bestehend aus drei Zimmern und Küche.
Die monatliche Miete beträgt 850 Euro und ist bis zum dritten Werktag eines Monats zu zahlen.
Der Mieter hinterlegt eine Kaution in Höhe von drei Monatsmieten auf einem Sparbuch.
Die Kündigungsfrist beträgt drei Monate zum Monatsende. Kündigungen bedürfen der Schriftform.
Haustiere dürfen nur mit Zustimmung des Vermieters gehalten werden; Kleintiere sind erlaubt.
""",
    "contrat.txt": """Contrat de prestation
Le prestataire s'engage à livrer le logiciel avant le 15 mars 2025, documentation comprise.
Le client verse un acompte de trente pour cent à la signature, le solde à la livraison.
En cas de retard, une pénalité de deux cents euros par jour est due au client.
Les parties choisissent le tribunal de Lyon pour tout litige né du présent contrat.
""",
    "dogovor.txt": """Договор аренды
Арендодатель передаёт арендатору склад площадью 400 квадратных метров на улице Ленина.
Арендная плата составляет 90 000 рублей в месяц и вносится до пятого числа.
Договор заключён на два года и может быть продлён по соглашению сторон.
Ремонт крыши оплачивает арендодатель, уборку помещений выполняет арендатор.
""",
    "合同.txt": """房屋租赁合同
出租方将位于上海市浦东新区的办公室出租给承租方使用，面积为一百二十平方米。
每月租金为人民币八千元，承租方应于每月五日前支付。承租方应支付相当于两个月租金的押金。
任何一方提前解除合同，应当提前三十天书面通知对方。未经出租方同意，承租方不得转租。
本合同自2024年1月1日起生效，有效期为三年。
""",
    "契約.txt": """業務委託契約書
受託者は、本契約に基づき、ソフトウェアの保守業務を行う。委託料は月額二十万円とし、翌月末日までに支払う。
秘密保持義務は、本契約終了後五年間存続する。受託者は、業務の全部を第三者に再委託してはならない。
本契約に関する紛争は、東京地方裁判所を専属的合意管轄裁判所とする。
""",
    "계약.txt": """근로 계약서
근로자는 매일 오전 아홉 시부터 오후 여섯 시까지 근무한다. 휴게 시간은 한 시간으로 한다.
월급은 삼백만 원이며 매월 25일에 지급한다. 수습 기간은 세 달로 한다.
연차 휴가는 일 년에 열다섯 날이다.
""",
    "pumps.csv": """pump,site,installed,flow (l/min),state
P-101,Leeds,2019-04-02,420,running
P-102,York,2021-11-19,380,broken impeller
P-103,Hull,2017-06-30,510,running
""",
    "motor.py": '''import time

RETRY_LIMIT = 7


def start_motor(speed: int, ramp_s: float = 2.5) -> None:
    """Start the motor and bring it to `speed` in rpm."""
    if speed > 3000:
        raise ValueError("speed above 3000 rpm damages the bearings")
    time.sleep(ramp_s)
''',
}
QUESTIONS = (
    ("constitution.txt", "How long does the Project Leader serve?", r"one year"),
    ("constitution.txt", "How many members does the Technical Committee have at most?", r"up to 8|8 Developers"),
    ("constitution.txt", "How long is the polling period in the election of the leader?", r"two weeks"),
    ("constitution.txt", "What is Q?", r"half of the square root"),
    ("constitution.txt", "Who appoints the Project Secretary?", r"appointed by the Project Leader"),
    ("constitution.txt", "When is the term of the most senior committee members set to expire?", r"December\s+31st"),
    ("GPL-3", "For how many years must the written offer for source code be valid?", r"three years"),
    ("GPL-3", "What is a covered work?", r"unmodified Program or a work based"),
    ("GPL-3", "What does it mean to convey a work?", r"enables other parties to make or receive"),
    ("GPL-3", "Within how many days of receiving the notice must a violation be cured?", r"30 days"),
    ("GPL-3", "Is there any warranty for the program?", r"NO WARRANTY"),
    ("GPL-2", "May I charge a fee for transferring a copy?", r"may charge a fee for the physical act"),
    ("Apache-2.0", "Does the license permit the use of trademarks?", r"does not grant permission to use the trade"),
    ("Apache-2.0", "What does Contributor mean?", r"any individual or Legal Entity on behalf"),
    ("Apache-2.0", "When do patent licenses terminate?", r"terminate\s+as of the date such litigation"),
    ("MPL-2.0", "What is Covered Software?", r"Source Code Form to which the initial"),
    ("MPL-2.0", "What does a Larger Work mean?", r"combines Covered Software with other material"),
    ("social-contract.txt", "What is our priority?", r"our users and free software"),
    ("policy.txt", "What encoding must the changelog have?", r"UTF-8"),
    ("policy.txt", "How many characters must a package name have at least?", r"at least two characters"),
    ("policy.txt", "How long may the synopsis line of a description be?", r"80 characters"),
    ("policy.txt", "Where are init scripts placed?", r"/etc/init\.d"),
    ("policy.txt", "Which variable holds build options?", r"DEB_BUILD_OPTIONS"),
    ("policy.txt", "Which permissions should subdirectories of /usr/local have?", r"0?2775"),
    ("policy.txt", "Which user ids are allocated dynamically for system users?", r"100-999"),
    ("policy.txt", "How should manual pages be compressed?", r"gzip"),
    ("policy.txt", "What is the default priority of most packages?", r"majority of the archive|optional"),
    ("faq.txt", "Who created the Debian Project?", r"Ian Murdock"),
    ("faq.txt", "When was the Debian Project created?", r"1993"),
    ("faq.txt", "How is Debian pronounced?", r"Deb.-ee-en"),
    ("faq.txt", "What is a virtual package?", r"generic name that applies"),
    ("faq.txt", "What is a Debian package maintainer script?", r"preinst|postinst|script"),
    ("README.md", "Which version of Python is needed?", r"3\.11"),
    ("README.md", "How do I install it?", r"pip|uv|pipx"),
    ("rlm.1", "Which exit code says that a limit ended the run?", r"6|a limit ended the run"),
    ("rlm.1", "Which variable turns colour off?", r"NO_COLOR"),
    ("rlm.1", "How many requests are in flight at most?", r"requests in flight"),
    ("vertrag.txt", "Wie hoch ist die monatliche Miete?", r"850 Euro"),
    ("vertrag.txt", "Welche Kündigungsfrist gilt?", r"drei Monate zum Monatsende"),
    ("vertrag.txt", "Sind Haustiere erlaubt?", r"Zustimmung des Vermieters"),
    ("contrat.txt", "Quelle est la pénalité en cas de retard ?", r"deux cents euros"),
    ("contrat.txt", "Quel tribunal est choisi ?", r"Lyon"),
    ("dogovor.txt", "Какова арендная плата?", r"90 000 рублей"),
    ("dogovor.txt", "Кто оплачивает ремонт крыши?", r"оплачивает арендодатель"),
    ("合同.txt", "每月租金是多少？", r"八千元"),
    ("合同.txt", "提前解除合同需要提前多少天通知？", r"三十天"),
    ("合同.txt", "合同的有效期是多久？", r"三年"),
    ("契約.txt", "委託料はいくらですか？", r"二十万円"),
    ("契約.txt", "秘密保持義務は何年間存続しますか？", r"五年間"),
    ("계약.txt", "월급은 얼마입니까?", r"삼백만 원"),
    ("계약.txt", "수습 기간은 얼마나 됩니까?", r"세 달"),
    ("pumps.csv", "Which pump has a broken impeller?", r"P-102"),
    ("pumps.csv", "When was the pump in Hull installed?", r"2017-06-30"),
    ("motor.py", "What is the retry limit?", r"RETRY_LIMIT = 7"),
    ("motor.py", "Above which speed are the bearings damaged?", r"3000 rpm"),
)
HELD_OUT = (
    ("constitution.txt", "How long is the discussion period for a General Resolution?", r"2\s+weeks|two\s+weeks"),
    ("constitution.txt", "Who elects the Chair of the Technical Committee?", r"elected by the Committee"),
    ("constitution.txt", "When does the election of a new leader begin?", r"six weeks before"),
    ("GPL-3", "What does propagate mean?", r"infringement under applicable copyright law"),
    ("GPL-3", "What is the Corresponding Source?", r"all\s+the source code needed"),
    ("GPL-3", "Who publishes revised versions of the license?", r"Free Software Foundation"),
    ("GPL-3", "What is a User Product?", r"tangible personal property"),
    ("Apache-2.0", "What is a Derivative Work?", r"based on \(or derived from\)"),
    ("Apache-2.0", "May I charge a fee for support or warranty?", r"charge a fee for"),
    (
        "MPL-2.0",
        "What does Incompatible With Secondary Licenses mean?",
        r"described the notice|terms of a\s+Secondary|means",
    ),
    ("policy.txt", "Where are copyright files of packages installed?", r"/usr/share/doc/\S*/copyright"),
    ("policy.txt", "What is an essential package?", r"[Ee]ssential"),
    ("policy.txt", "How wide may lines of the extended description be?", r"80|term"),
    ("policy.txt", "Which section of the archive may not depend on packages outside main?", r"main"),
    ("policy.txt", "What urgency values exist for uploads?", r"low.*medium.*high"),
    ("faq.txt", "Who founded the project with Debra?", r"Ian Murdock"),
    ("faq.txt", "What does the stable distribution mean?", r"stable"),
    ("faq.txt", "How can I find out which package a file belongs to?", r"dpkg (?:-S|--search)"),
    ("faq.txt", "Which command upgrades all installed packages?", r"apt(?:-get)? (?:full-)?upgrade|aptitude|apt"),
    ("README.md", "Where does the answer go?", r"stdout"),
    ("rlm.1", "What happens when a limit is reached?", r"answer with what is known|--on-limit"),
    ("vertrag.txt", "Wie viele Zimmer hat die Wohnung?", r"drei Zimmern"),
    ("vertrag.txt", "In welcher Form ist zu kündigen?", r"Schriftform"),
    ("contrat.txt", "Quand le logiciel doit-il être livré ?", r"15 mars 2025"),
    ("dogovor.txt", "На какой срок заключён договор?", r"на два года"),
    ("合同.txt", "办公室的面积有多大？", r"一百二十平方米"),
    ("合同.txt", "押金是多少？", r"两个月租金"),
    ("契約.txt", "再委託は許されますか？", r"再委託してはならない"),
    ("契約.txt", "どこの裁判所が管轄しますか？", r"東京地方裁判所"),
    ("계약.txt", "휴게 시간은 얼마입니까?", r"한 시간"),
    ("pumps.csv", "What is the flow of the pump in York?", r"380"),
    ("motor.py", "How long is the ramp?", r"2\.5"),
)
"""Written after the heuristics were tried on the others, and asked once."""
UNANSWERABLE = (
    "Who won the football world cup in 2010?",
    "What is the boiling point of tungsten?",
    "How tall is the Eiffel Tower?",
    "Who painted the Mona Lisa?",
    "How many moons does Jupiter have?",
    "What is the capital of Mongolia?",
    "Wie hoch ist die Zugspitze?",
    "东京有多少人口？",
)


Questions = tuple[tuple[str, str, str], ...]


@dataclass
class Document:
    """What code in the REPL sees of a document."""

    path: str
    text: str


def documents() -> dict[str, str]:
    found = dict(WRITTEN)
    for name, path in FILES.items():
        if path.is_file():
            data = path.read_bytes()
            text = (gzip.decompress(data) if path.suffix == ".gz" else data).decode("utf-8", "replace")
            found[name] = re.sub(r"\\f[BIRP]|\\&", "", text).replace("\\-", "-") if name == "rlm.1" else text
    return found


MODEL = connect("offline/extractive", models={}, keys={}, environ={})


def answer(messages: tuple[Message, ...]) -> Completion:
    return asyncio.run(MODEL.complete(messages, max_output_tokens=100, sub=False))


def as_root(question: str, held: list[Any]) -> str | None:
    """The block that it writes, run as the REPL would."""
    preview = Preview(1, 1, (Entry("a", 1, 1, 0),), 10, 1, 'original query: "no"', "")
    call = Call("0", "root", 0, question, "offline/extractive", preview, 100_000, False, 20, 100_000)
    parsed = reply.read(answer(prompts.turn(call, Trajectory())))
    assert parsed.code is not None
    handed: list[Any] = []

    def llm_query(prompt: str, context: str | None = None) -> str:
        return answer(prompts.sub(prompt, context)).text

    def final(value: Any, quotes: Any = ()) -> None:
        handed.append(value)

    exec(parsed.code, {"docs": held, "llm_query": llm_query, "FINAL": final, "print": lambda *words: None})
    found: str | None = handed[0]
    return found


def as_reader(question: str, text: str) -> str | None:
    found = reply.words(answer(prompts.direct(question, text)).text).value
    return None if found is None else str(found)


def holds(said: str | None, fact: str) -> bool:
    return said is not None and re.search(fact, " ".join(said.split())) is not None


def quality(show: bool = False, questions: Questions = QUESTIONS) -> tuple[float, float, float, int]:
    """Shares of questions whose answer holds the fact, as root and as reader, and of those where nothing is right to
    find; and how many questions."""
    texts = documents()
    held = [Document(name, text) for name, text in texts.items()]
    root = reader = count = none = 0
    for name, question, fact in questions:
        if name not in texts:
            continue
        assert re.search(fact, " ".join(texts[name].split())), (name, fact)
        count += 1
        said = as_root(question, held), as_reader(question, texts[name])
        right = [holds(one, fact) for one in said]
        root, reader = root + right[0], reader + right[1]
        if show and not all(right):
            print(f"{'+-'[not right[0]]}{'+-'[not right[1]]} {name}: {question}  [{fact}]")
            for one, fine in zip(said, right, strict=True):
                if not fine:
                    print("      ", " ".join((one or "nothing").split())[:230])
    for question in UNANSWERABLE:
        said_none = as_root(question, held)
        none += said_none is None
        if show and said_none is not None:
            print(f"made up: {question}\n      ", " ".join(said_none.split())[:230])
    return root / count, reader / count, none / len(UNANSWERABLE), count


def speed(megabytes: int) -> float:
    """Seconds for the block over a corpus of that size, read as the REPL does."""
    line = "2026-01-01 10:11:12 pump {} runs as it should, pressure {} bar, the notice was sent to the owner\n"
    block = "".join(line.format(n, n % 7) for n in range(10_000))
    with tempfile.TemporaryDirectory() as folder:
        builder = CorpusBuilder(Path(folder))
        with builder.document("log", "text") as document:
            for _ in range(max(megabytes * 1_000_000 // len(block), 1)):
                document.write(block)
            document.write("the impeller of pump 7 is broken\n")
        corpus = builder.finish()
        began = time.perf_counter()
        said = as_root("Which pump has a broken impeller?", list(lazy_docs.Docs(corpus)))
        took = time.perf_counter() - began
        assert holds(said, "pump 7 is broken"), said
        corpus.close()
    return took


def main() -> None:
    began = time.perf_counter()
    for name, questions in (("tried", QUESTIONS), ("held out", HELD_OUT)):
        root, reader, none, count = quality(True, questions)
        print(
            f"{count} questions {name}: fact in the answer {root:.0%} of all documents, {reader:.0%} of the right one"
        )
    print(f"{len(UNANSWERABLE)} without an answer: {none:.0%} found nothing · {time.perf_counter() - began:.1f} s")
    for size in [int(word) for word in sys.argv[1:] if word.isdigit()]:
        print(f"{size:>5} MB ranked in {speed(size):.1f} s")


if __name__ == "__main__":
    main()
