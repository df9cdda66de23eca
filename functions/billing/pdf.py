"""A sheet as PDF, A4, by ReportLab.  The same sheet gives the same bytes.

The typeface is Helvetica, which every reader has; a letter that it lacks comes from
the Vera that ReportLab brings, or loses its accent.  The page prints every script.
"""

from __future__ import annotations

import io
import unicodedata
from functools import cache
from typing import TYPE_CHECKING, Any, Final
from xml.sax.saxutils import escape

from reportlab.lib.colors import HexColor
from reportlab.lib.enums import TA_RIGHT
from reportlab.lib.pagesizes import A4
from reportlab.lib.styles import ParagraphStyle
from reportlab.lib.units import mm
from reportlab.pdfbase import pdfmetrics
from reportlab.pdfbase.ttfonts import TTFont
from reportlab.pdfgen.canvas import Canvas
from reportlab.platypus import (
    KeepTogether,
    Paragraph,
    SimpleDocTemplate,
    Spacer,
    Table,
)

from functions.pages import visible

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from functions.billing.rates import Party
    from functions.billing.sheet import Section, Sheet

INK: Final = HexColor("#1b1f23")
QUIET: Final = HexColor("#57606a")
RULE: Final = HexColor("#dedad2")
FAINT: Final = HexColor("#f1eee8")
_MARGIN: Final = 18 * mm
_PADDING: Final = 6  # of ReportLab's frame, in points
_WIDTH: Final = A4[0] - 2 * _MARGIN
_FLUSH: Final = (
    ("LEFTPADDING", (0, 0), (-1, -1), 0),
    ("RIGHTPADDING", (0, 0), (-1, -1), 0),
)

_BODY: Final = ParagraphStyle(
    "body", fontName="Helvetica", fontSize=9, leading=12, textColor=INK
)
_RIGHT: Final = ParagraphStyle("right", _BODY, alignment=TA_RIGHT)
_LABEL: Final = ParagraphStyle("label", _BODY, textColor=QUIET)
_HEAD: Final = ParagraphStyle("head", _BODY, fontSize=8, leading=11, textColor=QUIET)
_HEAD_RIGHT: Final = ParagraphStyle("head right", _HEAD, alignment=TA_RIGHT)
_TITLE: Final = ParagraphStyle(
    "title", _RIGHT, fontName="Helvetica-Bold", fontSize=22, leading=24
)
_LARGE: Final = ParagraphStyle(
    "large", _RIGHT, fontName="Helvetica-Bold", fontSize=15, leading=18
)
_TOTAL: Final = ParagraphStyle(
    "total", _RIGHT, fontName="Helvetica-Bold", fontSize=11, leading=14
)
_SMALL: Final = ParagraphStyle("small", _BODY, fontSize=7, leading=9, textColor=QUIET)


def pdf_of(sheet: Sheet) -> bytes:
    """Return the PDF of a sheet."""
    out = io.BytesIO()
    title = " ".join([sheet.title, *(text for _, text in sheet.facts[:1])])
    document = SimpleDocTemplate(
        out,
        pagesize=A4,
        leftMargin=_MARGIN - _PADDING,
        rightMargin=_MARGIN - _PADDING,
        topMargin=_MARGIN - _PADDING,
        bottomMargin=_MARGIN - _PADDING,
        title=title,
        author=sheet.issuer.name or "Guise",
        subject=sheet.facts[-1][1],
        creator="Guise",
        lang="en",
        invariant=1,  # no time of making and no random id
    )
    document.build(_story(sheet), canvasmaker=_Numbered)
    return out.getvalue()


