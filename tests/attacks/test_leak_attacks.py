"""What answers and logs let out, and what a caller can write into a log."""

from __future__ import annotations

import io
import logging
import re
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest

from functions.auth import TokenAuthenticator
from functions.logs import LineFormatter
from tests.attacks.server import statuses
from tests.attacks.town import ISSUER, Town, public_door
from tests.swap.house import SWAP

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.attacks.server import Server

# A path of a file system, a statement, a traceback, a module or a class of ours.
INSIDE = re.compile(
    rb"/work|/tmp|/usr|\.py\b|File \"|Traceback|SELECT |INSERT |sqlite|sqlalchemy|"
    rb"functions\.|gunicorn|werkzeug|msgspec|<object|0x[0-9a-f]{6}|Error\(",
)
PAYLOAD = "x\r\nERROR forged line\x1b[2J\x1b]0;owned\x07\u2028\u202e\x00"


@contextmanager
def logged() -> Iterator[io.StringIO]:
    """Yield what the functions write to standard error meanwhile, as they write it."""
    text = io.StringIO()
    handler = logging.StreamHandler(text)
    handler.setFormatter(LineFormatter("%(levelname)s %(name)s %(message)s"))
    root = logging.getLogger()
    level = root.level
    root.addHandler(handler)
    root.setLevel(logging.DEBUG)
    try:
        yield text
    finally:
        root.removeHandler(handler)
        root.setLevel(level)


BAD: dict[str, tuple[str, str, str, dict[str, Any]]] = {
    "no-json": ("swap", "POST", "/v1/swaps", {"data": b"{"}),
    "no-utf-8": ("swap", "POST", "/v1/swaps", {"data": b"\xff\xfe"}),
    "deep-json": ("swap", "POST", "/v1/swaps", {"data": b"[" * 50_000}),
    "wrong-types": ("swap", "POST", "/v1/swaps", {"json": {**SWAP, "source": {}}}),
    "huge-number": ("swap", "POST", "/v1/swaps", {"data": b"9" * 5000}),
    "search-no-json": (
        "audit",
        "POST",
        "/v1/tenants/acme/log/searches",
        {"data": b"{"},
    ),
    "search-no-hex": (
        "audit",
        "POST",
        "/v1/tenants/acme/log/searches",
        {"json": {"sha256": "x"}},
    ),
    "erasure-a-list": ("audit", "POST", "/v1/tenants/acme/log/erasures", {"json": []}),
    "index-beyond-64-bits": (
        "audit",
        "GET",
        "/v1/tenants/acme/log/proof/9999999999999999999",
        {},
    ),
    "event-no-json": ("audit", "POST", "/v1/tenants/acme/events", {"data": b"{"}),
    "month-that-is-none": ("billing", "GET", "/v1/tenants/acme/invoices/2026-99", {}),
    "time-of-no-calendar": (
        "billing",
        "GET",
        "/v1/tenants/acme/usage?from=2026-02-30T00:00:00Z",
        {},
    ),
    "time-before-christ": (
        "billing",
        "GET",
        "/v1/tenants/acme/usage?from=-0001-01-01T00:00:00Z",
        {},
    ),
    "year-one": (
        "billing",
        "GET",
        "/v1/tenants/acme/usage?from=0001-01-01T00:00:00Z",
        {},
    ),
    "no-such-page": ("swap", "GET", "/v1/admin/../etc/passwd", {}),
}


@pytest.mark.parametrize("attack", BAD)
def test_attack_error_text_that_leaks(town: Town, attack: str) -> None:
    """A refusal says what is wrong with the request, and not a word of the inside."""
    which, method, path, more = BAD[attack]
    headers = {} if "json" in more else {"Content-Type": "application/json"}
    answer = town.ask(which, path, town.token(), method, headers=headers, **more)
    assert answer.status_code < 500, answer.text
    assert not INSIDE.search(answer.data), answer.text


def test_attack_failure_text_that_leaks(fresh: Town, tmp_path: Path) -> None:
    """A failure of ours shows an instance; its cause stands in the log alone."""
    missing = tmp_path / "secret-place" / "jwks.json"
    authenticator = TokenAuthenticator(missing, issuer=ISSUER, audience="guise")
    door = public_door(fresh.swap, authenticator)
    with logged() as text:
        header = {"Authorization": f"Bearer {fresh.token()}"}
        answer = door.get("/v1/swaps", headers=header)
    assert answer.status_code == 503
    assert not INSIDE.search(answer.data)
    assert b"secret-place" not in answer.data
    assert "secret-place" in text.getvalue()
    assert answer.get_json()["instance"] in text.getvalue()


@pytest.mark.parametrize("which", ["swap", "audit", "billing"])
@pytest.mark.parametrize(
    "sort", ["good", "expired", "forged", "another-scope", "another-tenant"]
)
def test_attack_token_in_the_log(town: Town, which: str, sort: str) -> None:
    """No line holds a token, or a segment of one, whatever became of it."""
    token = {
        "good": town.token(),
        "expired": town.token(exp=1),
        "forged": town.token()[:-8] + "AAAAAAAA",
        "another-scope": town.token(scope=""),
        "another-tenant": town.token("globex"),
    }[sort]
    paths = {
        "swap": "/v1/swaps/none",
        "audit": "/v1/tenants/acme/log/proof/0",
        "billing": "/v1/tenants/acme/invoices/none",
    }
    with logged() as text:
        town.ask(which, paths[which], token)
    assert not [each for each in token.split(".") if each in text.getvalue()]


