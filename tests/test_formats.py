"""What each reader of a format gives: the words somebody wrote, in order, at their places."""

from __future__ import annotations

import io
import json
import shutil
import zipfile
from collections.abc import Callable, Iterator

import pytest
from documents import pdf as made_pdf
from hypothesis import given, settings
from hypothesis import strategies as st

from rlm_cli.read import charsets, epub, mail, notebook, office, opendocument, pdf, rtf, sheets, web
from rlm_cli.read.pieces import ENCRYPTED, Inside, Options, Page, Piece, Reader, Unreadable

W = 'xmlns:w="http://w" xmlns:r="http://schemas.openxmlformats.org/officeDocument/2006/relationships" xmlns:m="http://m" xmlns:mc="http://mc" xmlns:a="http://a" xmlns:p="http://p" xmlns:wp="http://wp"'
ODF = " ".join(
    f'xmlns:{name}="urn:{name}"'
    for name in ("office", "text", "table", "draw", "dc", "svg", "style", "presentation", "xlink")
)
RELATION = '<Relationship Id="{}" Type="http://x/{}" Target="{}"/>'
LINK = '<Relationship Id="{}" Type="http://x/hyperlink" Target="{}" TargetMode="External"/>'


def told(pieces: Iterator[Piece]) -> str:
    """All of it as one text: `<page>` where one begins, `<name>` before what is inside."""
    out = []
    for piece in pieces:
        match piece:
            case str():
                out.append(piece)
            case Page(damaged=damaged):
                out.append("" if "".join(out)[-1:] in ("", "\n") else "\n")
                out.append("<damaged page>\n" if damaged else "<page>\n")
            case Inside(name=name, file=None, pieces=inner):
                assert inner is not None
                out.append(f"<{name}>\n{told(inner)}")
            case Inside(name=name, file=file):
                assert file is not None
                out.append(f"<{name}>\n{file.read().decode('utf-8', 'replace')}")
    return "".join(out)


def read(reader: Reader, data: bytes, options: Options | None = None) -> str:
    return told(reader(io.BytesIO(data), options or Options()))


