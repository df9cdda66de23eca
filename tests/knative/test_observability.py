"""Dashboards and alerts, held to what the functions export, and to their own schemas.

The dashboards are read and written back by Grafana's own Foundation SDK, which is
generated from Grafana's schema (11.6): a field that it does not know would be gone.
"""

from __future__ import annotations

import ast
import json
import os
import re
import shutil
import subprocess
from collections import defaultdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import pytest
import yaml

import functions
import knative

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

WHERE: Final = Path(knative.__file__).parent / "observability"
BOARDS: Final = sorted(WHERE.glob("dashboards/*.json"))
RULES: Final = WHERE / "rules.yaml"
SUFFIXES: Final = {
    "count": ("_total",),
    "gauge": ("",),
    "observe": ("_bucket", "_sum", "_count"),
}
PUSHED: Final = frozenset({"job", "instance", "version", "pack", "tenant", "le"})
"""Labels that come with the push, and with a histogram."""
_SELECTED: Final = re.compile(r"(guise_\w+)(?:\{([^}]*)\})?")
_GROUPED: Final = re.compile(r"by \(([^)]*)\)")


def exported() -> Mapping[str, set[str]]:
    """Return each series that the functions' code counts, with its labels."""
    found: defaultdict[str, set[str]] = defaultdict(set)
    for path in Path(functions.__file__).parent.rglob("*.py"):
        for call in ast.walk(ast.parse(path.read_text())):
            for name, kind, labels in _counted(call):
                for suffix in SUFFIXES[kind]:
                    found[f"guise_{name}{suffix}"] |= labels
    return found


def _counted(call: ast.AST) -> Iterator[tuple[str, str, set[str]]]:
    match call:
        case ast.Call(
            func=ast.Attribute(attr="count" | "gauge" | "observe" as kind)
            | ast.Name(id="count" as kind),
            args=[ast.Constant(value=str() as name), *_],
            keywords=keywords,
        ) if keywords or kind != "count" or _of_metrics(call):
            yield name, kind, {each.arg for each in keywords if each.arg}


def _of_metrics(call: ast.Call) -> bool:
    """Return whether a call without labels is of metrics; text has a `count`, too."""
    return "metrics" in ast.unparse(call.func)


def expressions() -> Iterator[tuple[str, str]]:
    """Yield where each query stands, and the query."""
    for path in BOARDS:
        board = json.loads(path.read_text())
        for panel in board["panels"]:
            for target in panel["targets"]:
                yield f"{path.name}: {panel['title']}", target["expr"]
        for variable in board["templating"]["list"]:
            if variable["type"] == "query":
                yield path.name, variable["query"]
    for group in yaml.safe_load(RULES.read_text())["groups"]:
        for rule in group["rules"]:
            yield rule["alert"], rule["expr"]


def test_every_series_that_is_asked_for_is_exported() -> None:
    """A panel or an alert on a series that nobody counts would be silent for ever."""
    known = exported()
    for where, query in expressions():
        for name, _ in _SELECTED.findall(query):
            assert name in known, where


def test_every_label_that_is_asked_for_is_there() -> None:
    """In a selector, and in what is grouped by."""
    known = exported()
    for where, query in expressions():
        labels: set[str] = set()
        for name, selector in _SELECTED.findall(query):
            asked = set(re.findall(r"(\w+)\s*[=!]~?", selector))
            assert asked <= known[name] | PUSHED, where
            labels |= known[name]
        for group in _GROUPED.findall(query):
            assert {each.strip() for each in group.split(",")} <= labels | PUSHED, where


def test_everything_that_is_exported_is_looked_at() -> None:
    """On a board or by an alert, or it is counted for nobody."""
    asked = {name for _, query in expressions() for name, _ in _SELECTED.findall(query)}
    base = re.compile(r"_(bucket|sum|count|total)$")
    assert {base.sub("", each) for each in exported()} == {
        base.sub("", each) for each in asked
    }


@pytest.mark.parametrize("path", BOARDS, ids=lambda path: path.stem)
def test_a_dashboard_loads_in_grafanas_schema(path: Path) -> None:
    """Nothing that Grafana does not know, and each panel in a place of its own."""
    models = pytest.importorskip(
        "grafana_foundation_sdk.models.dashboard", reason="no Grafana SDK is installed"
    )
    encoder = pytest.importorskip("grafana_foundation_sdk.cog.encoder").JSONEncoder
    board = json.loads(path.read_text())
    loaded = models.Dashboard.from_json(board)
    assert _within(board, json.loads(json.dumps(loaded, cls=encoder))) == []
    places = [tuple(panel["gridPos"].values()) for panel in board["panels"]]
    assert len(set(places)) == len(places)
    assert len({panel["id"] for panel in board["panels"]}) == len(places)


def _within(one: Any, other: Any, at: str = "$") -> list[str]:
    """Return where something of `one` is not in `other`."""
    if isinstance(one, dict) and isinstance(other, dict):
        return [
            fault
            for name, each in one.items()
            for fault in _within(each, other.get(name), f"{at}.{name}")
        ]
    if isinstance(one, list) and isinstance(other, list) and len(one) == len(other):
        pairs = enumerate(zip(one, other, strict=True))
        return [f for n, (a, b) in pairs for f in _within(a, b, f"{at}[{n}]")]
    return [] if one == other else [f"{at}: {one!r} became {other!r}"]


def test_a_dashboard_with_a_field_misspelt_would_not() -> None:
    """So that the test above can fail."""
    models = pytest.importorskip("grafana_foundation_sdk.models.dashboard")
    encoder = pytest.importorskip("grafana_foundation_sdk.cog.encoder").JSONEncoder
    board = json.loads(BOARDS[0].read_text())
    board["panels"][0]["gridpos"] = board["panels"][0].pop("gridPos")
    loaded = models.Dashboard.from_json(board)
    assert _within(board, json.loads(json.dumps(loaded, cls=encoder)))


def test_each_alert_has_a_test_in_which_it_fires_and_one_in_which_not() -> None:
    """And says what to look at."""
    tests = yaml.safe_load((WHERE / "rules.test.yaml").read_text())["tests"]
    asked = [each for test in tests for each in test["alert_rule_test"]]
    fired = {each["alertname"] for each in asked if each["exp_alerts"]}
    silent = {each["alertname"] for each in asked if not each["exp_alerts"]}
    rules = [
        rule
        for group in yaml.safe_load(RULES.read_text())["groups"]
        for rule in group["rules"]
    ]
    assert {rule["alert"] for rule in rules} == fired == silent
    assert all(rule["annotations"]["description"] for rule in rules)
    assert {rule["labels"]["severity"] for rule in rules} == {"page", "ticket"}


@pytest.mark.parametrize(
    "what", ["check rules rules.yaml", "test rules rules.test.yaml"]
)
def test_promtool_takes_the_rules(what: str) -> None:
    """Where there is one: `PROMTOOL=… pytest`, or on the path."""
    promtool = os.environ.get("PROMTOOL") or shutil.which("promtool")
    if promtool is None:
        pytest.skip("no promtool here: the alert rules are not tried by it")
    ran = subprocess.run(
        [promtool, *what.split()],
        cwd=WHERE,
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
