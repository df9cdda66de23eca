"""Names that lead elsewhere, in every field that becomes a key or a query."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import quote

import pytest

from functions.storage import open_store
from functions.tenant import Key
from tests.attacks.town import ACME, Town, statements
from tests.swap.house import SWAP, House, finalized

if TYPE_CHECKING:
    from pathlib import Path

TRICKS = {
    "parent": "../globex/x",
    "parent-within": "a/../../globex/x",
    "here": "./x",
    "absolute": "/etc/passwd",
    "double-slash": "//globex/x",
    "backslash": "..\\globex\\x",
    "percent": "%2e%2e/globex",
    "percent-slash": "..%2fglobex",
    "percent-twice": "%252e%252e%252fglobex",
    "overlong-utf-8": "%c0%ae%c0%ae/globex",
    "nul": "a\0.png",
    "percent-nul": "a%00.png",
    "line-break": "a\r\nb",
    "escape": "\x1b[2J",
    "full-width-dots": "\uff0e\uff0e/globex",
    "one-dot-leader": "\u2024\u2024/globex",
    "division-slash": "..\u2215globex",
    "right-to-left": "a\u202egnp.x",
    "zero-width": "a\u200bb",
    "not-normalised": "e\u0301",
    "surrogate": "\ud800",
    "hidden": ".ssh/id",
    "url": "http://169.254.169.254/latest/meta-data",
    "file-url": "file:///etc/passwd",
    "home": "~/x",
    "variable": "${GUISE_KEYS}",
    "placeholder": "{tenant}",
    "wildcard": "*",
    "sql": "x' OR '1'='1",
    "very-long": "a" * 5000,
    "empty": "",
    "blank": " ",
    "dash": "-",
}


def names(prefix: str) -> list[str]:
    """Return each trick, bare and below the prefix where the key belongs."""
    return [f"{kind} {trick}" for kind in ("bare", prefix) for trick in TRICKS]


def name_of(attack: str) -> str:
    kind, _, trick = attack.partition(" ")
    return TRICKS[trick] if kind == "bare" else kind + TRICKS[trick]


HARMLESS = frozenset(
    {
        "full-width-dots",
        "one-dot-leader",
        "home",
        "variable",
        "placeholder",
        "wildcard",
        "sql",
        "blank",
        "dash",
        "url",
    }
    | {"file-url"}
)
"""Plain names below a prefix: nothing reads them as anything else, so they are 404."""


@pytest.mark.parametrize("attack", names("uploads/"))
@pytest.mark.parametrize("field", ["source", "target"])
def test_attack_path_in_an_input(town: Town, field: str, attack: str) -> None:
    """A key outside `uploads/`, or of two readings, is refused before any look-up."""
    ask = {**SWAP, field: name_of(attack)}
    _refused_before_reading(town, ask, attack)


@pytest.mark.parametrize("attack", names("consents/"))
def test_attack_path_in_a_consent_record(town: Town, attack: str) -> None:
    """As in an input: the record is read from `consents/` and nowhere else."""
    town.work()
    ask = {**SWAP, "consent": {"basis": "consent", "record": name_of(attack)}}
    _refused_before_reading(town, ask, attack)


def _refused_before_reading(town: Town, ask: object, attack: str) -> None:
    import json

    body = json.dumps(ask)  # as ASCII: a surrogate is an escape, as an attacker's is
    town.calls.clear()
    answer = town.ask(
        "swap",
        "/v1/swaps",
        town.token(),
        "POST",
        data=body,
        content_type="application/json",
    )
    kind, _, trick = attack.partition(" ")
    if kind != "bare" and trick in HARMLESS and answer.status_code in {403, 404}:
        return
    assert answer.status_code == 400, answer.text
    assert town.calls == []


@pytest.mark.parametrize("attack", TRICKS)
@pytest.mark.parametrize("path", ["", "/result", "/cancel"])
def test_attack_path_in_a_job_id(town: Town, attack: str, path: str) -> None:
    """A job's id is 64 plain characters; nothing else reaches the store."""
    text = quote(TRICKS[attack].encode(errors="surrogatepass"), safe="")
    town.calls.clear()
    method = "POST" if path == "/cancel" else "GET"
    answer = town.ask("swap", f"/v1/swaps/{text}{path}", town.token(), method)
    assert answer.status_code in {308, 400, 404, 405}
    assert town.calls == []


