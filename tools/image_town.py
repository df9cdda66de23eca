"""A tenant, and the four functions that serve it, each out of its image.

Each runs with its manifest's environment in the development profile; between them is
a relay that stands for the broker.
"""

from __future__ import annotations

import json
import os
import socket
import threading
import time
from contextlib import ExitStack, closing
from functools import partial
from http import HTTPStatus
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import knative
from functions import sink
from functions.cli.client import Client
from functions.cli.demo import EXAMPLES, SOURCE, TARGET
from functions.local.home import Home
from functions.local.stack import DOORS
from functions.local.tenants import Blueprint
from functions.local.wiring import Place, environ_of
from functions.tenant import Tenant
from tools.image_container import INSIDE, USER, Container, Image
from tools.image_probe import probing
from tools.image_relay import Relay

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from tools.image_tally import Tally

FUNCTIONS: Final = ("audit", "billing", "worker", "door")
"""The Services, as they are started."""
READY_MS_MAX: Final = 100
MOMENTS: Final = 3
"""How often readiness is measured, while a job runs each time."""
PROBES_MIN: Final = 100
SIDES: Final = (5000, 6000)
GRACE_SECONDS: Final = 30.0
UNFIT: Final = 3
"""With what a worker ends whose models or device are not what was asked for."""
EXTENSION: Final = "ce-region"
OVERRIDES: Final = json.dumps({"extensions": {"region": "eu"}})
_WAIT_SECONDS: Final = 60.0
_TRIES: Final = """
import os
def tried(path):
    try:
        open(path, "w").close()
    except OSError:
        return False
    return True
places = "/x", "/etc/x", "/opt/guise/x", "/var/x", "/usr/x", "/models/x"
print([os.getuid(), os.getgid(), *filter(tried, places)], tried("/tmp/x"))
"""

_PLACES: Final = """
from functions.swap.engine.placement import Placement
print(Placement.of("auto").provider)
"""


class Job(threading.Thread):
    """A job that the door was asked for, on a thread."""

    def __init__(self, ask: Callable[[], dict[str, Any]]) -> None:
        super().__init__()
        self._ask = ask
        self.told = ""
        self.done = False
        self.start()

    def run(self) -> None:
        """Keep the answer, or what came instead."""
        try:
            record = self._ask()
            self.done = record["outcome"] == "completed"
            self.told = f"{record['outcome']}, {record.get('swap_ms')} ms"
        except Exception as error:  # noqa: BLE001  # whatever it is, it is told
            self.told = repr(error)


