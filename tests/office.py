"""An operator's office: a real audit function at a real socket, and a folder."""

from __future__ import annotations

import threading
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from werkzeug.serving import make_server

from functions.acceptances import Acceptances, Statement, accept
from functions.audit.app import create_app
from functions.audit.log import Log
from functions.keys import MemoryKeys
from functions.sink import HttpAuditor
from tests.audit.house import House, TokensByName

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from functions.acceptances import Acceptance

DIGEST = "ab" * 32
STATEMENT = Statement(
    kind="non-commercial-licence",
    pack="insightface",
    version="1.0.0",
    digest=DIGEST,
    reason="research at the institute, no customer",
    actor="ada",
    licences=("InsightFace, non-commercial research",),
)


@dataclass(frozen=True, slots=True)
class Office:
    """An operator with a real audit function at a real socket."""

    audit: House
    auditor: HttpAuditor
    folder: Path

    @property
    def keys(self) -> MemoryKeys:
        return self.audit.keys

    def accept(self, statement: Statement = STATEMENT) -> tuple[Acceptance, Path]:
        return accept(
            statement, self.folder, keys=self.keys, auditor=self.auditor, timeout=10
        )

    def load(self) -> Acceptances:
        return Acceptances.load(self.folder, self.keys)


@contextmanager
def open_office(folder: Path) -> Iterator[Office]:
    """Yield an office that keeps everything under `folder`."""
    keys = MemoryKeys()
    log = Log.at(f"sqlite:///{folder}/audit.db", keys)
    app = create_app(log=log, keys=keys, authenticator=TokensByName())
    server = make_server("127.0.0.1", 0, app, threaded=True)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    url = f"http://127.0.0.1:{server.server_port}"
    house = House(log, keys, app.test_client(), url)
    yield Office(house, HttpAuditor(url), folder / "acceptances")
    server.shutdown()
    thread.join()
    server.server_close()
    log.close()
