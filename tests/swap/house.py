"""A whole swap function in one process, over its own HTTP doors.

Stores, keys, media and every module of ours are the real ones; the auditor, the
sink and the engine are fakes of the interface that production implements.
"""

from __future__ import annotations

import io
import struct
import zlib
from dataclasses import dataclass, field, replace
from fractions import Fraction
from typing import TYPE_CHECKING, Any

import msgspec

from functions import events, traces
from functions.auth import SWAP_READ, SWAP_WRITE, Caller
from functions.keys import MemoryKeys, events_key
from functions.problems import NoReceipt, Unauthenticated, Unavailable
from functions.roster import EveryTenant
from functions.settings import Limits, Settings
from functions.sink import Receipt, Undeliverable, Unrecordable
from functions.storage import Stores
from functions.storage.memory import MemoryStore
from functions.swap import door, worker
from functions.swap.journal import Books
from functions.swap.ledger import Record
from functions.swap.offers import Offers
from functions.swap.pipeline import Loaded
from functions.swap.provenance import Credentials, chain
from functions.tenant import Tenant
from functions.warm import Warm

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from werkzeug.test import TestResponse

    from functions.events import Event
    from functions.roster import Roster
    from functions.settings import Profile
    from functions.storage import Store

ACME = Tenant("acme")
WITH_GATE = Offers("paper", "judge", ("nsfw", "sfw"))


def picture(
    faces: int = 1, size: int = 8, unfit: int = 0, height: int | None = None
) -> bytes:
    """Return a real PNG whose first pixel says what `PaperEngine` sees in it."""
    row = b"\0" + bytes((faces, unfit, 0)) * size
    chunks = (
        (b"IHDR", struct.pack(">IIBBBBB", size, height or size, 8, 2, 0, 0, 0)),
        (b"IDAT", zlib.compress(row * (height or size))),
        (b"IEND", b""),
    )
    body = b"".join(
        struct.pack(">I", len(data))
        + name
        + data
        + struct.pack(">I", zlib.crc32(name + data))
        for name, data in chunks
    )
    return b"\x89PNG\r\n\x1a\n" + body


@dataclass
class PaperFace:
    index: int
    box: tuple[float, ...] = (0.0, 0.0, 4.0, 4.0)
    score: float = 0.9
    landmarks: tuple[tuple[float, float], ...] = ((1.0, 1.0),)


@dataclass
class PaperEngine:
    """An engine for pictures whose first pixel says everything about them.

    Red is how many faces they show, green how much that is unfit, of 255.
    """

    fault: Callable[[], None] = lambda: None
    offers: Offers = field(default_factory=lambda: WITH_GATE)
    box: tuple[float, ...] = (0.0, 0.0, 4.0, 4.0)
    spoils: bool = False
    """Whether a swap makes something unfit of what was not."""
    calls: list[str] = field(default_factory=list)
    stranger: bool = False
    """Whether nobody is like anybody."""

    def detect(self, image: Any, *, small: bool = True) -> Sequence[PaperFace]:
        self.calls.append("detect")
        return [
            PaperFace(index, self.box) for index in range(int(image.pixels[0, 0, 2]))
        ]

    def identity(self, image: Any, face: Any) -> Any:
        return (int(image.pixels[0, 0, 2]), face.index)

    def merge(self, identities: Sequence[Any]) -> Any:
        return identities[0]

    def similarity(self, a: Any, b: Any) -> float:
        return 1.0 if a[1] == b[1] else 0.0

    def alike(self, similarity: float) -> bool:
        return similarity > 0.5 and not self.stranger

    def judge(self, image: Any) -> Mapping[str, float] | None:
        if not self.offers.classifier:
            return None
        self.calls.append("judge")
        unfit = int(image.pixels[0, 0, 1]) / 255
        return {"nsfw": unfit, "sfw": 1 - unfit}

    def swap(self, image: Any, face: Any, source: Any, options: Any) -> Any:
        self.fault()
        self.calls.append("swap")
        return (face.index, source)

    def blend(self, image: Any, swapped: Any) -> None:
        image.pixels[1 + swapped[0], 1] = 255
        if self.spoils:
            image.pixels[0, 0, 1] = 255

    def finish(self, image: Any, faces: Any, options: Any) -> Any:
        times = options.upscale or 1
        return replace(image, pixels=image.pixels.repeat(times, 0).repeat(times, 1))

    def cover(self, image: Any, face: Any, method: str) -> None:
        image.pixels[1 + face.index, 1] = 0


@dataclass
class Auditor:
    """Gives receipts for events that are signed by their tenant."""

    keys: MemoryKeys
    down: bool = False
    unrecordable: bool = False
    seen: list[Event] = field(default_factory=list)

    def receipt(self, event: Event, *, timeout: float) -> Receipt:
        if self.down:
            raise NoReceipt
        if self.unrecordable:
            raise Unrecordable
        events.verify(event, self.keys.verifiers(events_key(event.tenant)))
        if event not in self.seen:
            self.seen.append(event)
        return Receipt(self.seen.index(event), "00" * 32, "a note")

    def wake(self) -> None:
        """Do nothing: it never sleeps."""


@dataclass
class Sink:
    """Keeps what it is given, as a broker would."""

    down: bool = False
    refuses: str = ""
    """A type of events, or a job, that is refused for ever."""
    taken: list[Event] = field(default_factory=list)

    def deliver(self, event: Event, *, timeout: float) -> None:
        if self.down:
            raise Unavailable
        if self.refuses in (event.type, event.data.get("job")):
            raise Undeliverable("refused with status 400")
        self.taken.append(event)

    def types(self) -> list[str]:
        return [event.type for event in self.taken]


