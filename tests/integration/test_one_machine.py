"""The main job on one machine, through the real processes and sockets."""

from __future__ import annotations

import json
import socket
import struct
import time
import zlib
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import cv2
import numpy as np
import psutil
import pytest

from functions import events
from functions.audit.bundle import log_verifiers
from functions.audit.tiles import open_checkpoint
from functions.keys import FileKeys, MemoryKeys
from functions.sink import post_event
from tests.integration.stack import (
    COLLINS,
    HOPPER,
    SWAP,
    Stack,
    alive,
    free_ports,
    kill,
    relatives,
    until,
    up,
)

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.xdist_group("stack")


def pixels(data: bytes) -> Any:
    decoded = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    assert decoded is not None
    return decoded.astype(int)


def record_of(stack: Stack, job: str) -> dict[str, Any]:
    path = stack.store / "results" / job / "job.json"
    until(path.exists)
    record: dict[str, Any] = json.loads(path.read_bytes())
    return record


def upload(stack: Stack, job: str, **changes: Any) -> None:
    for name in (COLLINS, HOPPER):
        (stack.store / "uploads" / name.name).write_bytes(name.read_bytes())
    request = {
        **SWAP,
        "source": "uploads/collins.jpg",
        "target": "uploads/hopper.jpg",
        **changes,
    }
    (stack.store / "requests" / f"{job}.json").write_text(json.dumps(request))


def test_a_call_gives_the_swapped_photo(stack: Stack) -> None:
    """The face is another, and the rest of the photograph is what it was."""
    answer = stack.post(Accept="image/jpeg")
    assert answer.status_code == 200
    assert answer.headers["Content-Type"] == "image/jpeg"
    change = np.abs(pixels(answer.content) - pixels(HOPPER.read_bytes())).max(axis=2)
    assert change[150:320, 180:350].mean() > 4  # where her face is
    assert change[400:, :].mean() < 2  # her uniform


def test_a_request_file_gives_the_same_through_the_event(stack: Stack) -> None:
    """Dropped into `requests/`: completed, recorded, billed, and nothing left over."""
    upload(stack, "by-upload")
    record = record_of(stack, "by-upload")
    assert record["outcome"] == "completed"
    stack.sleep()
    assert not (stack.store / "outbox" / "by-upload").exists()
    assert stack.status().dead_letters == 0


def test_its_receipt_verifies_under_the_logs_key(stack: Stack) -> None:
    """The checkpoint in the record is signed, and covers the entry."""
    record = stack.post().json()
    verifiers = log_verifiers("demo", FileKeys(stack.home / "keys"))
    checkpoint = open_checkpoint(record["receipt"]["checkpoint"], verifiers)
    assert record["receipt"]["index"] < checkpoint.size


def test_the_log_tells_the_story_of_the_job(stack: Stack) -> None:
    """`started` before `completed`, and commitments in place of names."""
    record = stack.post().json()
    path = f"/v1/tenants/demo/log/entries?job={record['job']}"
    until(lambda: len(stack.get(path, "audit").json()["entries"]) == 2)
    entries = stack.get(path, "audit").json()["entries"]
    kinds = [entry["leaf"]["type"] for entry in entries]
    assert kinds == [events.SWAP_STARTED, events.SWAP_COMPLETED]
    assert "hopper" not in json.dumps(entries)


def test_what_was_done_is_billed_once(stack: Stack) -> None:
    """One job, one usage event, whose price is exact."""
    began = events.now()
    record = stack.post().json()
    path = f"/v1/tenants/demo/usage?from={began}&by=job"

    def groups() -> dict[str, Any]:
        found = stack.get(path, "billing").json()["groups"]
        return {each["group"]: each for each in found}

    until(lambda: record["job"] in groups())
    billed = groups()[record["job"]]
    assert billed["requests"] == 1
    assert billed["cpu_seconds"] == record["usage"]["cpu_seconds"]
    assert float(billed["amount"]) > 0


def test_respond_async_ends_by_itself(stack: Stack) -> None:
    """202, and a little later the record."""
    answer = stack.post(Prefer="respond-async")
    assert answer.status_code == 202
    record = record_of(stack, answer.json()["job"])
    assert record["outcome"] == "completed"


def test_everything_falls_asleep(stack: Stack) -> None:
    """After the idle window no service process is left, and the rest is small."""
    stack.post()
    stack.sleep()
    assert stack.status().processes == 0
    assert relatives(stack.process.pid) == set()
    assert stack.status().rss_bytes < 60 * 2**20


def test_two_hundred_connections_at_once_on_a_sleeping_door(stack: Stack) -> None:
    """The kernel queues them, and every one is answered."""
    stack.sleep()
    parts = urlsplit(stack.urls["door"])
    sockets = [
        socket.create_connection((parts.hostname, parts.port), timeout=60)
        for _ in range(200)
    ]
    for each in sockets:
        each.sendall(
            b"GET /health/live HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
        )
    answers = [each.recv(12) for each in sockets]
    for each in sockets:
        each.close()
    assert answers == [b"HTTP/1.1 204"] * 200


@pytest.mark.parametrize(
    "ask",
    [
        lambda stack: stack.get("/v1/swaps"),
        lambda stack: stack.get("/v1/swaps/none"),
        lambda stack: stack.get("/v1/swaps", Authorization="Bearer nonsense"),
        lambda stack: stack.post({"operation": "dance"}),
        lambda stack: stack.post({"operation": "swap"}),
        lambda stack: stack.get("/wp-login.php"),
    ],
    ids=["listing", "status", "token", "malformed", "no consent", "scanner"],
)
def test_what_is_no_job_wakes_no_worker(stack: Stack, ask: Any) -> None:
    """The door answers, and the worker sleeps on."""
    stack.sleep()
    before = stack.service("worker").starts
    ask(stack)
    time.sleep(0.3)
    assert stack.service("worker").starts == before


