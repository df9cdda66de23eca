"""What panels and alerts ask for is what the functions push, in name, label and value.

Each function is run to each of its ends before a collector, and what came is named as
Prometheus names what comes by OTLP.  `test_observability` reads the code instead, and
sees what no run here reaches.
"""

from __future__ import annotations

import re
import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import pytest
from werkzeug.serving import make_server

from functions import traces
from functions.audit.app import create_app as audit_app
from functions.audit.copies import Copies
from functions.audit.log import Log
from functions.billing.app import create_app as billing_app
from functions.billing.ledger import Ledger
from functions.keys import MemoryKeys
from functions.metrics import Metrics
from functions.otlp import Exporter
from functions.problems import Unavailable
from functions.roster import Policy, Quotas, Spec
from functions.settings import Settings
from functions.sink import HttpAuditor
from functions.storage.memory import MemoryStore
from functions.swap.journal import Books
from functions.swap.sweeper import Sweeper
from tests.audit.house import House as AuditHouse
from tests.audit.house import TokensByName as AuditTokens
from tests.billing.house import House as BillingHouse
from tests.billing.house import TokensByName as BillingTokens
from tests.billing.house import clock
from tests.collector import Collector, collecting, eventually
from tests.knative.test_observability import expressions
from tests.swap.house import ACME, SWAP, House, picture
from tests.swap.test_fair_use import Book

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from functions.tenant import Key, Tenant

pytestmark = pytest.mark.xdist_group("exported")  # it pushes once for all

Pushed = dict[str, list[dict[str, str]]]
"""Each series' name as Prometheus has it, and the labels that it came with."""

SUFFIXES: Final = {
    "sum": ("_total",),
    "gauge": ("",),
    "histogram": ("_bucket", "_sum", "_count"),
}
SELECTOR: Final = re.compile(r"(guise_\w+)\{([^}]*)\}")
MATCHER: Final = re.compile(r'(\w+)\s*(=~|!=|=)\s*"([^"]*)"')
NAME: Final = re.compile(r"guise_\w+")


@dataclass
class Torn(Book):
    """A roster that may be unreadable."""

    torn: bool = False

    def spec(self, tenant: Tenant) -> Spec:
        if self.torn:
            raise Unavailable(internal="torn")
        return super().spec(tenant)


class Odd(MemoryStore):
    """A second store that is away at first, and has another's third copy."""

    def __init__(self) -> None:
        super().__init__()
        self.calls = 0

    def put_if_absent(self, key: Key, data: bytes) -> int:
        """Fail, write, or find something else there."""
        self.calls += 1
        if self.calls == 1:
            raise Unavailable(internal="away")
        if self.calls == 3:
            super().put_if_absent(key, b"another log")
        return super().put_if_absent(key, data)


def named(collector: Collector) -> Pushed:
    """Return what came, as Prometheus names it; of a histogram every bucket is one."""
    found: Pushed = {}
    for document in [each for path, each in collector.seen if path == "/v1/metrics"]:
        for resource in document["resourceMetrics"]:
            about = texts(resource["resource"]["attributes"])
            job = {
                "job": about["service.name"],
                "instance": about["service.instance.id"],
            }
            for metric in resource["scopeMetrics"][0]["metrics"]:
                kind = next(each for each in SUFFIXES if each in metric)
                for suffix in SUFFIXES[kind]:
                    series = found.setdefault(f"{metric['name']}{suffix}", [])
                    for point in metric[kind]["dataPoints"]:
                        labels = texts(point["attributes"]) | job
                        if suffix == "_bucket":
                            labels["le"] = "+Inf"
                        series.append(labels)
    return found


def texts(attributes: list[dict[str, Any]]) -> dict[str, str]:
    return {each["key"]: each["value"]["stringValue"] for each in attributes}


def swaps(collector: Collector) -> None:
    """Run door and worker: jobs that end well, badly and not; a tenant in a hurry."""
    book = Torn()
    book.put("acme")
    house = House(otlp_url=collector.url, roster=book, tenant=ACME)
    for name in ("a.png", "b.png"):
        house.put(name, picture(1))
    assert house.post(SWAP).status_code == 201
    assert house.post({"operation": "swap"}).status_code == 400
    house.sink.refuses = "dev.guise.swap.completed.v1"
    house.post(SWAP)
    house.sink.refuses = ""
    house.sink.down = True
    house.post(SWAP)  # the sweeper's to tell
    house.sink.down = False
    house.upload("refused", b"{}")
    house.engine.fault = broken
    for _ in range(house.limits.attempts_max):
        house.upload("failed", SWAP)
    house.auditor.down = True
    assert house.upload("unrecorded", SWAP).status_code == 503
    book.torn = True
    assert house.post(SWAP).status_code == 503
    book.torn = False
    book.specs["acme"] = Spec(
        id="acme",
        policy=Policy(gate="tenant"),
        quotas=Quotas(requests_per_second=0.1, burst=1),
    )
    assert 429 in [house.post(SWAP).status_code for _ in range(2)]
    sweeps(collector, house)


def broken() -> None:
    raise RuntimeError("a device that fell off the bus")


