"""A caller of the HTTP API, as any tenant's program would be."""

from __future__ import annotations

import time
from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import httpx
import msgspec

from functions.problems import NotFound, Problem, Unavailable

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

_TIMEOUT_SECONDS: Final = 360.0
_POLL_SECONDS: Final = 0.5


class Answered(Problem):
    """A problem that the service answered with."""

    def __init__(self, document: Mapping[str, Any]) -> None:
        super().__init__(str(document.get("detail", "")))
        self._document = dict(document)

    def document(self, *, instance: str = "") -> dict[str, Any]:
        """Return the document as it was answered."""
        return self._document | ({"instance": instance} if instance else {})


@dataclass(frozen=True, slots=True)
class Client:
    """One tenant's calls to a door at `url`."""

    url: str
    token: str

    def create(
        self,
        request: Mapping[str, Any],
        target: Path,
        sources: Sequence[Path] = (),
        keep: Sequence[Path] = (),
    ) -> dict[str, Any]:
        """Send a job with its images, wait for its end, and return its record."""
        with ExitStack() as files:
            parts = [("target", (target.name, files.enter_context(target.open("rb"))))]
            for name, paths in (("source", sources), ("keep", keep)):
                for path in paths:
                    stream = files.enter_context(path.open("rb"))
                    parts.append((name, (path.name, stream)))
            answer = self._call(
                "POST",
                "/v1/swaps",
                data={"request": msgspec.json.encode(request).decode()},
                files=parts,
            )
        record: dict[str, Any] = answer.json()
        while record["outcome"] == "accepted":
            time.sleep(_POLL_SECONDS)
            record = self._call("GET", f"/v1/swaps/{record['job']}").json()
        if record.get("problem"):
            raise Answered(record["problem"])
        return record

    def cancel(self, job: str) -> dict[str, Any]:
        """Cancel a job, and return how it ended."""
        ended: dict[str, Any] = self._call("POST", f"/v1/swaps/{job}/cancel").json()
        return ended

    def erase(self, job: str) -> None:
        """Erase a job; raise `NotFound` where the door knows none."""
        try:
            self._call("DELETE", f"/v1/swaps/{job}")
        except Answered as problem:
            if problem.document().get("status") == NotFound.status:
                raise NotFound("the door knows no such job") from problem
            raise

    def content(self, path: str) -> bytes:
        """Return the bytes at `path`."""
        return self._call("GET", path).content

    def result(self, job: str) -> bytes:
        """Return the bytes of a job's output."""
        return self.content(f"/v1/swaps/{job}/result")

    def get(self, path: str) -> Any:  # noqa: ANN401  # JSON
        """Return the JSON at `path`."""
        return self._call("GET", path).json()

    def text(self, path: str) -> str:
        """Return the text at `path`."""
        return self.content(path).decode()

    def _call(self, method: str, path: str, **content: Any) -> httpx.Response:  # noqa: ANN401  # httpx's
        headers = {"Authorization": f"Bearer {self.token}"}
        try:
            answer = httpx.request(
                method,
                self.url + path,
                headers=headers,
                timeout=_TIMEOUT_SECONDS,
                trust_env=False,
                **content,
            )
        except httpx.HTTPError as error:
            raise Unavailable(f"{self.url} does not answer: {error}") from error
        if answer.is_error:
            raise Answered(_document(answer))
        return answer


def _document(answer: httpx.Response) -> dict[str, Any]:
    """Return the problem in an answer, or one that says what came instead."""
    try:
        document = answer.json()
    except ValueError:
        document = None
    if isinstance(document, dict) and "type" in document:
        return document
    problem = Unavailable(f"HTTP {answer.status_code} without a problem document")
    return problem.document()