class _Numbered(Canvas):  # type: ignore[misc]  # ReportLab has no types
    """A canvas that knows how many pages there are, and writes it on each."""

    def __init__(self, *args: Any, **options: Any) -> None:  # noqa: ANN401  # as its
        super().__init__(*args, **options)
        self._pages: list[dict[str, Any]] = []

    def showPage(self) -> None:  # noqa: N802  # ReportLab's name
        """Keep the page until their number is known."""
        self._pages.append(dict(self.__dict__))
        self._startPage()

    def save(self) -> None:
        """Write every page with its number."""
        for number, page in enumerate(self._pages, start=1):
            self.__dict__.update(page)
            self.setFont("Helvetica", 8)
            self.setFillColor(QUIET)
            self.drawRightString(
                A4[0] - _MARGIN, 10 * mm, f"{number} / {len(self._pages)}"
            )
            super().showPage()
        super().save()


def _story(sheet: Sheet) -> list[Any]:
    """Return what is on the pages, from the top."""
    story = [_header(sheet), Spacer(0, 7 * mm), _top(sheet), Spacer(0, 6 * mm)]
    story += [_due(sheet), Spacer(0, 4 * mm)]
    if sheet.reason:
        story += [_text(f"Reason: {sheet.reason}", _BODY), Spacer(0, 4 * mm)]
    if sheet.sections:
        story.append(_lines(sheet.sections))
    else:
        story.append(_text("Nothing was used.", _LABEL))
    story += [Spacer(0, 4 * mm), KeepTogether([_sums(sheet)])]
    for note in sheet.notes:
        story += [Spacer(0, 4 * mm), _text(note, _BODY)]
    if sheet.payment:
        lines = [_text(each, _BODY) for each in sheet.payment]
        heading = _text("PAYMENT", _HEAD)
        story.append(KeepTogether([Spacer(0, 8 * mm), heading, *lines]))
    story.append(KeepTogether([Spacer(0, 8 * mm), _footer(sheet)]))
    return story


def _header(sheet: Sheet) -> Table:
    issuer = _party(sheet.issuer, sheet.issuer.name or "Guise")
    table = Table([[issuer, _text(sheet.title, _TITLE)]], [_WIDTH - 80 * mm, 80 * mm])
    rule = ("LINEBELOW", (0, 0), (-1, -1), 1, INK)
    table.setStyle(
        [
            *_FLUSH,
            ("VALIGN", (0, 0), (-1, -1), "TOP"),
            ("BOTTOMPADDING", (0, 0), (-1, -1), 5 * mm),
            rule,
        ]
    )
    return table


def _party(who: Party, name: str) -> list[Paragraph]:
    quiet = [f"Tax ID {who.tax_id}" if who.tax_id else "", who.email]
    return [
        _bold(name),
        *(_text(line, _BODY) for line in who.address),
        *(_text(line, _LABEL) for line in quiet if line),
    ]


def _top(sheet: Sheet) -> Table:
    to = [_text("TO", _HEAD), *_party(sheet.customer, sheet.customer.name)]
    facts = Table(
        [[_text(name, _LABEL), _text(text, _RIGHT)] for name, text in sheet.facts],
        [30 * mm, 50 * mm],
    )
    facts.setStyle([*_FLUSH, *_padded(1)])
    table = Table([[to, facts]], [_WIDTH - 80 * mm, 80 * mm])
    table.setStyle([*_FLUSH, ("VALIGN", (0, 0), (-1, -1), "TOP")])
    return table


def _due(sheet: Sheet) -> Table:
    name, figure = sheet.due
    table = Table(
        [[_text(name, _BODY), _text(figure, _LARGE)]], [50 * mm, _WIDTH - 50 * mm]
    )
    table.setStyle(
        [
            ("BACKGROUND", (0, 0), (-1, -1), FAINT),
            ("VALIGN", (0, 0), (-1, -1), "MIDDLE"),
            *_padded(7),
        ]
    )
    return table


