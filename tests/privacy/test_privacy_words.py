"""What is written down besides the tenant's own store names no picture and no person.

Jobs of every ending run through the real doors; then every line of every log, what the
event doors answer, metrics, what brokers and databases hold, and dead letters are
searched for the tokens, the pictures, their digests, and the tenant's names.
"""

from __future__ import annotations

import base64
import hashlib
import json
import logging
import sys
from typing import TYPE_CHECKING, Any, Final

import msgspec
import pytest

from functions import events
from functions.audit.leaf import RECORDED
from functions.logs import LineFormatter
from functions.swap import intake
from functions.swap.dispatch import requested
from functions.tenant import CONSENTS, UNDELIVERED, Key
from tests.attacks.town import ACME, Town, open_town
from tests.swap.house import finalized, picture

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

PERSON: Final = "frau-meier"
CONSENT: Final = f"{CONSENTS}mustermann-erika.json"
OF_FORM: Final = "passbild-geheim.png"
KEY: Final = "schluessel-77"
SOURCE: Final = f"uploads/{PERSON} 1.png"
TARGET: Final = f"uploads/o'{PERSON}.png"
FORMAT: Final = "%(asctime)s %(levelname)s %(name)s %(message)s"
SWAP: Final[dict[str, Any]] = {
    "operation": "swap",
    "source": SOURCE,
    "target": TARGET,
    "consent": {"basis": "consent", "record": CONSENT},
}


class Ran:
    """An installation in which jobs have run, and all that was written down of them."""

    def __init__(self, town: Town, folder: Path, log: str) -> None:
        self.town = town
        self.log = log
        self.files = b"".join(
            path.read_bytes() for path in folder.iterdir() if ".db" in path.name
        )

    def places(self) -> Iterator[tuple[str, bytes]]:
        """Yield each place where something is written down, and what it holds."""
        town = self.town
        yield "logs", self.log.encode()
        yield "databases", self.files
        for name, client in {**town.clients, "worker": town.swap.worker}.items():
            yield f"metrics of {name}", client.get("/metrics").data
        told = [events.as_dict(event) for event in town.swap.sink.taken]
        yield "the broker's queue", json.dumps(told).encode()
        store = town.swap.store
        for info in store.list(UNDELIVERED).objects:
            yield f"the dead letters {info.key}", store.get(info.key).data


def secrets(town: Town) -> dict[str, bytes]:
    """Return what must be nowhere, by what it is."""
    token = town.token()
    found = {
        "a person's name": PERSON.encode(),
        "a consent's name": b"mustermann",
        "a name in a form": b"passbild",
        "an idempotency key": KEY.encode(),
        "a token": token.rpartition(".")[2].encode(),
        "a token's claims": token.split(".")[1].encode(),
    }
    store = town.swap.store
    pictures = [picture(1), picture(1, size=9), picture(2, size=16)]
    made = store.list(Key("results/")).objects
    pictures += [store.get(i.key).data for i in made if not i.key.endswith(".json")]
    for number, data in enumerate(pictures):
        digest = hashlib.sha256(data).digest()
        found |= {
            f"picture {number}": data[8:40],
            f"picture {number}, base64": base64.b64encode(data)[12:44],
            f"digest {number}": digest.hex().encode(),
            f"digest {number}, base64": base64.b64encode(digest)[:40],
            f"digest {number}, raw": digest,
        }
    for info in store.list(Key("jobs/")).objects:
        if info.key.endswith("request.json"):
            job = info.key.split("/")[1]
            salt = intake.load(ACME, job, store).salt
            found |= {f"salt of {job}": salt.encode(), f"{job}": bytes.fromhex(salt)}
    return found


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ran]:
    folder = tmp_path_factory.mktemp("words")
    lines = Lines()
    root = logging.getLogger()
    before = root.level
    root.addHandler(lines)
    root.setLevel(logging.DEBUG)
    try:
        with open_town(folder) as town:
            _work(town)
            yield Ran(town, folder, "\n".join(lines.seen))
    finally:
        root.removeHandler(lines)
        root.setLevel(before)


