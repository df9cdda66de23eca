"""docs/tenants.md is true: what it shows is a spec, and it names every rule."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import typer

from functions.cli.tenant.commands import tenant
from functions.roster import Spec, parse, plain
from functions.roster import mixes as rules
from functions.tenant import Tenant

PAGE = (Path(__file__).parents[2] / "docs" / "tenants.md").read_text()
RULES = Path(rules.__file__).read_text()


def test_the_spec_that_is_shown_is_one() -> None:
    """And is at the level that its parts come to."""
    [text] = re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL)
    spec = parse(text.encode(), tenant=Tenant("acme"))
    assert spec.level == 0
    assert spec.retention.log_days == 730


@pytest.mark.parametrize(
    "field", sorted(set(re.findall(r'"([a-z]+\.[a-z_.]+)', RULES)))
)
def test_each_field_that_makes_a_mix_impossible_is_in_the_table(field: str) -> None:
    """Whoever is refused finds the reason on the page."""
    table = PAGE[PAGE.index("| mix | why not |") : PAGE.index("## States")]
    assert f"`{field}" in table


@pytest.mark.parametrize("name", sorted(plain(Spec(id="acme"))))
def test_each_field_is_spoken_of(name: str) -> None:
    """None is there without anybody saying what goes by it."""
    assert re.search(rf"`{name}[`.]|^{name}:", PAGE, re.MULTILINE)


def test_each_command_that_is_shown_exists() -> None:
    """With its options."""
    shown = re.findall(r"^guise tenant ([a-z]+)(.*?)(?:#|$)", PAGE, re.MULTILINE)
    commands = typer.main.get_command(tenant).commands  # type: ignore[attr-defined]  # a group
    for name, rest in shown:
        known = {option for each in commands[name].params for option in each.opts}
        assert set(re.findall(r"--[a-z]+", rest)) <= known


def test_each_command_there_is_is_shown() -> None:
    """In the list at the top of the page, each with what it is for."""
    listed = PAGE.split("```")[1]
    commands = typer.main.get_command(tenant).commands  # type: ignore[attr-defined]  # a group
    assert {name for name in commands if not re.search(rf"\b{name}\b", listed)} == set()