def _lines(sections: Sequence[Section]) -> Table:
    heads = ("Quantity", "Unit price", "Amount")
    rows: list[list[Any]] = [
        [_text("Description", _HEAD), *(_text(head, _HEAD_RIGHT) for head in heads)]
    ]
    style: list[Any] = [("LINEBELOW", (0, 0), (-1, 0), 1, INK)]
    for section in sections:
        at = len(rows)
        style += [("SPAN", (0, at), (-1, at)), ("NOSPLIT", (0, at), (-1, at + 1))]
        style.append(("TOPPADDING", (0, at), (-1, at), 3 * mm))
        rows.append([_bold(section.title), "", "", ""])
        for row in section.rows:
            what = [_text(row.what, _BODY)]
            what += [_text(row.detail, _SMALL)] if row.detail else []
            figures = (row.quantity, row.price, row.amount)
            rows.append([what, *(_text(each, _RIGHT) for each in figures)])
    table = Table(rows, [_WIDTH - 98 * mm, 46 * mm, 26 * mm, 26 * mm], repeatRows=1)
    table.setStyle(
        [
            *_FLUSH,
            ("VALIGN", (0, 0), (-1, -1), "TOP"),
            ("LINEBELOW", (0, 1), (-1, -1), 1, RULE),
            *_padded(3),
            *style,
        ]
    )
    return table


def _sums(sheet: Sheet) -> Table:
    rows = [[_text(name, _LABEL), _text(text, _RIGHT)] for name, text in sheet.sums]
    rows.append([_bold(sheet.total[0]), _text(sheet.total[1], _TOTAL)])
    table = Table(rows, [60 * mm, 40 * mm], hAlign="RIGHT")
    table.setStyle(
        [
            *_FLUSH,
            ("VALIGN", (0, 0), (-1, -1), "MIDDLE"),
            ("LINEBELOW", (0, 0), (-1, -2), 1, RULE),
            ("LINEABOVE", (0, -1), (-1, -1), 2, INK),
            *_padded(4),
        ]
    )
    return table


def _footer(sheet: Sheet) -> Table:
    rounding = (
        "Each line is rounded once, half up; the total is the sum of the lines and "
        "taxes shown."
    )
    rows: list[list[Any]] = [[_text(rounding, _SMALL), ""]]
    rows += [
        [_text(name, _SMALL), _text(text, _SMALL)] for name, text in sheet.evidence
    ]
    table = Table(rows, [22 * mm, _WIDTH - 22 * mm])
    table.setStyle(
        [
            *_FLUSH,
            ("SPAN", (0, 0), (-1, 0)),
            ("VALIGN", (0, 0), (-1, -1), "TOP"),
            ("LINEABOVE", (0, 0), (-1, 0), 1, RULE),
            *_padded(1),
            ("TOPPADDING", (0, 0), (-1, 0), 3 * mm),
        ]
    )
    return table


def _padded(points: int) -> Iterable[tuple[Any, ...]]:
    return [
        (name, (0, 0), (-1, -1), points) for name in ("TOPPADDING", "BOTTOMPADDING")
    ]


def _text(text: str, style: ParagraphStyle) -> Paragraph:
    return Paragraph(_markup(text), style)


def _bold(text: str) -> Paragraph:
    return Paragraph(f"<b>{_markup(text)}</b>", _BODY)


def _markup(text: str) -> str:
    """Return text as ReportLab's markup, each letter in a typeface that has it."""
    # Helvetica has no minus sign; its en dash looks as one.
    text = visible(text).replace("\N{MINUS SIGN}", "\N{EN DASH}")
    return "".join(_letter(each) for each in text)


@cache
def _letter(letter: str) -> str:
    if _in_helvetica(letter):
        return escape(letter)
    if ord(letter) in _vera():
        return f'<font name="Vera">{escape(letter)}</font>'
    base = unicodedata.normalize("NFKD", letter)
    return escape("".join(each for each in base if _in_helvetica(each)) or "?")


def _in_helvetica(letter: str) -> bool:
    return bool(letter.encode("cp1252", "ignore"))


@cache
def _vera() -> frozenset[int]:
    font = TTFont("Vera", "Vera.ttf")
    pdfmetrics.registerFont(font)
    return frozenset(font.face.charToGlyph)
