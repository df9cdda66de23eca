"""A real browser, spoken to over a pipe in the DevTools protocol; nothing to install.

Chromium is used where it is on the PATH.  Nothing of it comes from PyPI in a size
that every developer should download, so where it is missing the tests that need it
say so and are skipped.
"""

from __future__ import annotations

import base64
import json
import os
import shutil
import subprocess
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome")
FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-dev-shm-usage",
    "--remote-debugging-pipe",
)


class Browser:
    """One tab; commands by the name that the protocol gives them."""

    def __init__(self, reading: int, writing: int) -> None:
        self._from = os.fdopen(reading, "rb")
        self._to = os.fdopen(writing, "wb")
        self._last = 0
        self._tab = ""
        self.happened: list[dict[str, Any]] = []

    def open_tab(self) -> None:
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        attached = self.call("Target.attachToTarget", targetId=target, flatten=True)
        self._tab = attached["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")

    def call(self, method: str, **params: Any) -> Any:
        """Return what a command answers; events on the way are kept in `happened`."""
        self._last += 1
        message = {"id": self._last, "method": method, "params": params}
        if self._tab:
            message["sessionId"] = self._tab
        self._to.write(json.dumps(message).encode() + b"\0")
        self._to.flush()
        while True:
            answer = self._next()
            if answer.get("id") == self._last:
                assert "error" not in answer, answer
                return answer["result"]

    def _next(self) -> dict[str, Any]:
        message = bytearray()
        while (byte := self._from.read(1)) != b"\0":
            assert byte, "the browser is gone"
            message += byte
        answer: dict[str, Any] = json.loads(message)
        if "method" in answer:
            self.happened.append(answer)
        return answer

    def show(
        self, file: Path, width: int, *, scheme: str = "light", media: str = ""
    ) -> None:
        """Load a page into a window `width` pixels wide."""
        self.happened.clear()
        self.call(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=900,
            deviceScaleFactor=1,
            mobile=False,
        )
        features = [{"name": "prefers-color-scheme", "value": scheme}]
        self.call("Emulation.setEmulatedMedia", media=media, features=features)
        self.call("Page.navigate", url=file.as_uri())
        while not any(
            each["method"] == "Page.loadEventFired" for each in self.happened
        ):
            self._next()

    def ask(self, expression: str) -> Any:
        """Return what an expression comes to; the page's policy does not bind us."""
        found = self.call(
            "Runtime.evaluate", expression=expression, returnByValue=True
        )["result"]
        return found.get("value")

    def pdf(self) -> bytes:
        """Return the page as it prints."""
        printed = self.call("Page.printToPDF", preferCSSPageSize=True)
        return base64.b64decode(printed["data"])

    def fetched(self) -> list[str]:
        """Return the address of each thing that was asked for."""
        return [
            each["params"]["request"]["url"]
            for each in self.happened
            if each["method"] == "Network.requestWillBeSent"
        ]

    def complaints(self) -> list[str]:
        """Return what the browser had to say: errors, refusals by policy."""
        return [
            each["params"]["entry"]["text"]
            for each in self.happened
            if each["method"] == "Log.entryAdded"
        ]

    def close(self) -> None:
        self._tab = ""
        self.call("Browser.close")
        self._to.close()
        self._from.close()


@contextmanager
def browser(profile: Path) -> Iterator[Browser]:
    """Yield a browser with a fresh profile, or skip the test and say why."""
    program = next(filter(None, map(shutil.which, NAMES)), None)
    if program is None:
        pytest.skip(f"no browser on the PATH (of {', '.join(NAMES)}): pages not seen")
    commands, writing = os.pipe()
    reading, answers = os.pipe()
    # The protocol wants its pipes as 3 and 4.
    shell = f'exec "$@" 3<&{commands} 4>&{answers}'
    with subprocess.Popen(
        ["bash", "-c", shell, "bash", program, *FLAGS, f"--user-data-dir={profile}"],
        pass_fds=(commands, answers),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    ) as process:
        os.close(commands)
        os.close(answers)
        shown = Browser(reading, writing)
        try:
            shown.open_tab()
            yield shown
            shown.close()
            process.wait(timeout=20)
        finally:
            process.kill()