class Lines(logging.Handler):
    """Keeps each line as the functions write it."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[str] = []
        self.setFormatter(LineFormatter(FORMAT))

    def emit(self, record: logging.LogRecord) -> None:
        self.seen.append(self.format(record))


def _work(town: Town) -> None:
    """Have a job of every ending, refusals at the door, and events that are amiss."""
    swap, store = town.swap, town.swap.store
    store.put(ACME.consent(CONSENT), b'{"state": "given"}')
    store.put(ACME.upload(SOURCE), picture(1, size=9))
    store.put(ACME.upload(TARGET), picture(2, size=16))
    done = _post(town)
    for bent in (
        SWAP | {"source": f"uploads/no such {PERSON}"},
        SWAP | {"faces": {"index": 60}},
        SWAP | {"consent": {"basis": "consent", "record": f"{CONSENT}x"}},
        SWAP | {PERSON: 1},
    ):
        _post(town, bent)
    swap.engine.fault = _fault
    failed = _post(town)
    for _ in range(3):
        swap.send(requested(failed, swap.books))
    swap.engine.fault = lambda: None
    _form(town)
    later = _post(town, Prefer="respond-async")
    store.put(ACME.upload(TARGET), picture(1))  # another picture, since
    swap.send(requested(later, swap.books))
    swap.upload("uploaded", SWAP)
    swap.upload("uploaded-no", SWAP | {"source": f"uploads/gone {PERSON}"})
    swap.send(finalized("requests/no-such.json", bucket="globex"))
    swap.sink.refuses = "undeliverable"
    swap.upload("undeliverable", SWAP)
    swap.sink.refuses = ""
    town.ask("swap", f"/v1/swaps/{done}", town.token(), method="DELETE")
    town.ask("swap", "/v1/swaps", town.token()[:-2])
    swap.worker.post("/events", data=SOURCE, headers={"ce-id": PERSON})
    _tell(town)


def _fault() -> None:
    raise RuntimeError(f"the store said {SOURCE} and uploads%2F{PERSON}")


def _post(town: Town, request: Any = SWAP, **headers: str) -> str:
    answer = town.ask(
        "swap", "/v1/swaps", town.token(), method="POST", json=request, headers=headers
    )
    return str(answer.get_json().get("job", ""))


def _form(town: Town) -> None:
    import io

    request = json.dumps({"operation": "swap", "consent": SWAP["consent"]})
    form = {
        name: (io.BytesIO(picture(1)), OF_FORM) for name in ("source", "target")
    } | {"request": request}
    town.ask(
        "swap",
        "/v1/swaps",
        town.token(),
        method="POST",
        data=form,
        headers={"Idempotency-Key": KEY},
    )


def _tell(town: Town) -> None:
    """Be the broker: bring audit and billing what the swap function sent."""
    for event in town.swap.auditor.seen:
        headers, body = events.encode_structured(event)
        path = "/v1/tenants/acme/events"
        answer = town.audit.client.post(path, headers=headers, data=body)
        assert answer.status_code == 200, answer.text
    for event in town.swap.sink.taken:
        if event.type in RECORDED:
            assert town.audit.post(event, event.tenant).status_code == 204
        elif event.type == events.USAGE_RECORDED:
            assert town.billing.post(event, event.tenant).status_code == 204


def test_every_ending_is_there(ran: Ran) -> None:
    """Or the search would be of nothing."""
    store = ran.town.swap.store
    endings = {
        msgspec.json.decode(store.get(info.key).data)["outcome"]
        for info in store.list(Key("results/")).objects
        if info.key.endswith("job.json")
    }
    assert endings >= {"completed", "refused", "failed", "erased"}
    held = dict(ran.places())
    assert b"refused: " in held["logs"]
    assert b"Traceback" in held["logs"]
    assert any(name.startswith("the dead letters") for name in held)
    assert len(held["databases"]) > 50_000


def test_what_is_written_down_names_nobody(ran: Ran) -> None:
    """No token, no picture, no digest of one, no salt, and no name of the tenant's."""
    kept = secrets(ran.town)
    found = {
        (what, place)
        for place, text in ran.places()
        for what, secret in kept.items()
        if secret in text
    }
    assert found == set()


def test_what_a_broker_is_answered_names_nobody(ran: Ran) -> None:
    """It keeps the body beside the event that it gives up."""
    swap = ran.town.swap
    wrong = requested("uploaded", swap.books)
    bodies = [
        swap.worker.post("/events", data=f"{{{SOURCE}").text,
        swap.upload("uploaded", SWAP | {"source": "uploads/other.png"}).text,
        swap.upload("odd", f'{{"{PERSON}": 1}}'.encode()).text,
        swap.send(wrong).text,
        ran.town.audit.post(wrong).text,
        ran.town.billing.post(wrong).text,
    ]
    assert not [body for body in bodies if PERSON in body]


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("uploads/frau meier.png is over 5 bytes", "uploads/…"),
        ("at 'consents/a.json'", "at consents/…".replace("consents", "'consents")),
        ("GET https://x/b/o/uploads%2Fa?alt=media", "GET https://x/b/o/uploads%2F…"),
        ("[Errno 13] Permission denied: 'a.png'", "[Errno 13] Permission denied: …"),
        ("[Errno 2] No such file: '/etc/keys'", "[Errno 2] No such file: '/etc/keys'"),
        ("12 uploads went", "12 uploads went"),
    ],
)
def test_a_line_of_a_log_ends_where_a_tenants_name_begins(text: str, line: str) -> None:
    """A name may hold anything, so what follows it goes as well."""
    record = logging.LogRecord("n", logging.INFO, "f", 1, text, None, None)
    assert LineFormatter("%(message)s").format(record) == line


def test_a_traceback_too(tmp_path: Path) -> None:
    """Line by line."""
    try:
        (tmp_path / PERSON).unlink()
    except OSError as error:
        error.filename = PERSON  # as where a folder is open, and not named
        record = logging.LogRecord("n", 40, "f", 1, "m", None, sys.exc_info())
    text = LineFormatter("%(message)s").format(record)
    assert "No such file or directory: …" in text
    assert PERSON not in text.partition("No such file")[2]
