"""Start every image as a cluster would, and ask it: `python -m tools.image_checks`.

For root, on a machine with buildah and the images of `make image`.  Each runs as its
own user without a capability, from a root that is read-only, with /tmp in memory, in
the development profile.  Between them is a relay that stands for the broker.  What
cannot be tried here is skipped, and said.
"""

from __future__ import annotations

import json
import math
import os
import shutil
import socket
import statistics
import sys
import tempfile
import threading
import time
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
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
from tools import image_container
from tools.image_container import INSIDE, USER, Container, Image
from tools.image_relay import Relay

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

IMAGES: Final = ("door", "worker-cpu", "worker-gpu", "audit", "billing")
ADDS_MB_MAX: Final = {"audit": 80, "worker-cpu": 650}
"""Without weights, in millions of bytes."""
FUNCTIONS: Final = {
    "audit": "audit",
    "billing": "billing",
    "worker": "worker-cpu",
    "door": "door",
}
"""From the name of a Service to its image's."""
VERSION: Final = "0.1.0"
READY_MS_MAX: Final = 100
SIDES: Final = (5000, 6000)
GRACE_SECONDS: Final = 30.0
BUILDERS: Final = (
    "pip",
    "pip3",
    "gcc",
    "cc",
    "g++",
    "c++",
    "clang",
    "ld",
    "as",
    "make",
)
ML: Final = ("numpy", "cv2", "onnxruntime")
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


@dataclass(slots=True)
class Tally:
    """What was tried, told as it goes."""

    failed: list[str] = field(default_factory=list)

    def check(self, rule: str, held: object, told: object = "") -> None:
        """Tell whether a rule is held, and what was seen."""
        if not held:
            self.failed.append(rule)
        self._say("ok" if held else "FAILED", rule, told)

    def skip(self, rule: str, why: str) -> None:
        """Tell what is not tried, and why."""
        self._say("skipped", rule, why)

    def _say(self, how: str, rule: str, told: object) -> None:
        sys.stdout.write(f"{how:8}{rule}{f': {told}' if told != '' else ''}\n")
        sys.stdout.flush()


def builders(root: Path) -> list[str]:
    """Return what in an image would install or build something."""
    places = ("bin", "usr/bin", "usr/local/bin", "opt/guise/bin")
    found = [f"{place}/{each}" for place in places for each in BUILDERS]
    packages: list[Path] = []
    for place in ("site-packages/pip", "dist-packages/pip", "ensurepip"):
        for top in ("usr/lib", "usr/local/lib", "opt/guise/lib"):
            packages += (root / top).glob(f"python3*/{place}")
    return [each for each in found if (root / each).exists()] + [
        str(each.relative_to(root)) for each in packages
    ]


def parts(root: Path) -> int:
    """Return how many parts the bill of materials has that is in an image; 0: none."""
    try:
        bill = json.loads((root / "opt/guise/sbom.cdx.json").read_bytes())
    except (OSError, ValueError):
        return 0
    return len(bill["components"]) if bill.get("bomFormat") == "CycloneDX" else 0


def size(folder: Path) -> int:
    """Return the bytes of a folder's files, each counted once."""
    seen = {}
    for each in folder.rglob("*"):
        about = each.lstat()
        if each.is_file() and not each.is_symlink():
            seen[about.st_ino] = about.st_size
    return sum(seen.values())