def sweeps(collector: Collector, house: House) -> None:
    """Sweep what is left, as the CronJob's process does."""
    metrics = Metrics()
    books = Books(
        ACME,
        house.store,
        house.keys,
        house.auditor,
        house.sink,
        house.limits,
        metrics,
    )
    Sweeper().run(books)
    Exporter(collector.url, "guise-sweeper", metrics).push()


def audits(collector: Collector, folder: Path) -> None:
    """Run audit: an event, another of its name; a second store that is odd."""
    metrics, keys = Metrics(), MemoryKeys()
    copies = Copies("memory:", metrics, opener=lambda _: Odd(), pause_seconds=0.02)
    url = f"sqlite:///{folder}/audit.db"
    log = Log.at(url, keys, committed=copies.take)
    copies.start(lambda: log.store)
    app = audit_app(
        Settings(otlp_url=collector.url),
        log=log,
        keys=keys,
        authenticator=AuditTokens(),
    )
    house = AuditHouse(log, keys, app.test_client(), url)
    assert house.post(house.event("e1")).status_code == 200
    eventually(lambda: 'outcome="written"' in metrics.text())
    assert house.post(house.event("e2")).status_code == 200
    eventually(lambda: 'outcome="fork"' in metrics.text())
    other = house.event("e1", data={"job": "another", "attempt": 1})
    house.post(other)
    copies.close()
    Exporter(collector.url, "guise-audit", metrics).push()
    log.close()


def bills(collector: Collector, folder: Path) -> None:
    """Run billing: usage, and another usage of the same name."""
    keys = MemoryKeys()
    ledger = Ledger.open(f"sqlite:///{folder}/billing.db")
    client = billing_app(
        Settings(otlp_url=collector.url),
        ledger=ledger,
        keys=keys,
        authenticator=BillingTokens(),
        now=clock,
    ).test_client()
    house = BillingHouse(ledger, keys, client)
    for event in (house.event("u1"), house.event("u1", faces=3)):
        assert house.post(event).status_code == 204
    ledger.close()


@pytest.fixture(scope="module")
def pushed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pushed]:
    """Run everything once, and return what the collector has in the end."""
    folder = tmp_path_factory.mktemp("exported")
    with collecting() as collector:
        swaps(collector)
        audits(collector, folder)
        bills(collector, folder)
        quiet(collector)
        yield named(collector)


def quiet(collector: Collector) -> None:
    """Wait until nothing more is pushed for two pauses of the exporters."""
    since, count = time.monotonic(), len(collector.seen)
    while time.monotonic() - since < 2.5:
        time.sleep(0.05)
        if len(collector.seen) != count:
            since, count = time.monotonic(), len(collector.seen)


QUERIES = list(expressions())


@pytest.mark.parametrize(("where", "query"), QUERIES, ids=[each for each, _ in QUERIES])
def test_what_is_asked_for_was_pushed(pushed: Pushed, where: str, query: str) -> None:
    """By its name; and a selector takes some of it, with the values that it names."""
    assert where
    for name in NAME.findall(query):
        assert pushed.get(name), f"{name} was never pushed"
    for name, selector in SELECTOR.findall(query):
        wanted = MATCHER.findall(selector)
        assert any(takes(each, wanted) for each in pushed[name]), (name, selector)


def takes(labels: Mapping[str, str], wanted: list[tuple[str, str, str]]) -> bool:
    """Return whether a series' labels pass a selector's matchers."""
    for label, how, text in wanted:
        value = labels.get(label, "")
        if text == "$tenant":  # whoever is chosen on the board
            passes = value == ACME.id
        elif how == "=~":
            passes = re.fullmatch(text, value) is not None
        else:
            passes = (value == text) == (how == "=")
        if not passes:
            return False
    return True


def test_a_trace_leads_into_audit_over_http(tmp_path: Path) -> None:
    """From whoever asks for a receipt to audit's own span, by one header."""
    keys = MemoryKeys()
    log = Log.at(f"sqlite:///{tmp_path}/audit.db", keys)
    with collecting() as collector:
        settings = Settings(otlp_url=collector.url)
        app = audit_app(settings, log=log, keys=keys, authenticator=AuditTokens())
        house = AuditHouse(log, keys, app.test_client(), "")
        server = make_server("127.0.0.1", 0, app, threaded=True)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        spans = traces.Spans()
        above = traces.enter("POST /v1/swaps", spans=spans)
        HttpAuditor(f"http://127.0.0.1:{server.server_port}").receipt(
            house.event("e1"), timeout=10
        )
        traces.leave(above)
        eventually(collector.spans)
        server.shutdown()
        server.server_close()
    log.close()
    [asked] = [each for each in spans.take() if each.name == "ask for a receipt"]
    [there] = collector.spans()
    assert (there["traceId"], there["parentSpanId"]) == (above.trace, asked.id)
    assert there["name"] == "POST /v1/tenants/<tenant>/events"
    assert ACME.id not in str(there)


def test_each_series_says_of_which_tenant_and_version(pushed: Pushed) -> None:
    """What a tenant's board and two versions side by side stand on."""
    for name in ("guise_jobs_total", "guise_stage_seconds_bucket", "guise_cost"):
        assert all(each["tenant"] == ACME.id for each in pushed[name]), name
    assert all("version" in each for found in pushed.values() for each in found)
