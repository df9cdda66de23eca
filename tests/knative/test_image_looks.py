"""What is looked for in an image, and how soon it says that it is ready."""

from __future__ import annotations

import json
import math
import socket
import threading
import time
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING

import pytest

from tools.image_container import Image
from tools.image_look import billed, look
from tools.image_probe import Spread, ask, probing
from tools.image_tally import Tally

if TYPE_CHECKING:
    from pathlib import Path

LABELS = {
    f"org.opencontainers.image.{name}": value
    for name, value in {
        "title": "guise-door",
        "description": "The public HTTP API",
        "licenses": "Apache-2.0",
        "vendor": "Guise",
        "version": "0.1.0",
        "revision": "0" * 40,
    }.items()
}
CODE = "COPY dir:1 in /opt/guise"
WEIGHTS = "COPY dir:2 in /models"
SITE = "opt/guise/lib/python3.11/site-packages"


@pytest.fixture
def image(tmp_path: Path) -> Image:
    """Return an image of the door, as it should be."""
    about = tmp_path / SITE / "Flask-3.1.3.dist-info"
    about.mkdir(parents=True)
    (about / "METADATA").write_text("Name: Flask\nVersion: 3.1.3\n")
    bill(tmp_path, "3.1.3")
    config = {"User": "65532:65532", "Labels": LABELS}
    return Image("door", tmp_path, config, ("/bin/sh", "rm -rf", CODE))


def bill(root: Path, version: str) -> None:
    parts = [{"name": "flask", "version": version}]
    said = {"bomFormat": "CycloneDX", "components": parts}
    (root / "opt/guise/sbom.cdx.json").write_text(json.dumps(said))


def broken(image: Image) -> list[str]:
    return [rule for rule, held, _ in look(image, "0.1.0") if not held]


def test_an_image_as_it_should_be_is_let_be(image: Image) -> None:
    """Each rule is told with what was seen."""
    assert broken(image) == []
    seen = {rule: seen for rule, _, seen in look(image, "0.1.0")}
    assert seen["has a bill of materials, and it is true"] == "1 parts"


@pytest.mark.parametrize(
    ("path", "rule"),
    [
        ("usr/bin/pip3", "no pip and no compiler"),
        ("usr/bin/gcc", "no pip and no compiler"),
        ("usr/local/lib/python3.11/ensurepip/x", "no pip and no compiler"),
        ("usr/lib/python3/dist-packages/pip/x", "no pip and no compiler"),
        (f"{SITE}/numpy/x", "what models need"),
        ("opt/guise/sbom.cdx.json", "bill of materials"),
        (f"{SITE}/jinja2-3.dist-info/METADATA", "bill of materials"),
    ],
)
def test_what_should_not_be_there_is_seen(image: Image, path: str, rule: str) -> None:
    """A builder, a package too many or untold, a bill that is none: each fails it."""
    (image.root / path).parent.mkdir(parents=True, exist_ok=True)
    (image.root / path).write_text("Name: jinja2\nVersion: 3\n")
    [found] = broken(image)
    assert rule in found


def test_a_bill_of_another_version_is_seen(image: Image) -> None:
    """Names and versions are those of what lies in the image, either way."""
    bill(image.root, "3.1.2")
    [found] = broken(image)
    assert "bill of materials" in found


def test_a_bill_in_another_language_is_none(image: Image) -> None:
    """What is read is CycloneDX."""
    (image.root / "opt/guise/sbom.cdx.json").write_text('{"bomFormat": "SPDX"}')
    assert billed(image.root) == frozenset()


def test_an_image_of_roots_is_seen(image: Image) -> None:
    """A user that nobody set is root."""
    [found] = broken(replace(image, config={"Labels": LABELS}))
    assert "nobody in particular" in found


@pytest.mark.parametrize(
    "labels", [{}, {"revision": ""}, {"version": "0.2.0"}, {"title": "guise-audit"}]
)
def test_an_image_that_does_not_say_what_it_is_is_seen(
    image: Image, labels: dict[str, str]
) -> None:
    """Each label is there, and it is this image's."""
    told = {f"org.opencontainers.image.{name}": said for name, said in labels.items()}
    config = image.config | {"Labels": LABELS | told if told else {}}
    [found] = broken(replace(image, config=config))
    assert "labels" in found