def zipped(**parts: str | bytes) -> bytes:
    """A zip; `__` in a name is `/`, `_` before a known suffix is a dot."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, text in parts.items():
            archive.writestr(name, text)
    return file.getvalue()


def relations(*each: str) -> str:
    return f"<Relationships>{''.join(each)}</Relationships>"


def docx(body: str, related: str = "<Relationships/>", **parts: str | bytes) -> bytes:
    document = f"<w:document {W}><w:body>{body}</w:body></w:document>"
    return zipped(**{"word/document.xml": document, "word/_rels/document.xml.rels": related, **parts})


def paragraph(*runs: str) -> str:
    return f"<w:p>{''.join(f'<w:r><w:t>{run}</w:t></w:r>' for run in runs)}</w:p>"


class TestWord:
    """docx: everything somebody wrote, a paragraph a line."""

    def test_paragraphs_tables_and_breaks(self) -> None:
        """The body comes in its order; a row is a line with its cells apart by tabs; nested tables stay in their cell."""
        cell = "<w:tc>{}</w:tc>".format
        nested = f"<w:tbl><w:tr>{cell(paragraph('x'))}{cell(paragraph('y'))}</w:tr></w:tbl>"
        row = f"<w:tr>{cell(paragraph('Rent') + paragraph('net'))}{cell(paragraph('1,200'))}{cell(nested)}</w:tr>"
        tabs = "<w:p><w:pPr><w:tabs><w:tab/></w:tabs></w:pPr><w:r><w:t>a</w:t><w:tab/><w:t>b</w:t><w:br/><w:t>c</w:t></w:r></w:p>"
        sdt = f"<w:sdt><w:sdtContent>{paragraph('chosen')}</w:sdtContent></w:sdt>"
        text = read(office.docx, docx(paragraph("One ", "two") + f"<w:tbl>{row}</w:tbl>" + tabs + sdt))
        assert text == "One two\nRent net\t1,200\tx y\na\tb\nc\nchosen\n"

    def test_changes_notes_links_and_the_rest(self) -> None:
        """Deletions are marked, notes and comments come at the end, links and fields keep their targets."""
        body = (
            "<w:p><w:r><w:t>Pay </w:t></w:r><w:del><w:r><w:delText>10</w:delText></w:r></w:del><w:ins><w:r><w:t>20</w:t></w:r></w:ins>"
            '<w:r><w:footnoteReference w:id="2"/></w:r><w:r><w:commentReference w:id="0"/></w:r></w:p>'
            '<w:p><w:hyperlink r:id="r1"><w:r><w:t>site</w:t></w:r></w:hyperlink>'
            '<w:r><w:fldChar w:fldCharType="begin"/><w:instrText> HYPERLINK "http://b" </w:instrText><w:fldChar w:fldCharType="separate"/>'
            '<w:t> other</w:t><w:fldChar w:fldCharType="end"/></w:r></w:p>'
            "<w:p><m:oMath><m:f><m:num><m:r><m:t>a</m:t></m:r></m:num><m:den><m:r><m:t>b</m:t></m:r></m:den></m:f></m:oMath></w:p>"
            f"<w:p><w:r><mc:AlternateContent><mc:Choice><w:txbxContent>{paragraph('boxed')}</w:txbxContent></mc:Choice>"
            f"<mc:Fallback><w:txbxContent>{paragraph('boxed')}</w:txbxContent></mc:Fallback></mc:AlternateContent></w:r>"
            '<w:r><w:drawing><wp:docPr descr="A map"/></w:drawing></w:r></w:p>'
        )
        kinds = ("footnotes", "comments", "header", "endnotes")
        related = relations(
            LINK.format("r1", "http://a"), *(RELATION.format(kind, kind, f"{kind}.xml") for kind in kinds)
        )
        parts = {
            "word/footnotes.xml": f'<w:footnotes {W}><w:footnote w:type="separator" w:id="0">{paragraph("no")}</w:footnote><w:footnote w:id="2">{paragraph("Net of tax.")}</w:footnote></w:footnotes>',
            "word/endnotes.xml": "<broken",
            "word/comments.xml": f'<w:comments {W}><w:comment w:id="0" w:author="Ann">{paragraph("Too much?")}</w:comment></w:comments>',
            "word/header.xml": f"<w:hdr {W}>{paragraph('Draft')}</w:hdr>",
        }
        assert read(office.docx, docx(body, related, **parts)).splitlines() == [
            "Pay [deleted: 10]20[^2][comment 0]",
            "site (http://a) other (http://b)",
            "a/b",
            "boxed",
            " [image: A map]",
            "[^2] Net of tax.",
            "[could not be read: word/endnotes.xml]",
            "[comment 0, Ann] Too much?",
            "[header] Draft",
        ]

    def test_documents_embedded(self) -> None:
        """A workbook pasted into a letter is a document inside it."""
        related = relations(RELATION.format("r1", "package", "embeddings/book.xlsx"))
        data = docx(paragraph("See"), related, **{"word/embeddings/book.xlsx": b"PK"})
        assert read(office.docx, data) == "See\n<book.xlsx>\nPK"

    @pytest.mark.parametrize(
        ("data", "reason"),
        [
            (b"", "damaged zip"),
            (b"PK\x03\x04 and no more", "damaged zip"),
            (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + "EncryptedPackage".encode("utf-16-le"), ENCRYPTED),
            (zipped(nothing="x"), "missing"),
            (zipped(**{"word/document.xml": "<a><b></a>"}), "damaged XML"),
            (zipped(**{"word/document.xml": '<!DOCTYPE a [<!ENTITY b "bb">]><a>&b;</a>'}), "entities"),
            (
                zipped(**{"word/document.xml": '<!DOCTYPE a [<!ENTITY b SYSTEM "file:///etc/passwd">]><a>&b;</a>'}),
                "entities",
            ),
        ],
    )
    def test_what_is_no_document_is_said(self, data: bytes, reason: str) -> None:
        """Damaged, locked and hostile files are named for what they are; entities are never resolved."""
        with pytest.raises(Unreadable, match=reason):
            read(office.docx, data)


def test_slides() -> None:
    """A slide is a page: its shapes and tables, then its notes; order is the presentation's, not that of the names."""
    shape = "<p:sp><p:txBody>{}</p:txBody></p:sp>".format
    line = "<a:p><a:r>{1}<a:t>{0}</a:t></a:r></a:p>".format
    table = f"<a:tbl><a:tr><a:tc>{line('a', '')}</a:tc><a:tc>{line('b', '')}</a:tc></a:tr></a:tbl>"
    first = f'<p:sld {W}><p:grpSp>{shape(line("Aims", ""))}</p:grpSp>{table}{shape(line("link", """<a:rPr><a:hlinkClick r:id="l"/></a:rPr>"""))}</p:sld>'
    second = f'<p:sld show="0" {W}>{shape(line("Kept back", ""))}</p:sld>'
    data = zipped(
        **{
            "ppt/presentation.xml": f'<p:presentation {W}><p:sldId r:id="b"/><p:sldId r:id="a"/></p:presentation>',
            "ppt/_rels/presentation.xml.rels": relations(
                RELATION.format("a", "slide", "slides/slide1.xml"),
                RELATION.format("b", "slide", "/ppt/slides/slide2.xml"),
            ),
            "ppt/slides/slide1.xml": second,
            "ppt/slides/slide2.xml": first,
            "ppt/slides/_rels/slide2.xml.rels": relations(
                RELATION.format("n", "notesSlide", "../notes/n.xml"), LINK.format("l", "http://l")
            ),
            "ppt/notes/n.xml": f'<p:notes {W}>{shape(line("Say it slowly", ""))}<a:p><a:fld type="slidenum"><a:t>1</a:t></a:fld></a:p></p:notes>',
        }
    )
    assert (
        read(office.pptx, data)
        == "<page>\nAims\na\tb\nlink (http://l)\n[notes] Say it slowly\n<page>\n[hidden slide] Kept back\n"
    )


