"""The error tree: each problem tells the caller enough, and nothing more."""

from __future__ import annotations

import re

import pytest

from functions import problems
from functions.problems import Failed, Problem, Refused, Unavailable


def tree(root: type[Problem] = Problem) -> list[type[Problem]]:
    """Return every problem this module defines, `root` first."""
    kinds = root.__subclasses__()
    here = [kind for kind in kinds if kind.__module__ == problems.__name__]
    return [root, *(each for kind in here for each in tree(kind))]


EVERY = tree()


@pytest.mark.parametrize("kind", EVERY)
def test_the_docstring_draws_the_tree_as_it_is(kind: type[Problem]) -> None:
    """Each class stands in the module's docstring with the status it has."""
    drawn = rf"(?m)^[ *x+-]*\b{kind.__name__}\b.*$"
    line = re.search(drawn, problems.__doc__ or "")
    assert line
    statuses = re.findall(r"\b[45]\d\d\b", line[0])
    assert statuses in ([], [str(kind.status)])


def test_no_two_problems_share_a_type() -> None:
    """A client may switch on the type."""
    slugs = [kind().slug for kind in EVERY]
    assert len(set(slugs)) == len(slugs)


@pytest.mark.parametrize("kind", EVERY)
def test_a_slug_is_kebab_case(kind: type[Problem]) -> None:
    """`NoSuchFace` is `no-such-face`."""
    assert re.fullmatch(r"[a-z]+(-[a-z]+)*", kind().slug)
    assert kind().slug.replace("-", "") == kind.__name__.lower()


@pytest.mark.parametrize("kind", EVERY)
def test_a_refusal_is_4xx_and_a_failure_5xx(kind: type[Problem]) -> None:
    """4xx where the caller can mend it, 5xx where only we can."""
    assert (400 <= kind.status < 500) == issubclass(kind, Refused)


def test_the_document_is_that_of_rfc_9457() -> None:
    """Type, title and status always; detail and instance when there are any."""
    assert Unavailable().document() == {
        "type": "urn:guise:problem:unavailable",
        "title": "Unavailable",
        "status": 503,
    }
    document = Refused("too blue").document(instance="urn:uuid:1")
    assert document["detail"] == "too blue"
    assert document["instance"] == "urn:uuid:1"


def test_the_internal_text_never_reaches_the_document() -> None:
    """What the log is told stays there."""
    problem = Failed(internal="password=hunter2")
    assert "hunter2" not in str(problem.document(instance="urn:uuid:1"))
    assert "hunter2" in str(problem)


def test_a_problem_always_says_something_in_the_log() -> None:
    """Internal text, else the detail, else the title."""
    assert str(Refused("shown", internal="logged")) == "logged"
    assert str(Refused("shown")) == "shown"
    assert str(Refused()) == "Refused"
