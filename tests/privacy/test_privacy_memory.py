"""After a job no picture and no embedding is in the memory of a real worker process.

It is searched as a core of it would be, for pieces of the files, of their pixels, and
of the embeddings that its models make of them.
"""

from __future__ import annotations

import os
import threading
import time
from typing import TYPE_CHECKING, Any, Final

import httpx
import numpy as np
import psutil
import pytest

from functions.settings import Limits
from functions.storage import open_store
from functions.swap import engine as engines
from functions.swap import records
from functions.swap.journal import Books
from functions.swap.media import decode
from functions.tenant import Tenant
from models.verify import verify
from tests.attacks.server import serving
from tests.engine.neural import packs
from tests.integration.production import REQUEST, TENANT, Cluster, Worker, cluster
from tests.integration.stack import COLLINS, HOPPER
from tests.privacy.memory import of_file, seen
from tests.swap.house import GOOD, Auditor, Sink

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

PICTURES: Final = (COLLINS, HOPPER)
_PIXELS: Final = 40


def of_pixels(name: str, data: bytes) -> dict[str, bytes]:
    """Return a piece of a picture's middle row as codecs give it, BGR and RGB."""
    pixels = decode(data).pixels
    height, width, _ = pixels.shape
    left = width * 4 // 10
    row = pixels[height // 2, left : left + _PIXELS]
    rgb = np.ascontiguousarray(row[:, ::-1])
    return {f"{name} bgr": row.tobytes(), f"{name} rgb": rgb.tobytes()}


def of_faces(name: str, data: bytes, pack: Path) -> dict[str, bytes]:
    """Return pieces of what the pack's models make of the largest face."""
    engine = engines.load(pack, verify(pack), device="cpu", full=False)
    image = decode(data)
    largest = max(engine.detect(image), key=lambda face: face.box[2] - face.box[0])
    identity: Any = engine.identity(image, largest)
    return {
        f"{name} embedding": identity.raw[100:132].tobytes(),
        f"{name} embedding, normed": identity.normed[100:132].tobytes(),
    }


@pytest.fixture(scope="module")
def pack(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a pack of stand-ins: each network as large as it needs to be."""
    return packs.imported(tmp_path_factory.mktemp("private"), halved=True)


@pytest.fixture(scope="module")
def needles(pack: Path) -> dict[str, bytes]:
    """Return what must not be found."""
    found: dict[str, bytes] = {}
    for path in PICTURES:
        data = path.read_bytes()
        found |= of_file(path.stem, data) | of_pixels(path.stem, data)
        found |= of_faces(path.stem, data, pack)
    return found


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory, pack: Path) -> Iterator[Cluster]:
    with cluster(tmp_path_factory.mktemp("cluster"), pack) as made:
        made.accept("non-commercial-licence")
        made.accept("no-content-gate")
        yield made


@pytest.fixture(scope="module")
def worker(place: Cluster) -> Iterator[Worker]:
    """Return a worker as a cluster runs it, warm: it has swapped once."""
    with place.worker() as made:
        assert made.record("warm")["outcome"] == "completed"
        yield made


def process_of(worker: Worker) -> int:
    [child] = psutil.Process(worker.process.pid).children()
    return child.pid


def outputs(place: Cluster, job: str) -> dict[str, bytes]:
    """Return pieces of what a job made, as a file and as pixels."""
    folder = place.store / "results" / job
    found: dict[str, bytes] = {}
    for path in folder.iterdir():
        if path.suffix in {".jpeg", ".png", ".webp"}:
            data = path.read_bytes()
            found |= of_file("output", data) | of_pixels("output", data)
    return found


def test_what_is_in_a_process_is_seen(needles: dict[str, bytes]) -> None:
    """Our own holds them all: whoever looks like this finds what there is."""
    assert seen(os.getpid(), needles) == needles.keys()


REQUESTS: Final = {
    "swap": REQUEST,
    "png": REQUEST | {"options": {"format": "png"}},
    "webp": REQUEST | {"options": {"format": "webp", "visible_label": True}},
    "reference": REQUEST | {"faces": {"reference": REQUEST["target"]}},
    "anonymize": {
        "operation": "anonymize",
        "target": REQUEST["target"],
        "keep": [{"reference": REQUEST["source"]}],
    },
    "detect": {"operation": "detect", "target": REQUEST["target"]},
}


@pytest.mark.parametrize("what", REQUESTS)
def test_after_a_job_that_completed(
    worker: Worker, needles: dict[str, bytes], what: str
) -> None:
    """Nothing it was given, found, made or stored is in the process any more."""
    job = what.replace(" ", "-")
    assert worker.record(job, REQUESTS[what])["outcome"] == "completed"
    made = outputs(worker.cluster, job)
    assert bool(made) == (what != "detect")
    assert seen(process_of(worker), needles | made) == set()


def test_after_a_job_that_was_refused(
    worker: Worker, needles: dict[str, bytes]
) -> None:
    """By its pixels: it was decoded, and looked at, before it was known."""
    record = worker.record("refused", REQUEST | {"faces": {"index": 60}})
    assert record["problem"]["type"] == "urn:guise:problem:no-such-face"
    assert seen(process_of(worker), needles) == set()


def test_after_a_job_with_a_broken_picture(
    worker: Worker, needles: dict[str, bytes]
) -> None:
    """A codec that fails half-way frees what it had by then."""
    whole = HOPPER.read_bytes()
    broken = worker.cluster.store / "uploads" / "broken.jpg"
    broken.write_bytes(whole[: len(whole) * 9 // 10])
    record = worker.record("broken", REQUEST | {"target": "uploads/broken.jpg"})
    assert record["problem"]["type"] == "urn:guise:problem:unreadable"
    assert seen(process_of(worker), needles) == set()


def test_after_a_job_that_failed(place: Cluster, needles: dict[str, bytes]) -> None:
    """With the output in hand, and nobody to sign it; the log has the traceback."""
    with place.worker(GUISE_TIMESTAMP_URL="http://127.0.0.1:9") as worker:
        assert worker.run("failed") == 503
        assert "job failed attempt 1" in worker.log.read_text()
        assert seen(process_of(worker), needles) == set()


def test_after_a_job_that_could_not_be_told(
    place: Cluster, needles: dict[str, bytes]
) -> None:
    """A broker that is away, and the error that says so, keep no frame alive."""
    with place.worker(K_SINK="http://127.0.0.1:9") as worker:
        assert worker.record("untold")["outcome"] == "completed"
        assert seen(process_of(worker), needles) == set()


def test_after_a_job_that_was_cancelled(
    worker: Worker, needles: dict[str, bytes]
) -> None:
    """While it ran: what it made counts for nothing, and goes like the rest."""
    place = worker.cluster
    tenant = Tenant(TENANT)
    books = Books(
        tenant,
        open_store(f"file://{place.store}"),
        place.keys,
        Auditor(place.keys),  # type: ignore[arg-type]  # it is not asked
        Sink(),
        Limits(),
    )
    claimed = place.store / "jobs" / "cancelled" / "claim.json"

    def cancel() -> None:
        deadline = time.monotonic() + 30
        while not claimed.exists() and time.monotonic() < deadline:
            time.sleep(0.001)
        records.cancel("cancelled", books)

    cancelling = threading.Thread(target=cancel)
    cancelling.start()
    assert worker.record("cancelled")["outcome"] == "cancelled"
    cancelling.join()
    assert seen(process_of(worker), needles) == set()


def test_after_a_crowd(worker: Worker, needles: dict[str, bytes]) -> None:
    """Of jobs at once, on every thread that there is."""
    crowd = [
        threading.Thread(target=worker.run, args=(f"crowd-{number}", REQUEST))
        for number in range(8)
    ]
    for each in crowd:
        each.start()
    for each in crowd:
        each.join()
    assert seen(process_of(worker), needles) == set()


def test_after_an_upload_through_the_door(
    tmp_path_factory: pytest.TempPathFactory, needles: dict[str, bytes]
) -> None:
    """Accepted or refused, it is in the tenant's store or nowhere."""
    with serving(tmp_path_factory.mktemp("door")) as server:
        arbiter = [
            each for each in psutil.Process().children() if "gunicorn" in each.cmdline()
        ]
        [child] = [
            own
            for each in arbiter
            for own in each.children()
            if f"{server.log.parent}/keys" in own.environ().get("GUISE_KEYS", "")
        ]
        for request, status in ((GOOD, 202), ('{"operation": "no such"}', 400)):
            answer = httpx.post(
                f"http://127.0.0.1:{server.port}/v1/swaps",
                data={"request": request},
                files={"source": COLLINS.read_bytes(), "target": HOPPER.read_bytes()},
                headers={
                    "Authorization": f"Bearer {server.token}",
                    "Prefer": "respond-async",
                },
                timeout=60,
                trust_env=False,
            )
            assert answer.status_code == status, answer.text
        assert seen(child.pid, needles) == set()