def odf(body: str, styles: str = "", manifest: str = "") -> bytes:
    parts = {
        "content.xml": f"<office:document-content {ODF}><office:body>{body}</office:body></office:document-content>"
    }
    parts |= {"styles.xml": f"<office:document-styles {ODF}>{styles}</office:document-styles>"} if styles else {}
    return zipped(**parts, **({"META-INF/manifest.xml": manifest} if manifest else {}))


class TestOpenDocument:
    """odt and odp."""

    def test_text(self) -> None:
        """Notes and comments at the end, deletions where they stood, headers from the styles, white space as it is meant."""
        body = (
            '<text:tracked-changes><text:changed-region text:id="c1"><text:deletion><office:change-info><dc:creator>Z</dc:creator>'
            "<dc:date>2020</dc:date></office:change-info><text:p>ten</text:p></text:deletion></text:changed-region></text:tracked-changes>"
            "<text:h>Title</text:h><text:p>Pay <text:change text:change-id='c1'/>twenty<text:s text:c='2'/>now\n  or<text:tab/>later"
            '<text:note text:note-class="footnote"><text:note-citation>1</text:note-citation><text:note-body><text:p>Net.</text:p></text:note-body></text:note>'
            "<office:annotation><dc:creator>Ann</dc:creator><dc:date>2020</dc:date><text:p>Sure?</text:p></office:annotation>.</text:p>"
            '<table:table><table:table-row><table:table-cell><text:p>a</text:p></table:table-cell><table:table-cell table:number-columns-repeated="2"/>'
            '<table:table-cell><text:p>b</text:p></table:table-cell></table:table-row></table:table><text:p><text:a xlink:href="http://x">x</text:a></text:p>'
        )
        styles = "<office:styles><text:p>no</text:p></office:styles><office:master-styles><style:header><text:p>Top</text:p></style:header></office:master-styles>"
        assert read(opendocument.odt, odf(body, styles)).splitlines() == [
            "Title",
            "Pay [deleted: ten]twenty  now   or\tlater[^1][comment 2].",
            "a\t\t\tb",
            "x (http://x)",
            "[^1] Net.",
            "[comment 2, Ann] Sure?",
            "[header] Top",
        ]

    def test_slides(self) -> None:
        """A slide is a page, with what is said of its pictures, and its notes."""
        slide = "<draw:page><draw:frame><svg:title>A cat</svg:title><draw:text-box><text:p>{0}</text:p></draw:text-box></draw:frame><presentation:notes><text:p>n{0}</text:p></presentation:notes></draw:page>"
        text = read(opendocument.odp, odf(slide.format("one") + slide.format("two")))
        assert text == "".join(f"<page>\n[image: A cat]\n{word}\n[notes] n{word}\n" for word in ("one", "two"))

    def test_a_locked_one(self) -> None:
        """A password is said to be what is missing."""
        manifest = "<manifest><file-entry><encryption-data/></file-entry></manifest>"
        with pytest.raises(Unreadable, match=ENCRYPTED):
            read(opendocument.odt, odf("", manifest=manifest))