class Tokens:
    """`Bearer <tenant>` is that tenant, `Bearer <tenant> read` may only look."""

    def caller(self, authorization: str) -> Caller:
        words = authorization.split()
        if len(words) < 2 or words[0] != "Bearer":
            raise Unauthenticated
        scopes = {SWAP_READ} if words[-1] == "read" else {SWAP_READ, SWAP_WRITE}
        return Caller(Tenant(words[1]), "ann", frozenset(scopes))


@dataclass
class House:
    """One swap function and all it stands on."""

    limits: Limits = field(default_factory=Limits)
    tenant: Tenant | None = None
    profile: Profile = "production"
    url: str = "memory://{tenant}"
    keys: MemoryKeys = field(default_factory=MemoryKeys)
    sink: Sink = field(default_factory=Sink)
    engine: PaperEngine = field(default_factory=PaperEngine)
    proof: Callable[[], None] = lambda: None
    device_kind: str = "cpu"
    device_share: str = "1"
    accepted: str = ""
    """The operator's acceptance of swaps without a gate."""
    worker_down: bool = False
    calls: int = 0
    root: str = ""
    otlp_url: str = ""
    roster: Roster | None = None
    opener: Callable[[str], Store] = lambda _: MemoryStore()

    def __post_init__(self) -> None:
        self.auditor = Auditor(self.keys)
        settings = Settings(
            limits=self.limits,
            tenant=self.tenant,
            profile=self.profile,
            device_share=Fraction(self.device_share),
            otlp_url=self.otlp_url,
        )
        self.stores = Stores(
            self.url,
            pinned=self.tenant,
            opener=self.opener,
        )
        device = {"kind": self.device_kind, "name": "paper", "uuid": "paper-0"}
        shared: Mapping[str, Any] = {
            "stores": self.stores,
            "keys": self.keys,
            "roster": self.roster or EveryTenant(self.tenant),
            "auditor": self.auditor,
            "sink": self.sink,
        }
        self.worker = worker.create_app(
            settings,
            load=lambda: Loaded(
                self.engine,
                device,
                "d1" * 32,
                self.credentials(),
                Warm(self.proof),
                {"verified": "full", "licence": "commercial"},
                self.accepted,
            ),
            **shared,
        ).test_client()
        self.door = door.create_app(
            settings,
            authenticator=Tokens(),
            worker=self,
            **shared,
        ).test_client()

    def credentials(self) -> Credentials:
        """Return what signs here, by a chain made for this house."""
        signer = self.keys.signer(chain.KEY)
        pem, self.root = chain.self_made(signer.private.public_key())
        return Credentials(signer.sign, pem)

    def run(self, event: Event) -> Record:
        """Be the door's way to the worker."""
        self.calls += 1
        if self.worker_down:
            raise Unavailable
        headers, body = events.encode(event)
        headers |= traces.headers()
        url = f"/v1/tenants/{event.tenant}/jobs/{event.data['job']}"
        answer = self.worker.post(url, headers=headers, data=body)
        if answer.status_code != 200:
            raise Unavailable(internal=answer.text)
        return msgspec.json.decode(answer.data, type=Record)

    @property
    def store(self) -> Store:
        return self.stores.of(ACME)

    @property
    def books(self) -> Books:
        return Books(
            ACME,
            self.store,
            self.keys,
            self.auditor,
            self.sink,
            self.limits,
        )

    def put(self, name: str, data: bytes) -> None:
        self.store.put(ACME.upload(f"uploads/{name}"), data)

    def post(self, json: Any, tenant: str = "acme", **headers: str) -> TestResponse:
        names = {name.replace("_", "-"): text for name, text in headers.items()}
        names["Authorization"] = f"Bearer {tenant}"
        return self.door.post("/v1/swaps", json=json, headers=names)

    def get(self, path: str, tenant: str = "acme") -> TestResponse:
        return self.door.get(path, headers={"Authorization": f"Bearer {tenant}"})

    def send(self, event: Event) -> TestResponse:
        """Hand an event to the worker as a broker would."""
        headers, body = events.encode(event)
        return self.worker.post("/events", headers=headers, data=body)

    def upload(self, job: str, request: Any, bucket: str = "acme") -> TestResponse:
        """Put a request file into the store and tell the worker."""
        body = request if isinstance(request, bytes) else msgspec.json.encode(request)
        name = f"requests/{job}.json"
        generation = self.store.put(ACME.request(job), body)
        return self.send(finalized(name, str(generation), bucket))


def finalized(name: str, generation: str = "1", bucket: str = "acme") -> Event:
    """Return the storage event of an upload."""
    return events.Event(
        id=f"{bucket}/{name}/{generation}",
        source=f"//storage.googleapis.com/projects/_/buckets/{bucket}",
        type=events.OBJECT_FINALIZED,
        subject=f"objects/{name}",
        data={"bucket": bucket, "name": name, "generation": generation},
        extensions={"bucket": bucket},
    )


SWAP = {
    "operation": "swap",
    "source": "uploads/a.png",
    "target": "uploads/b.png",
    "consent": {"basis": "public-domain"},
}


def multipart(request: str | None, **files: bytes) -> dict[str, Any]:
    form: dict[str, Any] = {
        name: (io.BytesIO(data), f"{name}.png") for name, data in files.items()
    }
    return form if request is None else form | {"request": request}


GOOD = '{"operation":"swap","consent":{"basis":"public-domain"}}'