def test_a_result_in_the_store_wakes_nothing(stack: Stack) -> None:
    """Only `requests/` is watched."""
    stack.sleep()
    for name in ("results/x/job.json", "uploads/y.jpg", "outbox/z"):
        path = stack.store / name
        path.parent.mkdir(exist_ok=True, parents=True)
        path.write_bytes(b"{}")
    time.sleep(1)
    try:
        assert stack.status().processes == 0
    finally:
        (stack.store / "outbox" / "z").unlink(missing_ok=True)


def bomb() -> bytes:
    """Return a small PNG that says it is 60,000 x 60,000."""

    def chunk(name: bytes, data: bytes) -> bytes:
        check = struct.pack(">I", zlib.crc32(name + data))
        return struct.pack(">I", len(data)) + name + data + check

    header = struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0)
    data = zlib.compress(bytes(10_000_000), 9)
    parts = chunk(b"IHDR", header) + chunk(b"IDAT", data) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + parts


@pytest.mark.parametrize(
    ("target", "slug"),
    [
        (HOPPER.read_bytes()[:30_000], "unreadable"),
        (b"not an image at all", "unreadable"),
        (b"GIF89a" + bytes(100), "unsupported"),
        (bomb(), "too-large"),
    ],
    ids=["truncated", "text", "gif", "bomb"],
)
def test_a_hostile_image_is_refused_by_name(
    stack: Stack,
    target: bytes,
    slug: str,
) -> None:
    """A stable type, in good time, and no result."""
    answer = stack.post(target=target)
    assert answer.json()["type"] == f"urn:guise:problem:{slug}", answer.text
    record = record_of(stack, answer.json()["job"])
    assert record["outcome"] == "refused"
    assert record.get("output") is None


def test_a_picture_without_a_face_is_refused(stack: Stack) -> None:
    """422, whichever of the two it is."""
    grey = np.full((200, 200, 3), 128, np.uint8)
    blank = cv2.imencode(".png", grey)[1].tobytes()
    for source, target in ((blank, None), (None, blank)):
        answer = stack.post(source=source, target=target)
        assert answer.status_code == 422
        assert answer.json()["type"] == "urn:guise:problem:no-face"


@pytest.mark.parametrize("service", ["audit", "billing"])
def test_a_forged_event_is_refused(stack: Stack, service: str) -> None:
    """Signed by a stranger or by nobody: 403, whatever it says."""
    kind = events.SWAP_STARTED if service == "audit" else events.USAGE_RECORDED
    event = events.Event(
        id="forged",
        source=events.swap_source("demo"),
        type=kind,
        subject="demo",
        time=events.now(),
        tenant="demo",
        data={"job": "forged"},
    )
    url = f"{stack.urls[service]}/v1/tenants/demo/events"
    stranger = events.sign(event, MemoryKeys().signer("events/demo"))
    for each in (event, stranger):
        assert post_event(url, each, timeout=30).status == 403


@pytest.mark.parametrize("service", ["audit", "billing", "worker", "broker"])
@pytest.mark.parametrize(
    ("headers", "body"),
    [
        ({"ce-type": "x", "Content-Type": "application/json"}, b"{}"),
        ({"Content-Type": "application/cloudevents+json"}, b"{"),
        ({"Content-Type": "application/cloudevents+json"}, b'{"id": 1}'),
    ],
    ids=["no id", "no json", "no text"],
)
def test_a_malformed_event_is_400(
    stack: Stack,
    service: str,
    headers: dict[str, str],
    body: bytes,
) -> None:
    """Binary and structured: to the dead letters, never retried."""
    paths = {"worker": "/events", "broker": "/"}
    connection = stack.connect(service)
    path = paths.get(service, "/v1/tenants/demo/events")
    connection.request("POST", path, body, headers)
    assert connection.getresponse().status == 400
    connection.close()


def test_the_same_key_with_other_inputs_is_409(stack: Stack) -> None:
    """And the first job stands."""
    first = stack.post(Idempotency_Key="one")
    assert first.status_code == 201
    again = stack.post(Idempotency_Key="one")
    assert again.json() == first.json()
    other = stack.post(Idempotency_Key="one", source=HOPPER.read_bytes())
    assert other.status_code == 409


def test_after_kill_9_nothing_is_left_and_it_starts_again(tmp_path: Path) -> None:
    """On the same ports, with what was accepted still to be done."""
    port = free_ports()
    with up(tmp_path / "home", idle=30, port=port) as stack:
        stack.post()
        pids = relatives(stack.process.pid)
        assert pids
        kill(stack.process.pid)
        until(lambda: not alive(pids), seconds=10)
    upload(stack, "while-down")
    with up(tmp_path / "home", port=port) as again:
        assert record_of(again, "while-down")["outcome"] == "completed"


def test_ctrl_c_ends_everything(tmp_path: Path) -> None:
    """No process is left, and no socket listens."""
    with up(tmp_path / "home", idle=30) as stack:
        stack.post()
        pids = relatives(stack.process.pid)
    until(lambda: not alive(pids), seconds=10)
    assert stack.process.returncode == 0
    ports = {urlsplit(url).port for url in stack.urls.values()}
    listening = {
        each.laddr.port
        for each in psutil.net_connections("tcp")
        if each.status == psutil.CONN_LISTEN and each.laddr
    }
    assert not ports & listening