def xlsx(*sheets: str, states: tuple[str, ...] = ()) -> bytes:
    """A workbook of sheets given as their `<sheetData>`, called Sheet1 and so on."""
    numbers = range(1, len(sheets) + 1)
    main = "http://schemas.openxmlformats.org/spreadsheetml/2006/main"
    rels = "http://schemas.openxmlformats.org/officeDocument/2006/relationships"
    states = states or ("visible",) * len(sheets)
    book = "".join(
        f'<sheet name="Sheet{n}" sheetId="{n}" state="{state}" r:id="r{n}"/>'
        for n, state in zip(numbers, states, strict=True)
    )
    types = "http://schemas.openxmlformats.org/package/2006"
    return zipped(
        **{
            "[Content_Types].xml": f'<Types xmlns="{types}/content-types"/>',
            "_rels/.rels": f'<Relationships xmlns="{types}/relationships"><Relationship Id="r" Type="{rels}/officeDocument" Target="xl/workbook.xml"/></Relationships>',
            "xl/workbook.xml": f'<workbook xmlns="{main}" xmlns:r="{rels}"><sheets>{book}</sheets></workbook>',
            "xl/_rels/workbook.xml.rels": f'<Relationships xmlns="{types}/relationships">'
            + "".join(
                f'<Relationship Id="r{n}" Type="{rels}/worksheet" Target="worksheets/s{n}.xml"/>' for n in numbers
            )
            + "</Relationships>",
            "xl/styles.xml": f'<styleSheet xmlns="{main}"><cellXfs count="2"><xf numFmtId="0"/><xf numFmtId="14"/></cellXfs></styleSheet>',
            **{
                f"xl/worksheets/s{n}.xml": f'<worksheet xmlns="{main}"><sheetData>{cells}</sheetData></worksheet>'
                for n, cells in zip(numbers, sheets, strict=True)
            },
        }
    )


def inline(place: str, text: str) -> str:
    return f'<c r="{place}" t="inlineStr"><is><t>{text}</t></is></c>'


class TestSheets:
    """Workbooks: a sheet is a document inside, a row is a line."""

    def test_rows_are_lines(self) -> None:
        """Line n is row n, whatever is empty above; dates and numbers read as people write them; hidden sheets are called so."""
        first = (
            f'<row r="3">{inline("B3", "Item")}<c r="C3" s="1"><v>44197</v></c></row>'
            f'<row r="5">{inline("B5", "two&#10;lines")}<c r="C5"><v>12</v></c><c r="D5"><v>1.5</v></c><c r="E5" t="b"><v>1</v></c></row>'
        )
        data = xlsx(first, f'<row r="1">{inline("A1", "x")}</row>', states=("visible", "hidden"))
        assert (
            read(sheets.sheets, data)
            == "<Sheet1>\n\n\n\tItem\t2021-01-01\n\n\ttwo ⏎ lines\t12\t1.5\tTRUE\n<Sheet2 (hidden)>\nx\n"
        )

    def test_a_sheet_that_cannot_be_laid_out(self) -> None:
        """One cell in the far corner costs that sheet; what only says it is large is read, and an empty one is empty."""
        far = f'<row r="1">{inline("A1", "near")}</row><row r="1048576">{inline("XFD1048576", "far")}</row>'
        data = xlsx(far, f'<row r="2">{inline("A2", "second")}</row>', "")
        pieces = [piece for piece in sheets.sheets(io.BytesIO(data), Options()) if isinstance(piece, Inside)]
        assert [piece.name for piece in pieces] == ["Sheet1", "Sheet2", "Sheet3"]
        with pytest.raises(Unreadable, match="1,048,576 × 16,384 cells"):
            next(pieces[0].pieces or iter(()))
        assert ["".join(map(str, piece.pieces or ())) for piece in pieces[1:]] == ["\nsecond\n", ""]
        said = xlsx(f'<row r="2">{inline("B2", "x")}<c r="XFD2" s="1"/></row>').replace(
            b"<sheetData>", b'<dimension ref="A1:XFD1048576"/><sheetData>'
        )
        assert read(sheets.sheets, said) == "<Sheet1>\n\n\tx\n"

    def test_what_is_no_workbook(self) -> None:
        """Damage is said in words."""
        for data in (b"", b"PK\x03\x04", zipped(a="b"), xlsx("<row")):
            with pytest.raises(Unreadable, match="damaged workbook"):
                read(sheets.sheets, data)
        with pytest.raises(Unreadable, match=ENCRYPTED):
            read(sheets.sheets, b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + "EncryptedPackage".encode("utf-16-le"))


