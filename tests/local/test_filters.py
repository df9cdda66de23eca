"""Trigger filters: what passes, and what is no filter."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from functions.local.filters import FilterError, parse, parse_all

if TYPE_CHECKING:
    from collections.abc import Callable

COMPARE: dict[str, Callable[[str, str], bool]] = {
    "exact": str.__eq__,
    "prefix": str.startswith,
    "suffix": str.endswith,
}
names = st.sampled_from(["type", "subject", "source", "tenant"])
texts = st.text("ab/.", min_size=1, max_size=4)
attributes = st.dictionaries(names, texts)
comparisons = st.builds(
    lambda dialect, body: {dialect: body},
    st.sampled_from(["exact", "prefix", "suffix"]),
    st.dictionaries(names, texts, min_size=1),
)


def combined(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    several = st.lists(inner, min_size=1, max_size=3)
    return (
        st.builds(lambda body: {"all": body}, several)
        | st.builds(lambda body: {"any": body}, several)
        | st.builds(lambda body: {"not": body}, inner)
    )


filters = st.recursive(comparisons, combined, max_leaves=6)


def reference(document: dict[str, Any], event: dict[str, str]) -> bool:
    """Evaluate a filter as the CloudEvents Subscriptions API words it."""
    ((dialect, body),) = document.items()
    if dialect in ("all", "any"):
        results = [reference(each, event) for each in body]
        return all(results) if dialect == "all" else any(results)
    if dialect == "not":
        return not reference(body, event)
    return all(n in event and COMPARE[dialect](event[n], t) for n, t in body.items())


@given(filters, attributes)
def test_a_filter_means_what_the_specification_says(
    document: dict[str, Any],
    event: dict[str, str],
) -> None:
    """Every dialect, nested as one likes, agrees with a reading of the text."""
    assert parse(document)(event) is reference(document, event)


@given(st.lists(filters, max_size=3), attributes)
def test_a_trigger_passes_what_all_its_filters_pass(
    documents: list[dict[str, Any]],
    event: dict[str, str],
) -> None:
    """Its filters are a conjunction, and none of them pass everything."""
    expected = all(reference(each, event) for each in documents)
    assert parse_all(documents)(event) is expected


def test_an_attribute_that_is_missing_passes_nothing() -> None:
    """Not even a prefix; `not` of it passes."""
    assert not parse({"prefix": {"subject": "a"}})({})
    assert parse({"not": {"exact": {"subject": "a"}}})({})


@pytest.mark.parametrize(
    "document",
    [
        {},
        [],
        "exact",
        {"exact": {"type": "a"}, "prefix": {"type": "a"}},
        {"cesql": "type = 'a'"},
        {"exact": {}},
        {"exact": {"type": ""}},
        {"exact": {"": "a"}},
        {"exact": {"type": 1}},
        {"exact": "a"},
        {"all": []},
        {"any": {"exact": {"type": "a"}}},
        {"not": [{"exact": {"type": "a"}}]},
    ],
)
def test_what_a_cluster_would_refuse_is_no_filter(document: Any) -> None:
    """Empty, doubled, unknown or ill-typed filters are named, not guessed at."""
    with pytest.raises(FilterError):
        parse(document)


def test_filters_are_a_list() -> None:
    """A single filter in place of the list is refused."""
    with pytest.raises(FilterError):
        parse_all({"exact": {"type": "a"}})
