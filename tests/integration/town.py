"""A real stack with several tenants, each driven from outside with its own token."""

from __future__ import annotations

import hashlib
import json
import os
import time
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

import httpx

from functions.auth import (
    AUDIT_ERASE,
    AUDIT_READ,
    BILLING_READ,
    SWAP_READ,
    SWAP_WRITE,
    issue_token,
)
from functions.keys import FileKeys
from functions.local import wiring
from functions.local.home import AUDIENCE, ISSUER, Home
from functions.problems import NotFound
from functions.tenant import Tenant
from tests.command import run
from tests.integration.stack import COLLINS, HOPPER, SWAP, Stack, until

if TYPE_CHECKING:
    from pathlib import Path

    from functions.storage import Store

EVERYTHING = (SWAP_WRITE, SWAP_READ, AUDIT_READ, AUDIT_ERASE, BILLING_READ)


def guise(*arguments: str | Path) -> dict[str, Any]:
    """Run a command of ours, and return the JSON it prints."""
    done = run(*arguments, "--json", environ=os.environ.copy())
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


@dataclass
class Citizen:
    """One tenant of a running stack."""

    stack: Stack
    tenant: Tenant
    jobs: list[str] = field(default_factory=list)

    @cached_property
    def headers(self) -> dict[str, str]:
        """Whoever has this token may do all that a tenant may."""
        claims = {
            "iss": ISSUER,
            "aud": AUDIENCE,
            "sub": "developer",
            "tenant": self.tenant.id,
            "scope": " ".join(EVERYTHING),
            "exp": int(time.time()) + 600,
        }
        signer = FileKeys(self.stack.home / "keys").signer("tokens")
        return {"Authorization": f"Bearer {issue_token(signer, claims)}"}

    @cached_property
    def store(self) -> Store:
        """Return the tenant's store, as a function opens it."""
        return wiring.stores(Home(self.stack.home.resolve()), {}).of(self.tenant)

    def ask(
        self, method: str, service: str, path: str, **options: Any
    ) -> httpx.Response:
        headers = self.headers | options.pop("headers", {})
        url = self.stack.urls[service] + path
        return httpx.request(
            method, url, headers=headers, timeout=60, trust_env=False, **options
        )

    def swap(self, **headers: str) -> httpx.Response:
        """Ask for a swap as curl would, and note the job."""
        files = {
            "source": ("source", COLLINS.read_bytes()),
            "target": ("target", HOPPER.read_bytes()),
        }
        answer = self.ask(
            "POST",
            "door",
            "/v1/swaps",
            data={"request": json.dumps(SWAP)},
            files=files,
            headers=headers,
        )
        if answer.status_code in {201, 202}:
            self.jobs.append(answer.json()["job"])
        return answer

    def upload(self, job: str) -> dict[str, Any]:
        """Put a request into the store, and return the record when there is one."""
        for each in (COLLINS, HOPPER):
            key = self.tenant.upload(f"uploads/{each.name}")
            self.store.put(key, each.read_bytes())
        named = {"source": "uploads/collins.jpg", "target": "uploads/hopper.jpg"}
        request = json.dumps({**SWAP, **named}).encode()
        self.store.put(self.tenant.request(job), request)
        self.jobs.append(job)
        until(lambda: self.record(job))
        return self.record(job)

    def record(self, job: str) -> dict[str, Any]:
        """Return what is stored of a job's end, nothing before it."""
        try:
            data = self.store.get(self.tenant.record(job)).data
        except NotFound:
            return {}
        found: dict[str, Any] = json.loads(data)
        return found

    def result(self, job: str) -> bytes:
        return self.ask("GET", "door", f"/v1/swaps/{job}/result").content

    @cached_property
    def month(self) -> str:
        """The period that the tenant's jobs are billed in."""
        return str(self.record(self.jobs[0])["ended"][:7])

    @cached_property
    def routes(self) -> list[tuple[str, str, str]]:
        """Return function, method and path of everything there is for tenants."""
        return [
            (service, method, path)
            for service in ("door", "audit", "billing")
            for method, path in self._described(service)
        ]

    def _described(self, service: str) -> list[tuple[str, str]]:
        described = self.ask("GET", service, "/openapi.json").json()["paths"]
        return [
            (method.upper(), path)
            for path, methods in described.items()
            if path.startswith("/v1/")
            for method in methods
            if method in {"get", "post", "put", "patch", "delete"}
        ]

    def filled(self, path: str) -> str:
        """Return the path of something that this tenant has."""
        name = self.month if "/invoices/" in path else ""
        values = {
            "tenant": self.tenant.id,
            "job": self.jobs[0],
            "epoch": "1",
            "level": "entries",
            "path": self._tile,
            "index": "0",
            "name": name,
        }
        return path.format_map(values)

    @cached_property
    def _tile(self) -> str:
        path = f"/v1/tenants/{self.tenant.id}/log/checkpoint"
        size = int(self.ask("GET", "audit", path).text.split("\n")[1])
        return f"000.p/{size}"


def create(stack: Stack, name: str, *options: str) -> Citizen:
    """Make a tenant while the stack runs."""
    guise("tenant", "create", name, *options, "--home", stack.home)
    return Citizen(stack, Tenant(name))


BODIES: dict[str, dict[str, Any]] = {
    "searches": {"json": {"sha256": hashlib.sha256(COLLINS.read_bytes()).hexdigest()}},
    "events": {"content": b"{}", "headers": {"Content-Type": "application/json"}},
    "ticks": {"content": b"{}", "headers": {"Content-Type": "application/json"}},
}
"""What is sent where a body is read, by the end of the path."""


def body(path: str, job: str) -> dict[str, Any]:
    """Return what is sent to a path."""
    end = path.rpartition("/")[2]
    return {"json": {"job": job}} if end == "erasures" else BODIES.get(end, {})