HTML = b"""<!doctype html><html><head><meta charset=windows-1252><title>T &amp; x</title><style>b{}</style></head><body><a href="/h">Home</a>
<h1>Gr\xfc\xdfe</h1><p>Some <b>bold</b>
 text,<br>next <a href="https://x.org/">link</a>.</p><ul><li>one<li>two<ol start=3><li>a</li><li>b</ol></ul>
<table><tr><th>A<th>B</tr><tr><td>1<td colspan=2><p>x</p><p>y</p><td>3</table><pre>
def f():
\treturn 1
</pre><div hidden>no</div><p style="display: none">no</p><img alt="A cat" src=x><script>no()</script><div>a<div>b</div>c</div>
<a href=http://d/><div>d</div></a> <a href=http://e/>http://e</a>"""


class TestWeb:
    """HTML as somebody sees it."""

    def test_what_is_seen(self) -> None:
        """Blocks are lines, rows are lines, lists have numbers, links targets; what is hidden is left out."""
        assert read(web.html, HTML).splitlines() == [
            *(
                "T & x",
                "Home (/h)",
                "Grüße",
                "Some bold text,",
                "next link (https://x.org/).",
                "- one",
                "- two",
                "3. a",
                "4. b",
            ),
            *(
                "A\tB",
                "1\tx y\t\t3",
                "def f():",
                "\treturn 1",
                "[image: A cat]",
                "a",
                "b",
                "c",
                "d",
                "(http://d/) http://e",
            ),
        ]

    @pytest.mark.parametrize(
        ("data", "word"),
        [
            ("<meta charset='iso-8859-1'><p>“Größe”".encode("cp1252"), "“Größe”"),
            ("<meta http-equiv=content-type content='text/html; charset=koi8-r'><p>Привет".encode("koi8-r"), "Привет"),
            ("<?xml version='1.0' encoding='shift_jis'?><html><p>日本".encode("shift_jis"), "日本"),
            ("<p>Größe".encode("utf-16"), "Größe"),
            ("<meta charset=latin-1><p>Größe wäre".encode(), "Größe wäre"),
            (b"<meta charset=rot13><p>plain", "plain"),
        ],
    )
    def test_encodings(self, data: bytes, word: str) -> None:
        """A declaration is believed, unless the bytes know better."""
        assert read(web.html, data) == f"{word}\n"

    def test_binary(self) -> None:
        """What is no text is no page, whatever its name says."""
        with pytest.raises(Unreadable, match="binary"):
            read(web.html, b"\x89PNG\r\n")

    @pytest.mark.parametrize("tag", ["<div>", "<b>", "<table><tr><td>", "<ul><li>", "<span class=x>"])
    def test_hostile_nesting(self, tag: str) -> None:
        """A page that nests without end keeps its words."""
        assert read(web.html, tag.encode() * 20_000 + b"the words").split() == ["the", "words"]


def test_a_book() -> None:
    """Chapters in the order of the spine, not of the names; one locked by its seller is encrypted."""
    parts = {
        "META-INF/container.xml": '<container><rootfile full-path="OPS/book.opf"/></container>',
        "OPS/book.opf": '<package><manifest><item id="a" href="a%20b.xhtml"/><item id="b" href="b.xhtml"/></manifest><spine><itemref idref="b"/><itemref idref="a"/><itemref idref="lost"/></spine></package>',
        "OPS/a b.xhtml": '<!DOCTYPE html PUBLIC "-//W3C//DTD XHTML 1.1//EN" "x.dtd"><html><body><p>second &nbsp;chapter</p></body></html>',
        "OPS/b.xhtml": "<html><body><h1>First</h1></body></html>",
    }
    assert read(epub.epub, zipped(**parts)) == "First\nsecond \xa0chapter\n"
    locked = parts | {"META-INF/encryption.xml": '<encryption><CipherReference URI="OPS/b.xhtml"/></encryption>'}
    with pytest.raises(Unreadable, match=ENCRYPTED):
        read(epub.epub, zipped(**locked))


