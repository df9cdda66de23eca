"""The main job where the tenant's store is a bucket, through the real processes."""

from __future__ import annotations

import json
import subprocess
from typing import TYPE_CHECKING

import pytest

from functions.problems import NotFound
from functions.storage import Store, open_store
from functions.tenant import Key, Tenant
from tests.cli.test_commands import guise
from tests.integration.stack import COLLINS, GUISE, HOPPER, REPOSITORY, SWAP, until, up
from tests.storage import gcs_server
from tests.storage.s3_process import ENVIRON, Server, serving

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.xdist_group("bucket")

DEMO = Tenant("demo")


@pytest.fixture(scope="module")
def s3() -> Iterator[Server]:
    """Return a server of S3's protocol."""
    with pytest.MonkeyPatch.context() as patch:
        for name, text in ENVIRON.items():
            patch.setenv(name, text)
        with serving() as found:
            yield found


@pytest.fixture(scope="module")
def gs() -> Iterator[gcs_server.Service]:
    """Return a server of Google's protocol."""
    with gcs_server.serving() as found:
        yield found


def has(store: Store, key: Key) -> bool:
    try:
        store.head(key)
    except NotFound:
        return False
    return True


@pytest.mark.parametrize("kind", ["s3", "gs"])
@pytest.mark.parametrize("where", ["demo-data", "shared/eu/{tenant}"])
def test_an_upload_to_a_bucket_becomes_a_picture_there(
    tmp_path: Path, request: pytest.FixtureRequest, kind: str, where: str
) -> None:
    """Request, claim, commit and output are objects; a bucket each, or a prefix."""
    server: Server | gcs_server.Service = request.getfixturevalue(kind)
    server.bucket(where.partition("/")[0])
    url = f"{kind}://{where}?endpoint={server.endpoint}"
    store = open_store(url.replace("{tenant}", DEMO.id))
    for path in (COLLINS, HOPPER):
        store.put(DEMO.upload(f"uploads/{path.name}"), path.read_bytes())
    asked = {
        **SWAP,
        "source": "uploads/collins.jpg",
        "target": "uploads/hopper.jpg",
    }
    with up(tmp_path / "home", store=url) as stack:
        store.put(DEMO.request("j1"), json.dumps(asked).encode())
        until(lambda: has(store, DEMO.record("j1")))
        record = json.loads(store.get(DEMO.record("j1")).data)
        assert record["outcome"] == "completed", record
        output = store.get(Key(record["output"]["key"])).data
        assert len(output) == record["output"]["size"]
        until(lambda: not has(store, DEMO.outbox("j1")))
        answer = stack.get("/v1/swaps/j1/result", Accept="image/*", **stack.headers)
        assert answer.content == output
        assert stack.post(SWAP).status_code == 201
        by_hand = ("--home", stack.home, "--tenant", "demo", "--store", url, "--json")
        swept = json.loads(guise("jobs", "sweep", *by_hand).stdout)
        assert (swept["broken"], swept["later"], swept["retired"]["jobs"]) == (0, 0, 0)
        listed = guise("jobs", "list", *by_hand).stdout.splitlines()
        assert {json.loads(each)["state"] for each in listed} == {"completed"}
        stack.sleep()
        assert stack.status().dead_letters == 0
    here = (tmp_path / "home" / "tenants").rglob("*.*")
    assert [each.name for each in here if ".locks" not in each.parts] == ["demo.yaml"]


def test_a_bucket_that_is_not_there_is_told_at_once(
    tmp_path: Path, s3: Server, gs: gcs_server.Service
) -> None:
    """Not at the first upload."""
    missing = f"s3://no-such-bucket?endpoint={s3.endpoint}"
    nowhere = f"gs://no-such-bucket?endpoint={gs.endpoint}"
    (tmp_path / "models").symlink_to(REPOSITORY / ".guise" / "models")
    for url, name in (
        (missing, "StoreMissing"),
        (nowhere, "StoreMissing"),
        ("memory:", "SettingsError"),
    ):
        command = [
            str(GUISE),
            "up",
            "--home",
            str(tmp_path),
            "--port",
            "0",
            "--store",
            url,
        ]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 1
        assert name in done.stderr
        assert "Traceback" not in done.stderr
