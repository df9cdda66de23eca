"""A reader of HTML that forgives nothing: what a browser would mend is an error."""

from __future__ import annotations

from dataclasses import dataclass, field
from html.parser import HTMLParser
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

VOID = frozenset({"meta", "br", "link", "img", "input", "hr"})
"""Of the elements without an end, those that a page of ours could hold."""
CHILDLESS = frozenset({"path", "rect", "line"})
"""SVG elements that may be written `<rect/>`."""


class NotStrict(Exception):
    """The page is not what it should be."""


@dataclass
class Element:
    tag: str
    attributes: dict[str, str] = field(default_factory=dict)
    children: list[Element | str] = field(default_factory=list)

    def all(self, tag: str = "") -> Iterator[Element]:
        """Yield every element below, in order; those of one tag where it is named."""
        for child in self.children:
            if isinstance(child, Element):
                if tag in ("", child.tag):
                    yield child
                yield from child.all(tag)

    def one(self, tag: str) -> Element:
        (found,) = self.all(tag)
        return found

    @property
    def text(self) -> str:
        """All text below, as a reader gets it."""
        parts = (each if isinstance(each, str) else each.text for each in self.children)
        return "".join(parts)

    def rows(self) -> list[list[str]]:
        """Return the cells' texts of a table, its head first."""
        return [
            [
                " ".join(cell.text.split())
                for cell in row.children
                if isinstance(cell, Element)
            ]
            for row in self.all("tr")
        ]


class _Reader(HTMLParser):
    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.root = Element("")
        self.open = [self.root]

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if len({name for name, _ in attrs}) != len(attrs):
            raise NotStrict(f"<{tag}> has an attribute twice")
        found = Element(tag, {name: value or "" for name, value in attrs})
        self.open[-1].children.append(found)
        if tag not in VOID:
            self.open.append(found)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in CHILDLESS:
            raise NotStrict(f"<{tag}/> is no element of SVG without children")
        self.handle_starttag(tag, attrs)
        self.open.pop()

    def handle_endtag(self, tag: str) -> None:
        if self.open[-1].tag != tag:
            raise NotStrict(f"</{tag}> where <{self.open[-1].tag}> is open")
        self.open.pop()

    def handle_data(self, data: str) -> None:
        self.open[-1].children.append(data)

    def handle_comment(self, data: str) -> None:
        raise NotStrict(f"a comment: {data}")


def read(page: str) -> Element:
    """Return the page's `html`, or raise `NotStrict`."""
    if not page.startswith("<!doctype html>\n"):
        raise NotStrict("no doctype")
    reader = _Reader()
    reader.feed(page)
    reader.close()
    if len(reader.open) != 1:
        raise NotStrict(f"<{reader.open[-1].tag}> is never closed")
    return reader.root.one("html")