class TestRichText:
    """rtf."""

    @pytest.mark.parametrize(
        ("source", "text"),
        [
            (rb"{\rtf1\ansi\ansicpg1252 Caf\'e9 \'93x\'94\par two\line three\par}", "Café “x”\ntwo\nthree\n"),
            (rb"{\rtf1\ansi\ansicpg1251{\fonttbl{\f0\fcharset0 A;}{\f1\fcharset161 B;}}\f0 \'cf\'f0\f1 \'e1\f0 \'e8\par}", "Прαи\n"),
            (rb"{\rtf1\ansi\ansicpg932 \'93\'fa\'96{\b{}}\'7b\par}", "日\ufffd{\n"),
            (rb"{\rtf1\ansi\ansicpg932 \'93\'fa\'96\'7b\par}", "日本\n"),
            (rb"{\rtf1\uc1 \u8364?5 \u-10179?\u-8704? {\uc2\u955 xy}z\par}", "€5 😀 λz\n"),
            (rb"{\rtf1{\info{\title no}}{\*\unknown no}{\pict\bin5 }}}}}}yes\par}", "yes\n"),
            (rb"{\rtf1\trowd\intbl a\par b\cell c\cell\row\pard after\par}", "a b\tc\nafter\n"),
            (rb"{\rtf1 Pay{\footnote Net\par of tax.} {\deleted ten}{\field{\*\fldinst HYPERLINK " b'"http://x"' rb"}{\fldrslt here}}{\header Top\par}\par}", "Pay[^1] [deleted: ten]here (http://x)\n[^1] Net of tax.\n[header] Top\n"),
            (rb"{\rtf1{\*\shpinst{\sp{\sn a}{\sv b}}{\shptxt boxed\par}}{\shprslt boxed}end\par}", "boxed\nend\n"),
        ],
    )  # fmt: skip
    def test_text(self, source: bytes, text: str) -> None:
        """Words in the code page of their font; notes, headers and boxes kept; what only programs read left out."""
        assert read(rtf.rtf, source) == text


MAIL = b"""From: =?koi8-r?B?8NLJ18XU?= <a@x>
To: b@x
Subject: =?utf-8?q?Gr=C3=BC?=
 =?utf-8?q?=C3=9Fe?=
Date: Mon, 1 Jan 2024 00:00:00 +0000
Content-Type: multipart/mixed; boundary=B

--B
Content-Type: multipart/alternative; boundary=A

--A
Content-Type: text/plain; charset=koi8-r
Content-Transfer-Encoding: quoted-printable

=F0=D2=C9=D7=C5=D4, long =
line
--A
Content-Type: text/html

<p>no</p>
--A--
--B
Content-Type: text/plain; charset=koi8-r; name="../../a.txt"
Content-Disposition: attachment
Content-Transfer-Encoding: base64

8NLJ18XU
--B
Content-Type: application/pdf
Content-Transfer-Encoding: base64

JVBERi0=
--B
Content-Type: message/rfc822

Subject: Inner

inner text
--B--
"""


class TestMail:
    """eml and mbox."""

    def test_a_message(self) -> None:
        """Headers decoded, the plain alternative, attachments and forwarded mail as documents inside, nameless ones named."""
        assert read(mail.eml, MAIL).split("\n") == [
            *("From: Привет <a@x>", "To: b@x", "Date: Mon, 1 Jan 2024 00:00:00 +0000", "Subject: Grüße", ""),
            *(
                "Привет, long line",
                "[attachment: _.._a.txt]",
                "[attachment: part-2.pdf]",
                "[attachment: Inner]",
                "<_.._a.txt>",
                "Привет<part-2.pdf>",
                "%PDF-<Inner>",
                "Subject: Inner",
                "",
                "inner text",
            ),
        ]
        forwarded = [piece for piece in mail.eml(io.BytesIO(MAIL), Options()) if isinstance(piece, Inside)][-1]
        assert forwarded.kind == ".eml"

    def test_html_alone(self) -> None:
        """Where there is no plain text the HTML is read as HTML."""
        assert (
            read(mail.eml, b"Subject: s\nContent-Type: text/html; charset=cp1252\n\n<p>a\xe9<p>b")
            == "Subject: s\n\naé\nb\n"
        )

    @pytest.mark.parametrize(
        "data",
        [
            b"",
            b"no header at all",
            b"Subject: =?utf-8?b?a?= =?nothing?q?x?=\n\nx",
            b"Content-Type: multipart/mixed\n\nno boundary",
            b"Content-Type: multipart/mixed; boundary=\n\n--\n\n--",
            b"Content-Type: text/plain; charset=rot13\n\nx",
            b'Content-Type: text/plain; charset="utf-8\n\nx',
            b"Content-Transfer-Encoding: base64\n\n!!!x",
            b"Content-Type: message/rfc822\n\nContent-Type: message/rfc822\n\nSubject: x",
            b"Content-Type: multipart/alternative; boundary=a\n\n--a--",
            b"Subject: \xff\xfe\nFrom: \x80\n\n\xff",
            b"Content-Disposition: attachment; filename*=utf-9''%ff\n\nx",
        ],
    )
    def test_malformed(self, data: bytes) -> None:
        """Mail that breaks the rules is read as far as it goes."""
        told(mail.eml(io.BytesIO(data), Options()))

    def test_a_mailbox(self) -> None:
        """Each message a document inside by its number; quoted `From ` lines are text, and unquoted."""
        first = b"From a@x Mon Jan  1 00:00:00 2024\nSubject: one\n\n>From here\n>>From there\nFrom now on\n\n"
        second = b"From b@x Mon Jan  1 00:00:00 2024\n" + MAIL.replace(b"multipart/mixed; boundary=B", b"text/plain")
        text = read(mail.mbox, first + second)
        assert text.startswith("<1>\nSubject: one\n\nFrom here\n>From there\nFrom now on\n")
        assert text.count("<2>\nFrom: Привет") == 1
        with pytest.raises(Unreadable, match="no message"):
            read(mail.mbox, b"nothing")

    def test_a_mailbox_is_streamed(self) -> None:
        """One message is told before the next is read."""
        message = b"From a@x Mon Jan  1 00:00:00 2024\nSubject: s\n\n" + b"x" * 5000 + b"\n\n"
        file = io.BytesIO(message * 50)
        box = mail.mbox(file, Options())
        next(box)
        assert file.tell() < 3 * len(message)


