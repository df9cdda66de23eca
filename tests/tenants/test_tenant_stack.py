"""A tenant's life beside another's, on a real stack that nobody restarts."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from tests.command import run
from tests.integration.stack import COLLINS, HOPPER, SWAP, Stack, until, up

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.xdist_group("cli")

JPEG = b"\xff\xd8\xff\xe0\0\x10JFIF\0"
"""How each picture here begins: so long that no noise has it by chance."""


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    with up(tmp_path_factory.mktemp("tenants") / "home", idle=20) as running:
        yield running


def guise(stack: Stack, *arguments: str) -> Any:
    """Run `guise tenant`, and return what it prints for scripts."""
    at = ("--home", stack.home, "--json")
    ran = run("tenant", *arguments, *at, environ=os.environ.copy())
    assert ran.returncode == 0, ran.stdout + ran.stderr
    return json.loads(ran.stdout.splitlines()[-1])


def post(stack: Stack, token: str) -> httpx.Response:
    """Ask for a swap as curl would."""
    return httpx.post(
        f"{stack.urls['door']}/v1/swaps",
        data={"request": json.dumps(SWAP)},
        files={
            "source": ("a", COLLINS.read_bytes()),
            "target": ("b", HOPPER.read_bytes()),
        },
        headers={"Authorization": f"Bearer {token}"},
        timeout=120,
        trust_env=False,
    )


def get(stack: Stack, path: str, token: str, service: str = "door") -> httpx.Response:
    return stack.get(path, service, Authorization=f"Bearer {token}")


def test_a_tenant_is_made_stopped_and_deleted_while_the_stack_runs(
    stack: Stack,
) -> None:
    """Each is in effect at once, nothing is restarted, and the other tenant goes on."""
    guise(stack, "create", "acme", "--tier", "trial", "--data", "1")
    token = guise(stack, "token", "acme")["token"]
    made = post(stack, token)
    assert made.status_code == 201, made.text
    job = made.json()["job"]
    swap, log = f"/v1/swaps/{job}", "/v1/tenants/acme/log/checkpoint"
    folder = stack.home / "tenants" / "acme"
    assert not [each for each in every(folder) if JPEG in each.read_bytes()]

    guise(stack, "suspend", "acme")
    refused = post(stack, token)
    assert refused.status_code == 403
    assert refused.json()["type"] == "urn:guise:problem:tenant-suspended"
    assert get(stack, swap, token).json()["outcome"] == "completed"
    assert get(stack, log, token, "audit").status_code == 200
    assert get(stack, "/v1/tenants/acme/usage", token, "billing").status_code == 200
    assert post(stack, stack.token).status_code == 201

    guise(stack, "resume", "acme")
    assert post(stack, token).status_code == 201
    guise(stack, "suspend", "acme")
    until(lambda: not told_of(stack, "acme"))
    guise(stack, "delete", "acme", "--yes")
    assert not folder.exists()
    for service, path in (
        ("door", swap),
        ("audit", log),
        ("billing", "/v1/tenants/acme/usage"),
    ):
        assert get(stack, path, token, service).status_code == 401
    assert post(stack, token).status_code == 401
    assert post(stack, stack.token).status_code == 201


def every(folder: Path) -> Iterator[Path]:
    return (path for path in folder.rglob("*") if path.is_file())


def told_of(stack: Stack, tenant: str) -> str:
    """Return why the tenant cannot be deleted yet, nothing once it can."""
    words = ("tenant", "delete", tenant, "--home", stack.home)
    ran = run(*words, environ=os.environ.copy())
    return "" if "say --yes" in ran.stderr else ran.stderr


def test_a_tenant_that_is_promised_a_worker_of_its_own_is_not_served_here(
    stack: Stack,
) -> None:
    """Whatever the spec says is kept, or nothing is done: until it says less."""
    made = guise(stack, "create", "iota", "--compute", "1")
    assert "guise tenant render iota" in made["undone"][0]
    token = guise(stack, "token", "iota")["token"]
    refused = post(stack, token)
    assert refused.status_code == 503
    assert refused.json()["type"] == "urn:guise:problem:not-served-here"
    said = (stack.home / "run" / "door.log").read_text()
    assert "isolation.compute of iota is 1" in said
    assert not [*(stack.home / "tenants" / "iota" / "uploads").iterdir()]
    guise(stack, "edit", "iota", "--set", "isolation.compute=0")
    assert post(stack, token).status_code == 201