INJECTIONS = {
    "header-authorization": lambda t: t.door.get(
        "/v1/swaps", headers={"Authorization": f"Bearer {_header()}"}
    ),
    "header-idempotency-key": lambda t: t.ask(
        "swap",
        "/v1/swaps",
        t.token(),
        "POST",
        json=SWAP,
        headers={"Idempotency-Key": _header()},
    ),
    "header-content-type": lambda t: t.ask(
        "swap", "/v1/swaps", t.token(), "POST", headers={"Content-Type": _header()}
    ),
    "header-ce-source": lambda t: t.audit.client.post(
        "/v1/tenants/acme/events", headers=_event("source")
    ),
    "header-ce-id": lambda t: t.audit.client.post(
        "/v1/tenants/acme/events", headers=_event("id")
    ),
    "header-ce-type": lambda t: t.swap.worker.post("/events", headers=_event("type")),
    "kid": lambda t: t.ask(
        "swap", "/v1/swaps", t.signed(t.header(kid=PAYLOAD), t.claims())
    ),
    "subject": lambda t: t.ask("swap", "/v1/swaps", t.token(sub=PAYLOAD)),
    "tenant-claim": lambda t: t.ask("swap", "/v1/swaps", t.token(PAYLOAD)),
    "scope": lambda t: t.ask("swap", "/v1/swaps", t.token(scope=PAYLOAD)),
    "tenant-in-a-path": lambda t: t.ask(
        "audit", _path("/v1/tenants/{}/log/checkpoint"), t.token()
    ),
    "job-in-a-path": lambda t: t.ask("swap", _path("/v1/swaps/{}"), t.token()),
    "index-in-a-path": lambda t: t.ask(
        "audit", _path("/v1/tenants/acme/log/proof/{}"), t.token()
    ),
    "invoice-in-a-path": lambda t: t.ask(
        "billing", _path("/v1/tenants/acme/invoices/{}"), t.token()
    ),
    "cursor": lambda t: t.ask("swap", _path("/v1/swaps?cursor={}"), t.token()),
    "member-name": lambda t: t.ask(
        "swap", "/v1/swaps", t.token(), "POST", json={**SWAP, PAYLOAD: 1}
    ),
    "operation": lambda t: t.ask(
        "swap", "/v1/swaps", t.token(), "POST", json={**SWAP, "operation": PAYLOAD}
    ),
    "source-key": lambda t: t.ask(
        "swap", "/v1/swaps", t.token(), "POST", json={**SWAP, "source": PAYLOAD}
    ),
    "search-member": lambda t: t.ask(
        "audit",
        "/v1/tenants/acme/log/searches",
        t.token(),
        "POST",
        json={"sha256": "0" * 64, PAYLOAD: 1},
    ),
}


def _header() -> str:
    """Return the payload as far as a header can hold it."""
    return "x\x1b[2J\x1b]0;owned\x07\x85 ERROR forged line"


def _path(template: str) -> str:
    from urllib.parse import quote

    return template.format(quote(PAYLOAD, safe=""))


def _event(name: str) -> dict[str, str]:
    from urllib.parse import quote

    good = {"id": "1", "source": "/s", "type": "t", "specversion": "1.0"}
    bent = {**good, name: quote(PAYLOAD)}
    return {f"ce-{name}": text for name, text in bent.items()}


@pytest.mark.parametrize("attack", INJECTIONS)
def test_attack_log_injection(town: Town, attack: str) -> None:
    """A record stays one line of printable text, whatever a caller put into it."""
    with logged() as text:
        answer = INJECTIONS[attack](town)
    assert answer.status_code < 500, answer.text
    for line in text.getvalue().splitlines():
        assert line.isprintable()
        assert line.startswith(("DEBUG ", "INFO ", "WARNING ", "ERROR ", "  "))


@pytest.mark.parametrize("name", ["Authorization", "User-Agent", "Referer", "ce-type"])
def test_attack_log_injection_on_the_wire(server: Server, name: str) -> None:
    """What the real process writes to its standard error is printable, too."""
    before = len(server.log.read_bytes())
    answer = server.ask(f"{name}: Bearer \x1b[2J\x85ERROR forged")
    assert statuses(answer)[0] < 500
    written = server.log.read_bytes()[before:].decode()
    assert all(line.isprintable() for line in written.splitlines())


def test_attack_answer_header_injection(town: Town) -> None:
    """Nothing of a request becomes a header of its answer."""
    answer = town.ask("swap", "/v1/swaps/x%0d%0aSet-Cookie:%20a=b", town.token())
    assert answer.status_code in {400, 404}
    assert "Set-Cookie" not in answer.headers


def test_attack_markup_in_an_answer(town: Town) -> None:
    """No browser takes a refusal for a page: it is JSON, and said not to be guessed."""
    answer = town.ask("swap", "/v1/swaps/<script>alert(1)<%2fscript>", town.token())
    assert answer.mimetype == "application/problem+json"
    assert answer.headers["X-Content-Type-Options"] == "nosniff"


def test_attack_metrics_that_name_tenants(town: Town) -> None:
    """What everybody inside may scrape names no tenant, no job and no caller."""
    job = town.work()
    for which, client in town.clients.items():
        answer = client.get("/metrics")
        assert answer.status_code == (404 if which == "swap" else 200)
        shown = answer.text
        assert not [word for word in ("acme", job, "ann") if word in shown], which