@pytest.mark.parametrize("attack", TRICKS)
def test_attack_path_in_a_cursor(town: Town, attack: str) -> None:
    """A cursor moves within one's own results, and shows nothing else."""
    answer = town.ask(
        "swap",
        "/v1/swaps",
        town.token("globex"),
        query_string={"cursor": TRICKS[attack].encode(errors="surrogatepass")},
    )
    assert answer.status_code in {200, 400}
    assert answer.get_json().get("jobs", []) == []


@pytest.mark.parametrize("attack", TRICKS)
@pytest.mark.parametrize(
    "path",
    [
        "log/tile/0/{}",
        "log/tile/{}/000",
        "log/tile/entries/{}",
        "log/proof/{}",
        "log/erasures/{}",
        "logs/{}/checkpoint",
        "log/entries?job={}",
        "log/entries?start={}",
        "log/entries?from={}",
    ],
)
def test_attack_path_in_the_log(town: Town, path: str, attack: str) -> None:
    """A tile, an index, an epoch and a job have one form: all else is 4xx, unasked."""
    text = quote(TRICKS[attack].encode(errors="surrogatepass"), safe="/")
    with statements() as sent:
        answer = town.ask(
            "audit", f"/v1/tenants/acme/{path.format(text)}", town.token()
        )
    if path.endswith("={}") and not text:
        return  # no query is none
    assert answer.status_code in {308, 400, 404, 405}, answer.text
    assert not [each for each in sent if "globex" in each or "OR '1'" in each]


@pytest.mark.parametrize("attack", TRICKS)
@pytest.mark.parametrize(
    "path", ["invoices/{}", "invoices/acme-{}", "usage?by={}", "usage?from={}"]
)
def test_attack_path_in_a_bill(town: Town, path: str, attack: str) -> None:
    """An invoice's number is looked up as it stands, as a value of a statement."""
    text = quote(TRICKS[attack].encode(errors="surrogatepass"), safe="/")
    if "?" in path and not text:
        return  # no query is none
    with statements() as sent:
        answer = town.ask(
            "billing", f"/v1/tenants/acme/{path.format(text)}", town.token()
        )
    assert answer.status_code in {200, 308, 400, 404, 405}, answer.text
    assert answer.status_code != 200 or path == "invoices/{}"
    assert answer.status_code != 200 or "invoices" in answer.get_json()
    assert not [each for each in sent if "globex" in each or "OR '1'" in each]


@pytest.mark.parametrize("attack", TRICKS)
def test_attack_path_in_an_uploads_name(attack: str) -> None:
    """A notice of an object elsewhere runs nothing, and comes to no dead letter."""
    house = House()
    name = TRICKS[attack].replace("\ud800", "").replace("\0", "")
    name = "".join(c for c in name if c.isprintable())
    for text in (name, f"requests/{name}.json", f"requests/../{name}.json"):
        answer = house.send(finalized(text or "x"))
        assert answer.status_code in {204, 400}
    assert "dev.guise.swap.completed.v1" not in house.sink.types()
    assert not house.auditor.seen


@pytest.mark.parametrize("attack", ["parent", "absolute", "double-slash", "hidden"])
def test_attack_path_in_a_file_store(tmp_path: Path, attack: str) -> None:
    """The last wall: a key that got this far still leaves no folder of its own."""
    (tmp_path / "globex").mkdir()
    (tmp_path / "globex" / "x").write_bytes(b"secret")
    store = open_store(f"file://{tmp_path}/acme")
    for key in (TRICKS[attack], f"uploads/{TRICKS[attack]}"):
        for act in (
            lambda k: store.get(k).data,
            lambda k: store.put(k, b"x"),
            store.delete,
        ):
            try:
                found = act(Key(key))
            except Exception:  # noqa: BLE001, S112  # however it refuses
                continue
            assert found != b"secret"
    assert (tmp_path / "globex" / "x").read_bytes() == b"secret"
    assert [path.name for path in (tmp_path / "globex").iterdir()] == ["x"]
    assert {path.name for path in tmp_path.iterdir()} <= {"acme", "globex"}


def test_attack_symlink_in_a_file_store(tmp_path: Path) -> None:
    """A link in a tenant's folder leads nowhere, though the process could follow it."""
    (tmp_path / "secret").write_bytes(b"secret")
    store = open_store(f"file://{tmp_path}/acme")
    store.put(ACME.upload("uploads/a.png"), b"mine")
    (tmp_path / "acme" / "uploads" / "b.png").symlink_to(tmp_path / "secret")
    try:
        found = store.get(ACME.upload("uploads/b.png")).data
    except Exception:  # noqa: BLE001  # however it refuses
        found = b""
    assert found != b"secret"