def look(image: Image, tally: Tally) -> None:
    """See what an image has, and what it has not, before it is started."""
    name, check = image.target, tally.check
    found = builders(image.root)
    check(f"{name} has no pip and no compiler", not found, ", ".join(found))
    told = image.config.get("User", "")
    check(f"{name} runs as nobody in particular", told == f"{USER}:{USER}", told)
    count = parts(image.root)
    check(f"{name} has a bill of materials", count, f"{count} parts")
    [site] = (image.root / "opt/guise/lib").glob("python3*/site-packages")
    has = [each for each in ML if (site / each).exists()]
    wanted = list(ML) if name.startswith("worker") else []
    check(f"{name} has what models need, or none of it", has == wanted, " ".join(has))
    adds, most = size(image.root / "opt/guise") / 1e6, ADDS_MB_MAX.get(name)
    rule = f"{name} adds " + (f"under {most} MB" if most else "some")
    check(rule, most is None or adds < most, f"{adds:.1f} MB")


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
    """A tenant's home, four functions out of their images, and the relay between."""

    def __init__(
        self, images: Mapping[str, Image], folder: Path, tally: Tally, ending: ExitStack
    ) -> None:
        self._check = tally.check
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
        told = self._told(urls)
        self._of = {
            name: ending.enter_context(
                closing(Container(images[image], ports[name], told[name], folder))
            )
            for name, image in FUNCTIONS.items()
        }

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
            self._check(f"{name} wakes", took, told)
            said = each.say(_TRIES)
            kept = said == f"[{USER}, {USER}] True"
            self._check(f"{name} writes to /tmp alone", kept, said)

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
        self._check("worker swaps a face", job.done, job.told)
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
        """Measure how soon a worker says that it is ready while it swaps."""
        worker, took = self._of["worker"], []
        job = self._swap(target)
        while job.is_alive():
            began = time.perf_counter()
            is_ready = worker.get("/health/ready") == HTTPStatus.NO_CONTENT
            spent = (time.perf_counter() - began) * 1000
            took.append(spent if is_ready else math.inf)
            time.sleep(0.005)
        rule = f"a worker at work is ready in {READY_MS_MAX} ms"
        middle, longest = statistics.median(took), max(took)
        told = f"median {middle:.1f} ms, longest {longest:.1f} ms of {len(took)}"
        self._check(rule, longest < READY_MS_MAX, told)
        self._check("its job was done", job.done, job.told)

    def end(self, target: Path) -> None:
        """End a worker with a job in hand, and then the others."""
        worker, heard = self._of["worker"], len(self._relay.receipts)
        job = self._swap(target)
        _until(lambda: len(self._relay.receipts) > heard)
        worker.end()
        began = time.monotonic()
        refused = _until(lambda: not _listens(worker.url))
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
        self._check(f"{name} ends with 0", code == 0, f"{code} after {took:.2f} s")


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


def _listens(url: str) -> bool:
    port = int(url.rpartition(":")[2])
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


def lacking() -> str:
    """Return why nothing can be tried on this machine; empty where it can."""
    if os.geteuid() != 0:
        return "only root may mount an image"
    return "" if shutil.which("buildah") else "buildah is not here"


def main() -> None:
    """Try every image there is; say what was not tried; fail if a rule is broken."""
    tally = Tally()
    why = lacking()
    if why:
        tally.skip("the images", why)
        return
    [version] = sys.argv[1:] or [VERSION]
    image_container.alone()
    known = image_container.names()
    with ExitStack() as ending:
        images = {}
        for target in IMAGES:
            name = f"guise-{target}:{version}"
            if name not in known:
                tally.skip(target, f"there is no image {name}")
                continue
            mounted = image_container.mounted(target, name)
            images[target] = ending.enter_context(mounted)
            look(images[target], tally)
        tally.skip("worker-gpu's start", "it wants a GPU, and CUDA in its base")
        _live(images, tally, ending)
    if tally.failed:
        sys.exit(f"failed: {'; '.join(tally.failed)}")


def _live(images: Mapping[str, Image], tally: Tally, ending: ExitStack) -> None:
    if missing := set(FUNCTIONS.values()) - images.keys():
        tally.skip("starting them", f"without {', '.join(sorted(missing))}")
        return
    if not (images["worker-cpu"].root / "models/pack.json").exists():
        tally.skip(
            "starting them", "the worker's image has no pack: `make image PACK=`"
        )
        return
    folder = Path(ending.enter_context(tempfile.TemporaryDirectory(prefix="guise-")))
    target = large(folder)
    town = Town(images, folder / "home", tally, ending)
    town.wake()
    town.ask()
    town.probe(target)
    town.end(target)


if __name__ == "__main__":
    main()
