"""An invoice to look at: a page that prints as it looks, or a PDF.

Both come from one `Sheet` and depend on the invoice alone: the same invoice gives the
same bytes.  The page needs nothing but itself.  The PDF needs the extra `pdf`.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Final

from functions.billing.sheet import sheet
from functions.pages import policy, visible

if TYPE_CHECKING:
    from jinja2 import Template

    from functions.billing.invoice import Invoice

_FOLDER: Final = Path(__file__).parent / "templates"


def as_html(invoice: Invoice) -> str:
    """Return the page of an invoice, a draft or a credit note."""
    return _template().render(sheet=sheet(invoice))


@cache
def _template() -> Template:
    from jinja2 import Environment, FileSystemLoader, StrictUndefined
    from markupsafe import Markup

    environment = Environment(
        loader=FileSystemLoader(_FOLDER),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    style = (_FOLDER / "invoice.css").read_text("utf-8")
    environment.filters["visible"] = visible
    environment.globals["policy"] = policy(style)
    # Ours, not a value: a stylesheet has no entities that an escape could use.
    environment.globals["style"] = Markup(style)  # noqa: S704  # a file of ours
    return environment.get_template("invoice.html.j2")


def as_pdf(invoice: Invoice) -> bytes:
    """Return the PDF of an invoice, a draft or a credit note.

    Raises `ImportError` where the extra `pdf` is not installed.
    """
    from functions.billing.pdf import pdf_of

    return pdf_of(sheet(invoice))
