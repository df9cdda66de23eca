"""The sweeper as a process of its own, over a bucket: what a CronJob runs."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from contextlib import closing
from typing import TYPE_CHECKING, Any

import pytest

from functions import events
from functions.keys import FileKeys, events_key
from functions.problems import NotFound
from functions.storage import Store, open_store
from functions.swap import outbox
from functions.tenant import OUTBOX, SWEPT
from tests.local.subscriber import DONE, Subscriber
from tests.storage import gcs_server, s3_process
from tests.swap.house import ACME, SWAP, House, Sink, picture

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.xdist_group("bucket")


@pytest.fixture(params=["s3", "gs"])
def bucket(request: pytest.FixtureRequest) -> Iterator[str]:
    """Return the URL of a bucket that is acme's."""
    with pytest.MonkeyPatch.context() as patch:
        for name, text in s3_process.ENVIRON.items():
            patch.setenv(name, text)
        serving: Any = s3_process if request.param == "s3" else gcs_server
        with serving.serving() as server:
            server.bucket("acme-data")
            yield f"{request.param}://acme-data?endpoint={server.endpoint}"


def sweeps(**environ: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "functions.swap.sweeper"],
        env={**os.environ, "GUISE_PROFILE": "development", **environ},
        capture_output=True,
        text=True,
        check=False,
    )


def untold(store: Store) -> tuple[House, str]:
    """Return a job that has ended in the store and of which nobody was told."""
    house = House(opener=lambda _: store, sink=Sink(down=True))
    for name in ("a.png", "b.png"):
        house.put(name, picture())
    job = str(house.post(SWAP).json["job"])  # type: ignore[index]
    assert [info.key for info in store.list(OUTBOX).objects] == [f"outbox/{job}"]
    return house, job


def test_a_process_in_the_cluster_tells_what_is_untold(
    bucket: str, tmp_path: Path
) -> None:
    """From a bucket to K_SINK, by environment alone; and retention has its look."""
    store = open_store(bucket)
    _, job = untold(store)
    FileKeys(tmp_path).create(events_key(ACME.id))
    with closing(Subscriber(lambda _: DONE)) as sink:
        done = sweeps(
            GUISE_TENANT=ACME.id,
            GUISE_STORE=bucket,
            GUISE_KEYS=str(tmp_path),
            K_SINK=sink.url,
        )
        assert done.returncode == 0, done.stderr
        said = json.loads(done.stdout)
        assert (said["told"], said["later"]) == (1, 0)
        assert said["retired"]["jobs"] == 0
        kinds = [event.type for event in sink.seen]
        assert kinds == [events.SWAP_COMPLETED, events.USAGE_RECORDED]
    assert outbox.told(ACME, job, store)
    assert store.head(SWEPT).size


def test_a_sink_that_is_away_is_no_fault_of_the_sweeper(
    bucket: str, tmp_path: Path
) -> None:
    """The mark stays for the next run."""
    store = open_store(bucket)
    _, job = untold(store)
    done = sweeps(
        GUISE_TENANT=ACME.id,
        GUISE_STORE=bucket,
        GUISE_KEYS=str(tmp_path),
        GUISE_DELIVERY_MS_MAX="200",
        K_SINK="http://127.0.0.1:9",
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["later"] == 1
    assert not outbox.told(ACME, job, store)


def test_what_is_missing_is_named_at_once() -> None:
    """Settings, or the bucket: one line, and exit code 1."""
    done = sweeps(GUISE_TENANT="acme", GUISE_STORE="file:///nowhere/{tenant}")
    assert done.returncode == 1
    assert "GUISE_KEYS: not set; K_SINK: not set (SettingsError)" in done.stderr
    assert "Traceback" not in done.stderr
    done = sweeps()
    assert "GUISE_TENANT: not set" in done.stderr


def test_a_bucket_that_is_not_there_is_named(bucket: str, tmp_path: Path) -> None:
    """Not passed over: the next run would find no more."""
    done = sweeps(
        GUISE_TENANT=ACME.id,
        GUISE_STORE=bucket.replace("acme-data", "no-such"),
        GUISE_KEYS=str(tmp_path),
        K_SINK="http://127.0.0.1:9",
    )
    assert done.returncode == 1
    assert "StoreMissing" in done.stderr
    with pytest.raises(NotFound):
        open_store(bucket).head(SWEPT)


def test_its_log_is_json_where_that_is_asked_for(tmp_path: Path) -> None:
    """With the ids of its trace, as the functions' is."""
    store = tmp_path / "store"
    FileKeys(tmp_path / "keys").create(events_key(ACME.id))
    (store / "policy").mkdir(parents=True)
    (store / "policy" / "retention.json").write_text("{")
    done = sweeps(
        GUISE_TENANT=ACME.id,
        GUISE_STORE=f"file://{store}",
        GUISE_KEYS=str(tmp_path / "keys"),
        GUISE_LOG_FORMAT="json",
        GUISE_PROFILE="production",
        K_SINK="http://127.0.0.1:9",
    )
    assert done.returncode == 0, done.stderr
    lines = [json.loads(line) for line in done.stderr.splitlines()]
    assert [line for line in lines if "trace_id" in line]
