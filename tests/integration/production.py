"""One worker as a cluster runs it: the manifest's command, the production profile."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import httpx
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from flask import Flask
from werkzeug.serving import make_server

import knative
from functions import events
from functions.acceptances import Acceptance, Kind, Statement, accept
from functions.audit.app import create_app
from functions.audit.log import Log
from functions.keys import FileKeys, events_key
from functions.local import manifests
from functions.sink import HttpAuditor
from functions.swap.provenance.chain import KEY
from models.sign import sign
from models.signature import ROLES
from models.verify import verify
from tests.audit.house import TokensByName
from tests.engine.neural import packs
from tests.integration.stack import COLLINS, HOPPER, REPOSITORY, SWAP, free_ports, until
from tests.models.paper import key_pair

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

TENANT = "acme"
BOOT_FAILED = 3
REQUEST = {**SWAP, "source": "uploads/collins.jpg", "target": "uploads/hopper.jpg"}


@dataclass
class Cluster:
    """What a worker finds where it runs: keys, an audit function, a broker, a store.

    `sunk` holds the types of the events that reached the broker.
    """

    root: Path
    pack: Path
    audit: str
    broker: str
    log: Log
    sunk: list[str] = field(default_factory=list)

    @property
    def keys(self) -> FileKeys:
        return FileKeys(self.root / "keys")

    @property
    def store(self) -> Path:
        return self.root / "store" / TENANT

    @property
    def results(self) -> list[Path]:
        """Every file below `results/`."""
        folder = self.store / "results"
        return [path for path in folder.rglob("*") if path.is_file()]

    def accept(self, kind: Kind) -> Acceptance:
        """Answer for the pack, on record."""
        pack = verify(self.pack)
        statement = Statement(
            kind, pack.id, pack.version, pack.pack_digest, "a study", "ada"
        )
        auditor = HttpAuditor(self.audit)
        folder = self.root / "acceptances"
        made, _ = accept(statement, folder, keys=self.keys, auditor=auditor, timeout=30)
        return made

    def environ(self, **changes: str) -> dict[str, str]:
        """Return the manifest's environment with this cluster's values."""
        here = {
            "GUISE_STORE": f"file://{self.store}",
            "GUISE_TENANTS": "",
            "GUISE_MODELS": str(self.pack),
            "GUISE_MODEL_KEYS": str(self.root / "trust"),
            "GUISE_ACCEPTANCES": str(self.root / "acceptances"),
            "GUISE_AUDIT_URL": self.audit,
            "GUISE_KEYS": str(self.root / "keys"),
            "GUISE_PROVENANCE": str(self.root / "keys" / "provenance.pem"),
        }
        told = {
            name: here.get(name, value) for name, value in service().environ.items()
        }
        assert here.keys() <= told.keys()  # nothing is set that the manifest leaves out
        plain = {k: v for k, v in os.environ.items() if not k.startswith("GUISE_")}
        settled = {name: value for name, value in told.items() if value is not None}
        return plain | settled | {"K_SINK": self.broker} | changes

    @contextmanager
    def worker(self, **changes: str) -> Iterator[Worker]:
        """Start the worker; `changes` are to its environment."""
        port = free_ports(1)
        log = self.root / "worker.log"
        command = [sys.executable, "-m", "gunicorn", *service().args]
        with (
            log.open("wb") as file,
            subprocess.Popen(
                command,
                env=self.environ(**changes) | {"PORT": str(port)},
                cwd=REPOSITORY,
                stdout=file,
                stderr=file,
            ) as process,
        ):
            try:
                yield Worker(self, process, f"http://127.0.0.1:{port}", log)
            finally:
                process.terminate()


@dataclass
class Worker:
    """A gunicorn that was started, and may have ended."""

    cluster: Cluster
    process: subprocess.Popen[bytes]
    url: str
    log: Path

    def run(self, job: str, request: Any = REQUEST) -> int | None:
        """Tell it of an upload; return the status, None if it ended unanswered."""
        folder = self.cluster.store
        for name in ("uploads", "requests"):
            (folder / name).mkdir(parents=True, exist_ok=True)
        for picture in (COLLINS, HOPPER):
            (folder / "uploads" / picture.name).write_bytes(picture.read_bytes())
        (folder / "requests" / f"{job}.json").write_text(json.dumps(request))
        event = events.Event(
            id=job,
            source=f"//storage.googleapis.com/projects/_/buckets/{TENANT}",
            type=events.OBJECT_FINALIZED,
            subject=f"objects/requests/{job}.json",
            time=events.now(),
            tenant="",
            data={"bucket": TENANT, "name": f"requests/{job}.json", "generation": "1"},
        )
        headers, body = events.encode(event)
        until(self._listens)
        try:
            url = f"{self.url}/events"
            return httpx.post(
                url, headers=headers, content=body, timeout=60, trust_env=False
            ).status_code
        except httpx.TransportError:
            return None

    def record(self, job: str, request: Any = REQUEST) -> Any:
        """Run a job that must end; return its record."""
        assert self.run(job, request) == 204, self.log.read_text()
        path = self.cluster.store / "results" / job / "job.json"
        return json.loads(path.read_bytes())

    def ended(self) -> str:
        """Wait until it has ended by itself, and return its log."""
        assert self.process.wait(60) == BOOT_FAILED, self.log.read_text()
        return self.log.read_text()

    def _listens(self) -> bool:
        if self.process.poll() is not None:
            return True
        try:
            return httpx.get(
                f"{self.url}/health/ready", timeout=5, trust_env=False
            ).is_success
        except httpx.TransportError:
            return False


def service() -> manifests.Service:
    folder = knative.folder() / manifests.TENANT
    values = {"tenant": TENANT, "prefix": ""}
    services = manifests.read(folder, values).services
    [found] = [each for each in services if each.name == "worker"]
    return found


@contextmanager
def cluster(root: Path, pack: Path) -> Iterator[Cluster]:
    """Run what a worker needs around it; sign a copy of `pack` by both roles."""
    keys = FileKeys(root / "keys")
    for name in ("audit", events_key(TENANT), events_key(events.OPERATOR)):
        keys.create(name)
    signer = keys.create(KEY)
    (root / "keys" / "provenance.pem").write_text(chain(signer.private.public_key()))
    mine = packs.spoilable(pack, root / "pack")
    for role in ROLES:
        private = key_pair(root / "trust", role)
        sign(mine, key=private, role=role)
    for name in ("acceptances", "store"):
        (root / name).mkdir()
    log = Log.at(f"sqlite:///{root}/audit.db", keys)
    audit = create_app(log=log, keys=keys, authenticator=TokensByName())
    sunk: list[str] = []
    with served(audit) as audit_url, served(broker(sunk)) as broker_url:
        yield Cluster(root, mine, audit_url, broker_url, log, sunk)
    log.close()


def broker(sunk: list[str]) -> Flask:
    """Return a broker that takes everything and keeps its type."""
    app = Flask(__name__)

    @app.post("/")
    def receive() -> tuple[str, int]:
        from flask import request

        sunk.append(request.headers["ce-type"])
        return "", 204

    return app


@contextmanager
def served(app: Flask) -> Iterator[str]:
    """Serve an app at a real socket, and yield its address."""
    server = make_server("127.0.0.1", 0, app, threaded=True)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def chain(public: Ed25519PublicKey) -> str:
    """Return an authority's certificates for the key that signs outputs."""
    authority = Ed25519PrivateKey.generate()
    root = _certificate("Some authority", authority.public_key(), authority, ca=True)
    leaf = _certificate("Acme", public, authority, ca=False)
    return "".join(each.public_bytes(Encoding.PEM).decode() for each in (leaf, root))


def _certificate(
    subject: str, public: Ed25519PublicKey, by: Ed25519PrivateKey, *, ca: bool
) -> x509.Certificate:
    def name(text: str) -> x509.Name:
        parts = (NameOID.ORGANIZATION_NAME, NameOID.COMMON_NAME)
        return x509.Name([x509.NameAttribute(part, text) for part in parts])

    now = datetime.now(UTC)
    above = x509.AuthorityKeyIdentifier.from_issuer_public_key(by.public_key())
    usage = x509.KeyUsage(
        digital_signature=not ca,
        key_cert_sign=ca,
        crl_sign=ca,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )
    purpose = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.EMAIL_PROTECTION])
    length = 0 if ca else None
    made = (
        x509.CertificateBuilder()
        .subject_name(name(subject))
        .issuer_name(name("Some authority"))
        .public_key(public)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(
            x509.SubjectKeyIdentifier.from_public_key(public), critical=False
        )
        .add_extension(above, critical=False)
        .add_extension(x509.BasicConstraints(ca, length), critical=True)
        .add_extension(usage, critical=True)
    )
    if not ca:
        made = made.add_extension(purpose, critical=False)
    return made.sign(by, None)