class Town:
    """A tenant's home, four functions out of their images, and the relay between.

    `worker` is which of the two images of workers, `device` its GUISE_DEVICE.
    """

    def __init__(
        self,
        images: Mapping[str, Image],
        folder: Path,
        tally: Tally,
        ending: ExitStack,
        *,
        worker: str = "worker-cpu",
        device: str = "auto",
    ) -> None:
        self._check = tally.check
        self._worker = worker
        self._folder = folder
        self._tenant = Tenant("acme")
        home = Home(folder)
        home.prepare([self._tenant])
        self._token = home.token.read_text().strip()
        for each in (folder, *folder.rglob("*")):
            os.chown(each, USER, USER)
        ports = {each: _free_port() for each in FUNCTIONS}
        urls = {name: f"http://127.0.0.1:{port}" for name, port in ports.items()}
        self._relay = ending.enter_context(
            closing(Relay(urls["audit"], urls["billing"]))
        )
        self._urls = urls
        told = self._told(urls)
        told["worker"] |= {"GUISE_DEVICE": device}
        self._of: dict[str, Container] = {}
        for name in FUNCTIONS:
            image = images[self._image(name)]
            one = Container(image, ports[name], told[name], folder)
            self._of[name] = ending.enter_context(closing(one))

    def _image(self, name: str) -> str:
        return self._worker if name == "worker" else name

    def _told(self, urls: Mapping[str, str]) -> dict[str, dict[str, str]]:
        """Return each function's environment: its manifest's, and our sink."""
        broker = f"{self._relay.url}/broker"
        urls = {**urls, "audit": self._relay.url, "broker": broker}
        place = Place(home=Home(INSIDE), urls=urls, models=Path("/models"))
        blueprint = Blueprint(knative.folder(), DOORS, lambda _: "")
        parts = blueprint.system, blueprint.shared
        bound = {"K_SINK": broker, "K_CE_OVERRIDES": OVERRIDES}
        return {
            each.name: environ_of(each, place) | bound
            for part in parts
            for each in part.services
        }

    def wake(self) -> None:
        """See that each is ready, as whom it runs, and where it may write."""
        for name, each in self._of.items():
            took = each.ready()
            told = f"{took:.2f} s, at its PORT" if took else each.log
            self._check(f"{self._image(name)} wakes", took, told)
            said = each.say(_TRIES)
            kept = said == f"[{USER}, {USER}] True"
            self._check(f"{self._image(name)} writes to /tmp alone", kept, said)

    def ask(self) -> None:
        """Have a job done by all four, and see what each has of it."""
        door = self._of["door"]
        healthy = door.get("/health/live")
        self._check("door is healthy", healthy == HTTPStatus.NO_CONTENT, healthy)
        refused = sink.post(f"{door.url}/v1/swaps", {}, b"", timeout=10).status
        rule = "door refuses who has no token"
        self._check(rule, refused == HTTPStatus.UNAUTHORIZED, refused)
        job = self._swap(EXAMPLES / TARGET)
        job.join()
        self._check(f"{self._worker} swaps a face", job.done, job.told)
        count = len(self._relay.receipts)
        self._check("audit gives its receipt", count, f"{count} of started")
        self._counted()
        marks = [each.get(EXTENSION) for each in self._relay.delivered]
        rule = "K_SINK gets the events, with what K_CE_OVERRIDES adds"
        self._check(rule, marks and set(marks) == {"eu"}, f"{len(marks)} events")

    def _counted(self) -> None:
        billing = Client(self._of["billing"].url, self._token)
        path = f"/v1/tenants/{self._tenant.id}/usage?from={_today()}"
        held = _until(lambda: billing.get(path)["total"]["events"])
        self._check("billing counts the usage", held, billing.get(path)["total"])

    def _swap(self, target: Path) -> Job:
        request = {"operation": "swap", "consent": {"basis": "public-domain"}}
        client = Client(self._of["door"].url, self._token)
        return Job(partial(client.create, request, target, [EXAMPLES / SOURCE]))

    def probe(self, target: Path) -> None:
        """Measure how soon a worker says that it is ready while it swaps.

        What a function with nothing to do takes meanwhile is the machine's own.
        """
        worker, idle = self._of["worker"], self._of["billing"]
        for _ in range(MOMENTS):
            with probing(worker.port) as took, probing(idle.port) as idles:
                job = self._swap(target)
                job.join()
            rule = f"a worker at work is ready in {READY_MS_MAX} ms"
            enough = took.count >= PROBES_MIN
            told = f"{took}; billing, which does nothing: {idles.brief}"
            self._check(rule, enough and took.longest < READY_MS_MAX, told)
            self._check("its job was done", job.done, job.told)

    def end(self, target: Path) -> None:
        """End a worker with a job in hand, and then the others."""
        worker, heard = self._of["worker"], len(self._relay.receipts)
        job = self._swap(target)
        _until(lambda: len(self._relay.receipts) > heard)
        worker.end()
        began = time.monotonic()
        refused = _until(lambda: not _listens(worker.port))
        took, in_hand = time.monotonic() - began, job.is_alive()
        self._check("SIGTERM comes with a job in hand", in_hand)
        rule = "a worker that ends takes nothing new"
        self._check(rule, refused and in_hand, f"{took:.2f} s after SIGTERM")
        job.join()
        self._check("it finishes the job in hand", job.done, job.told)
        self._ended("worker", began)
        for name in ("door", "billing", "audit"):
            self._of[name].end()
            self._ended(name, time.monotonic())

    def _ended(self, name: str, began: float) -> None:
        code = self._of[name].status(within=GRACE_SECONDS)
        took = time.monotonic() - began
        rule = f"{self._image(name)} ends with 0"
        self._check(rule, code == 0, f"{code} after {took:.2f} s")

    def without(self, image: Image) -> None:
        """See what a GPU's worker does where there is none, by what it is to use."""
        self._refuse(image, "cuda:0", "no GPU 0: ")
        said = self._of["worker"].say(_PLACES)
        rule = f"{image.target} takes the processor where auto finds no GPU"
        self._check(rule, said == "CPUExecutionProvider", said)

    def _refuse(self, image: Image, device: str, why: str) -> None:
        """See a worker end that is to use a device which is not there, and say so."""
        told = self._told(self._urls)["worker"] | {"GUISE_DEVICE": device}
        with closing(Container(image, _free_port(), told, self._folder)) as worker:
            code = worker.status(within=_WAIT_SECONDS)
            said = [each for each in worker.log.splitlines() if why in each]
        rule = f"{image.target} ends with {UNFIT} where there is no {device}"
        self._check(rule, code == UNFIT and said, f"{code}, {' '.join(said[-1:])}")


def large(folder: Path) -> Path:
    """Return a picture that takes a worker seconds, as an upload would be."""
    import cv2

    picture = cv2.imread(str(EXAMPLES / TARGET))
    if picture is None:
        raise FileNotFoundError(EXAMPLES / TARGET)
    path = folder / "large.jpg"
    cv2.imwrite(str(path), cv2.resize(picture, SIDES, interpolation=cv2.INTER_CUBIC))
    return path


def _today() -> str:
    return time.strftime("%Y-%m-%dT00:00:00Z", time.gmtime())


def _free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        port: int = one.getsockname()[1]
        return port


def _listens(port: int) -> bool:
    with socket.socket() as one:
        return one.connect_ex(("127.0.0.1", port)) == 0


def _until(done: Callable[[], object]) -> bool:
    """Return whether it came about within the time there is."""
    deadline = time.monotonic() + _WAIT_SECONDS
    while not done():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.01)
    return True