@pytest.mark.parametrize("version", [3, 4])
def test_a_notebook(version: int) -> None:
    """Cells in order with their kind, what code printed, no pictures."""
    outputs = [
        {"output_type": "stream", "text": ["1\n", "2\n"]},
        {"output_type": "display_data", "data": {"image/png": "iVBOR", "text/plain": "<Figure>"}},
        {"output_type": "execute_result", "data": {"text/html": "<b>bold</b>"}},
        {"output_type": "error", "ename": "E", "evalue": "bad"},
    ]
    cells = [
        {"cell_type": "markdown", "source": ["# T\n", "x"]},
        {"cell_type": "code", "source": "f()", "outputs": outputs},
    ]
    book = {"cells": cells} if version == 4 else {"worksheets": [{"cells": cells}]}
    assert read(notebook.ipynb, json.dumps(book).encode()) == (
        "[markdown 1]\n# T\nx\n\n[code 2]\nf()\n[output 2]\n1\n2\n[output 2]\n<Figure>\n[output 2]\nbold\n[output 2]\nE: bad\n\n"
    )
    for damaged in (b"", b"[1", b"3", b"[" * 100_000):
        with pytest.raises(Unreadable, match="damaged"):
            read(notebook.ipynb, damaged)
    read(notebook.ipynb, b'{"cells": [1, {"outputs": [null, {"data": 3}]}], "worksheets": [2]}')


