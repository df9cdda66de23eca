"""What the swap function sends audit of a job, with what opens its commitments."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from functions import events
from functions.audit.tables import images, record_keys, sidecars
from functions.commitments import (
    SEALED,
    SIDECAR,
    commitment,
    seal_result,
    sidecar_of,
)

if TYPE_CHECKING:
    from werkzeug.test import TestResponse

    from functions.commitments import Role
    from functions.events import Event
    from tests.audit.house import House

PHOTO = b"a photo of a person"
CROWD = b"a picture of a crowd"
RESULT = b"the crowd with the person's face"
CONSENT = {"basis": "consent", "state": "given", "record": "ab" * 32}
_LISTS = {"source": "sources", "reference": "references"}


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


@dataclass
class Job:
    """One job of a tenant; a salt of its own, drawn from its name."""

    house: House
    name: str
    tenant: str = "acme"
    source: bytes = PHOTO
    target: bytes = CROWD
    references: tuple[bytes, ...] = ()
    salt: str = field(default="")

    def __post_init__(self) -> None:
        self.salt = self.salt or sha256(f"{self.tenant} {self.name}".encode())

    @property
    def used(self) -> list[tuple[Role, str]]:
        found: list[tuple[Role, str]] = [("source", sha256(self.source))]
        found.append(("target", sha256(self.target)))
        return found + [("reference", sha256(each)) for each in self.references]

    def started(
        self, attempt: int = 1, *, extensions: dict[str, str] | None = None
    ) -> Event:
        """Return `started` with its sidecar; `extensions` in the place of that."""
        said: dict[str, Any] = {
            "sources": [commitment(self.salt, sha256(self.source))],
            "target": commitment(self.salt, sha256(self.target)),
        }
        if self.references:
            opened = [commitment(self.salt, sha256(one)) for one in self.references]
            said["references"] = opened
        given = extensions or {SIDECAR: sidecar_of(self.salt, self.used).text()}
        return self._event(
            f"started-{attempt}",
            events.SWAP_STARTED,
            {"attempt": attempt, "operation": "swap", "actor": "ann"}
            | {"commitments": said, "admission": {"consent": CONSENT}},
            given,
        )

    def completed(
        self, result: bytes = RESULT, *, extensions: dict[str, str] | None = None
    ) -> Event:
        """Return `completed` with its result sealed."""
        sealed = seal_result(self.salt, self.name, sha256(result))
        return self._event(
            "completed",
            events.SWAP_COMPLETED,
            {
                "outcome": "completed",
                "commitments": {"result": commitment(self.salt, sha256(result))},
            },
            extensions or {SEALED: sealed},
        )

    def erased(self) -> Event:
        return self._event("erased", events.SWAP_ERASED, {"outcome": "erased"}, {})

    def expired(self) -> Event:
        """Return what retention says when it has taken the job from its store."""
        said = {"outcome": "expired", "reason": "retention", "operation": "swap"}
        return self._event("expired", events.SWAP_ERASED, said, {})

    def _event(
        self, name: str, kind: str, data: dict[str, Any], extensions: dict[str, str]
    ) -> Event:
        return self.house.event(
            f"{self.name}-{name}",
            self.tenant,
            type=kind,
            subject=self.name,
            data={"job": self.name} | data,
            extensions=extensions,
        )

    def send(self, event: Event) -> TestResponse:
        """Post an event as the swap function and a broker do."""
        if event.type != events.SWAP_STARTED:
            return self.house.post(event, self.tenant)
        headers, body = events.encode_structured(event)
        path = f"/v1/tenants/{self.tenant}/events"
        return self.house.client.post(path, headers=headers, data=body)

    def run(self) -> Job:
        """Go through the whole job; all of it is recorded."""
        assert self.send(self.started()).status_code == 200
        assert self.send(self.completed()).status_code == 204
        return self


def private_rows(house: House, tenant: str = "acme") -> list[tuple[Any, ...]]:
    """Return every row of a tenant that an erasure deletes."""
    found: list[tuple[Any, ...]] = []
    with house.log.store.searching(tenant) as db:
        for table in (record_keys, sidecars, images):
            query = sa.select(table).where(table.c.tenant == tenant)
            rows = db.execute(query).all()
            found += [(table.name, *row) for row in rows]
    return found


def rows_of(house: House, job: str, tenant: str = "acme") -> list[tuple[Any, ...]]:
    """Return what is private of one job."""
    return [row for row in private_rows(house, tenant) if job in row]


def search(
    house: House,
    image: bytes,
    *,
    tenant: str = "acme",
    token: str = "acme",  # noqa: S107  # a name, not a secret
) -> TestResponse:
    """Ask over HTTP which jobs used an image."""
    return house.client.post(
        f"/v1/tenants/{tenant}/log/searches",
        json={"sha256": sha256(image)},
        headers={"Authorization": f"Bearer {token}"},
    )


def found(house: House, image: bytes, tenant: str = "acme") -> list[tuple[str, str]]:
    """Return job and role of each hit."""
    answer = search(house, image, tenant=tenant, token=tenant).json
    assert answer is not None
    return [(hit["job"], hit["role"]) for hit in answer["hits"]]


def erase(
    house: House,
    job: str,
    *,
    tenant: str = "acme",
    token: str = "acme erase",  # noqa: S107  # a name, not a secret
) -> TestResponse:
    """Ask over HTTP for the erasure of a job."""
    return house.client.post(
        f"/v1/tenants/{tenant}/log/erasures",
        json={"job": job},
        headers={"Authorization": f"Bearer {token}"},
    )


def dump(house: House) -> dict[str, list[dict[str, Any]]]:
    """Return every row of every table, as somebody who has the whole database."""
    from tests.postgres import SUPERUSER

    url = sa.make_url(house.url)
    if url.drivername != "sqlite":
        url = url.set(username=SUPERUSER)
    engine = sa.create_engine(url)
    everything = sa.MetaData()
    with engine.connect() as db:
        everything.reflect(db)
        tables = {
            table.name: [dict(row) for row in db.execute(sa.select(table)).mappings()]
            for table in everything.sorted_tables
        }
    engine.dispose()
    return tables