@pytest.mark.parametrize(
    ("target", "made", "held"),
    [
        ("worker-cpu", (WEIGHTS, CODE), True),
        ("worker-cpu", (CODE, WEIGHTS), False),
        ("worker-cpu", (CODE,), False),
        ("worker-cpu", (WEIGHTS, WEIGHTS, CODE), False),
        ("door", (CODE,), True),
        ("door", (WEIGHTS, CODE), False),
    ],
)
def test_weights_are_right_below_the_code(
    image: Image, target: str, made: tuple[str, ...], *, held: bool
) -> None:
    """They are one layer, which another version of the code leaves where it is."""
    found = broken(replace(image, target=target, made=("/bin/sh", *made)))
    assert ("has weights right below its code, or none" in found) != held


def test_code_that_it_may_write_to_is_seen(image: Image) -> None:
    """Even where a root file system would not be read-only."""
    (image.root / SITE / "x.py").touch()
    (image.root / SITE / "x.py").chmod(0o666)
    (image.root / SITE / "y.py").symlink_to("x.py")  # whose own mode says nothing
    [found] = broken(image)
    assert "may write to" in found


def test_an_image_that_is_too_large_is_seen(image: Image) -> None:
    """Links count once, and what a file takes is what it says."""
    large = image.root / "opt/guise/large"
    with large.open("wb") as file:
        file.truncate(50_000_000)
    large.with_name("link").hardlink_to(large)
    title = {"org.opencontainers.image.title": "guise-audit"}
    config = image.config | {"Labels": LABELS | title}
    audit = replace(image, target="audit", config=config)
    assert broken(audit) == []
    with large.open("wb") as file:
        file.truncate(80_000_000)
    [found] = broken(audit)
    assert found == "adds under 80 MB"


def test_workers_have_what_models_need(image: Image) -> None:
    """A worker without ONNX Runtime would start, and swap nothing."""
    found = broken(replace(image, target="worker-cpu"))
    assert any("what models need" in each for each in found)


def test_what_is_broken_is_told_and_kept(capsys: pytest.CaptureFixture[str]) -> None:
    """What is skipped is told as well, and is no failure."""
    tally = Tally()
    tally.check("one", held=True, told="1 s")
    tally.check("two", held=False)
    tally.skip("three", "no GPU")
    assert tally.failed == ["two"]
    told = "ok      one: 1 s\nFAILED  two\nskipped three: no GPU\n"
    assert capsys.readouterr().out == told


class Ready(BaseHTTPRequestHandler):
    """A function that is ready, and late at first."""

    delays = iter((0.25, 0.0, 0.0, 0.0, 0.0))
    enough = threading.Event()

    def do_GET(self) -> None:  # http.server's name
        delay = next(self.delays, None)
        if delay is None:
            self.enough.set()
        else:
            time.sleep(delay)
        self.send_response(204 if self.path == "/health/ready" else 404)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


def test_probes_ask_all_the_while() -> None:
    """From a process of its own: how often, how soon, and the latest of them."""
    with ThreadingHTTPServer(("127.0.0.1", 0), Ready) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        with probing(server.server_port) as took:
            assert Ready.enough.wait(60)
        server.shutdown()
        thread.join()
    assert took.count > 5
    assert took.median < 250 <= took.longest < math.inf
    assert f"of {took.count}; " in str(took)


def test_what_is_not_ready_is_never_in_time() -> None:
    """No answer, or no probe at all, is longer than anything."""
    assert Spread.of([]).longest == math.inf
    assert Spread.of([1.0, math.inf]).longest == math.inf
    assert Spread.of([1.0] * 99 + [50.0]).p99 == 1.0
    with socket.create_server(("127.0.0.1", 0)) as one:
        port = one.getsockname()[1]
    assert ask(port) is None