class TestPdf:
    """What pages say, and what stands beside them."""

    def test_beside_the_text(self) -> None:
        """Form fields, comments, links, the outline and attached files are told; all but the files as text of a page."""
        pypdf = pytest.importorskip("pypdf")
        from pypdf.annotations import FreeText, Link, Text
        from pypdf.generic import (
            ArrayObject,
            DictionaryObject,
            NameObject,
            NumberObject,
            RectangleObject,
            TextStringObject,
        )

        writer = pypdf.PdfWriter(clone_from=io.BytesIO(made_pdf(["Agreement", "Signatures"])))
        box = (50, 550, 200, 650)
        writer.add_annotation(0, Text(text="Too vague", rect=box, title_bar="Ann"))
        writer.add_annotation(0, FreeText(text="APPROVED", rect=box))
        writer.add_annotation(0, Link(rect=box, url="https://x.org/terms"))
        field = DictionaryObject(
            {
                NameObject("/Type"): NameObject("/Annot"),
                NameObject("/Subtype"): NameObject("/Widget"),
                NameObject("/FT"): NameObject("/Tx"),
                NameObject("/T"): TextStringObject("Name"),
                NameObject("/V"): TextStringObject("Zoë"),
                NameObject("/F"): NumberObject(4),
                NameObject("/Rect"): RectangleObject(box),
            }
        )
        reference = writer.add_annotation(1, field)
        writer.root_object[NameObject("/AcroForm")] = DictionaryObject(
            {NameObject("/Fields"): ArrayObject([reference.indirect_reference])}
        )
        writer.add_outline_item(title="Terms", page_number=0)
        writer.add_metadata({"/Title": "The contract"})
        writer.add_attachment("notes/annex.txt", b"annexed")
        out = io.BytesIO()
        writer.write(out)
        assert read(pdf.pdf, out.getvalue()).splitlines() == [
            *("<page>", "Agreement", "[comment, Ann] Too vague", "[comment] APPROVED", "[link] https://x.org/terms"),
            *("<page>", "Signatures", "[field] Name: Zoë", "[title] The contract", "[outline]", "- Terms, page 1"),
            *("<notes_annex.txt>", "annexed"),
        ]

    def test_passwords(self) -> None:
        """The user's passwords are tried; without the right one it is encrypted, and the words do not show."""
        writer = pytest.importorskip("pypdf").PdfWriter(clone_from=io.BytesIO(made_pdf(["secret"])))
        writer.encrypt("pässword", algorithm="RC4-128")
        out = io.BytesIO()
        writer.write(out)
        assert read(pdf.pdf, out.getvalue(), Options(passwords=("no", "pässword"))) == "<page>\nsecret"
        for passwords in ((), ("no",)):
            with pytest.raises(Unreadable, match=f"^{ENCRYPTED}$"):
                read(pdf.pdf, out.getvalue(), Options(passwords=passwords))

    def test_a_picture_of_words(self) -> None:
        """With OCR on, tesseract reads the pages that have no text layer, and only those."""
        if shutil.which("tesseract") is None:
            pytest.skip("no tesseract on PATH")
        scan = scanned(made_pdf(["Either party may terminate this Agreement", "second page"]))
        assert read(pdf.pdf, scan) == "<page>\n<page>\n"
        text = read(pdf.pdf, scan, Options(ocr=True))
        assert text.split() == "<page> Either party may terminate this Agreement <page> second page".split()

    def test_ocr_without_tesseract(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """OCR that is on and cannot be had is said."""
        from rlm_cli.read import ocr

        ocr.tesseract.cache_clear()
        monkeypatch.setenv("PATH", "/nowhere")
        with pytest.raises(Unreadable, match="no text layer, and no tesseract"):
            read(pdf.pdf, made_pdf([""]), Options(ocr=True))
        ocr.tesseract.cache_clear()


def scanned(data: bytes) -> bytes:
    """The upper ends of the same pages, as pictures alone."""
    import pypdfium2

    source, target = pypdfium2.PdfDocument(data), pypdfium2.PdfDocument.new()
    for page in source:
        width, height = 400, 100
        bitmap = page.render(scale=150 / 72, crop=(0, 692, 212, 0))
        picture = pypdfium2.PdfImage.new(target)
        picture.set_bitmap(bitmap)
        picture.set_matrix(pypdfium2.PdfMatrix().scale(width, height))
        copy = target.new_page(width, height)
        copy.insert_obj(picture)
        copy.gen_content()
    out = io.BytesIO()
    target.save(out)
    return out.getvalue()


def test_declared_encodings_are_names() -> None:
    """What is no encoding of text is not believed."""
    for name in (
        "rot13",
        "base64",
        "hex",
        "zlib",
        "unicode_escape",
        "idna",
        "x\0y",
        "\udc80",
        "a" * 999,
        "",
        None,
        "undefined",
    ):
        assert charsets.decoded(b"caf\xe9 au lait", name).startswith("caf")


READERS: list[tuple[Callable[..., Iterator[Piece]], bytes]] = [
    (office.docx, docx(paragraph("x"))),
    (opendocument.odt, odf("<text:p>x</text:p>")),
    (sheets.sheets, xlsx(f'<row r="1">{inline("A1", "x")}</row>')),
    (web.html, HTML),
    (rtf.rtf, rb"{\rtf1{\fonttbl{\f0\fcharset204 A;}}\trowd\intbl a\cell\row{\footnote b}\u5?\'e9\par}"),
    (mail.eml, MAIL),
    (mail.mbox, b"From a Mon Jan  1 00:00:00 2024\n" + MAIL),
    (notebook.ipynb, b'{"cells": [{"cell_type": "code", "source": "f()", "outputs": [{"text": "x"}]}]}'),
    (pdf.pdf, made_pdf(["one"])),
]


@pytest.mark.slow
@pytest.mark.parametrize(("reader", "sound"), READERS, ids=lambda value: getattr(value, "__name__", ""))
@settings(max_examples=400, deadline=None)
@given(data=st.data())
def test_damage_is_bounded(reader: Reader, sound: bytes, data: st.DataObject) -> None:
    """Bytes changed, cut out or put in anywhere: text comes, or a reason, never an error nobody thought of."""
    place = data.draw(st.integers(0, len(sound)))
    cut = data.draw(st.integers(0, 20))
    hostile = sound[:place] + data.draw(st.binary(max_size=20)) + sound[place + cut :]
    try:
        read(reader, hostile)
    except (Unreadable, zipfile.BadZipFile, EOFError, NotImplementedError):
        pass
