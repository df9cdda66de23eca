"""What every page of ours promises, whatever it shows."""

from __future__ import annotations

import base64
import hashlib
from itertools import pairwise
from typing import TYPE_CHECKING

from tests.pages.strict import read

if TYPE_CHECKING:
    from tests.pages.strict import Element

FETCHING = frozenset(
    {"script", "link", "img", "iframe", "object", "embed", "base", "form", "video"}
)
HEADINGS = ("h1", "h2", "h3", "h4")


def hold(text: str) -> Element:
    """Return the page's root if it keeps every promise."""
    page = read(text)
    _is_alone(page)
    _is_guarded(page)
    _can_be_heard(page)
    _has_true_tables(page)
    return page


def _is_alone(page: Element) -> None:
    """Require that nothing is fetched and nothing runs."""
    for each in page.all():
        assert each.tag not in FETCHING
        for name, value in each.attributes.items():
            assert not name.startswith("on")
            assert name not in {"style", "src", "srcset", "action", "background"}
            if name in {"href", "xlink:href"}:
                assert each.tag == "a"
                assert value.startswith(("#", "https://c2sp.org/"))
    style = page.one("style").text
    assert "@import" not in style
    assert "url(" not in style


def _is_guarded(page: Element) -> None:
    """Require that the page forbids all but its own stylesheet."""
    digest = hashlib.sha256(page.one("style").text.encode()).digest()
    (policy,) = (
        each.attributes["content"]
        for each in page.all("meta")
        if each.attributes.get("http-equiv") == "Content-Security-Policy"
    )
    allowed = base64.b64encode(digest).decode()
    assert policy.startswith(f"default-src 'none'; style-src 'sha256-{allowed}';")


def _can_be_heard(page: Element) -> None:
    """Require a language, a title, headings in order, and words for pictures."""
    assert page.attributes["lang"] == "en"
    assert page.one("head").one("title").text.strip()
    levels = [HEADINGS.index(each.tag) for each in page.all() if each.tag in HEADINGS]
    assert levels[0] == 0
    assert levels.count(0) == 1
    assert all(after - before <= 1 for before, after in pairwise(levels))
    ids = [each.attributes["id"] for each in page.all() if "id" in each.attributes]
    assert len(set(ids)) == len(ids)
    for each in page.all():
        for name in ("aria-labelledby", "aria-describedby"):
            assert set(each.attributes.get(name, "").split()) <= set(ids)
        if each.tag == "a":
            assert each.attributes["href"].removeprefix("#") in ids or (
                each.attributes["href"].startswith("https://")
            )
    for svg in page.all("svg"):
        named = svg.attributes.get("role") == "img" and svg.attributes["aria-label"]
        assert named or svg.attributes.get("aria-hidden") == "true"
    for figure in page.all("figure"):
        assert figure.one("figcaption").text.strip()


def _has_true_tables(page: Element) -> None:
    """Require tables that say what they are, and what each cell is of."""
    for table in page.all("table"):
        assert table.one("caption").text.strip()
        for head in table.all("th"):
            assert head.attributes["scope"] in {"col", "row"}
        head = next(iter(table.all("tr")))
        columns = list(head.all("th"))
        assert all(each.attributes["scope"] == "col" for each in columns)
        for row in list(table.all("tr"))[1:]:
            cells = [each for each in row.all() if each.tag in {"td", "th"}]
            widths = [int(each.attributes.get("colspan", "1")) for each in cells]
            assert sum(widths) == len(columns)
