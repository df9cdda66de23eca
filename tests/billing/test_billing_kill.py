"""Kill -9 while a month is closed: at any line of ours, and at any moment."""

from __future__ import annotations

import os
import random
import subprocess
import sys
from contextlib import suppress
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import pytest

from functions import events
from functions.billing import closing, telling
from functions.billing.credits import Credit
from functions.billing.invoice import Period
from functions.billing.usage import usage_of
from functions.events import Event
from functions.keys import BILLING, FileKeys
from tests.billing.house import BOTH, usage_data
from tests.local.subscriber import DONE, subscriber
from tests.postgres import APP, OPERATOR

if TYPE_CHECKING:
    from pathlib import Path

    from functions.billing.ledger import Ledger

DATABASES = BOTH
MARCH = Period(2025, 3)
TENANTS = [f"t{number:02d}" for number in range(20)]
USED_MINOR, CREDIT_MINOR = 400, 1000
KILLED = -9

# Kills itself at the n-th line of ours; 0 for never.
PROGRAM = """
import os, signal, sys
from functions.cli import main

left = int(sys.argv[1])

def count(frame, kind, _):
    global left
    name = frame.f_code.co_filename
    if "/functions/billing/" not in name and "/functions/cli/bill/" not in name:
        return None
    if kind == "line":
        left -= 1
        if not left:
            os.kill(os.getpid(), signal.SIGKILL)
    return count

if left:
    sys.settrace(count)
main(["bill", "close", "--period", "2025-03", *sys.argv[2:]])
"""


@pytest.fixture
def months(ledger: Ledger, office: Ledger) -> None:
    """Leave a ledger in which twenty tenants used something, and have credits."""
    found = []
    for tenant in TENANTS:
        data = usage_data(requests=10_000, gpu_seconds="0", cpu_seconds="0", load_ms=0)
        event = Event(
            id="u1",
            source=events.swap_source(tenant),
            type=events.USAGE_RECORDED,
            subject=tenant,
            tenant=tenant,
            time="2025-03-10T12:00:00.000Z",
            data=data,
        )
        found.append(usage_of(event, now=datetime.now(UTC)))
        credit = Credit(
            id="welcome",
            tenant=tenant,
            currency="USD",
            amount_minor=CREDIT_MINOR,
            from_ms=MARCH.start_ms,
        )
        closing.grant(office, credit)
    ledger.post_all(found)


@pytest.mark.usefixtures("months")
def test_attack_kill_9_while_a_month_is_closed(
    office: Ledger, url: str, tmp_path: Path
) -> None:
    """Run again to the end: no half invoice, no number twice, no credit twice.

    Every event was told, in the same words each time.
    """
    FileKeys(tmp_path / "keys").create(BILLING)
    where = url.replace(f"//{APP}@", f"//{OPERATOR}@")
    options = ["--database", where, "--keys", f"{tmp_path}/keys", "--home", "nowhere"]
    chance = random.Random(7)  # noqa: S311  # no secret
    with subscriber(lambda _: DONE) as heard:
        environ = {**os.environ, "K_SINK": heard.url}

        def close(lines: int, seconds: float | None = None) -> int:
            command = [sys.executable, "-c", PROGRAM, str(lines), *options]
            with subprocess.Popen(command, env=environ, stdout=-3, stderr=-3) as child:
                with suppress(subprocess.TimeoutExpired):
                    child.wait(seconds)
                child.kill()
                return child.wait()

        ended = [close(chance.randrange(4_000, 25_000)) for _ in range(6)]
        ended += [close(0, chance.uniform(0.6, 1.6)) for _ in range(3)]
        assert KILLED in ended
        assert close(0) == 0
        told: dict[str, set[str]] = {}
        for event in heard.seen:
            said = told.setdefault(event.tenant, set())
            said.add(repr(sorted(events.as_dict(event).items())))
    assert sorted(told) == TENANTS
    assert {len(said) for said in told.values()} == {1}
    assert telling.untold(office) == []
    for tenant in TENANTS:
        (made,) = closing.issued_documents(office, tenant)
        assert made.number == f"{tenant}-000001"
        assert (made.net_minor, made.credits_minor) == (USED_MINOR, -USED_MINOR)
        (left,) = closing.available(office, tenant)
        assert left.left_minor == CREDIT_MINOR - USED_MINOR
