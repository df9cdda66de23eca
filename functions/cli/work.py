"""`guise swap` and `detect`: one job each, over the real door."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from functions.cli.client import Answered, Client
from functions.cli.terminal import busy, counted, out, print_json, say
from functions.problems import (
    InvalidRequest,
    NotFound,
    Unauthenticated,
    Unreadable,
    Unsupported,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

FORMATS: Final[Mapping[str, str]] = {
    ".jpg": "jpeg",
    ".jpeg": "jpeg",
    ".png": "png",
    ".webp": "webp",
}
"""What a file's name says of its format."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where the work is done, and whether a script or a person reads the answer.

    `models` is the prepared pack of a stack that is started for the command.
    """

    home: Path
    url: str
    token_file: Path | None
    json: bool
    models: Path | None = None

    @contextmanager
    def client(self) -> Iterator[Client]:
        """Yield a client of the door at `url`, or of a stack on this machine."""
        if self.url:
            if self.token_file is None:
                raise Unauthenticated("--url needs --token-file")
            if self.models is not None:
                raise InvalidRequest("--models is for this machine, not for --url")
            yield Client(self.url.rstrip("/"), self.token_file.read_text().strip())
            return
        from functions.cli.serve import running

        with running(self.home, self.models, quiet=self.json) as stack:
            yield Client(stack.door, stack.token)


def swap_faces(
    place: Place,
    sources: Sequence[Path],
    target: Path,
    to: Path,
    *,
    faces: str,
    options: Mapping[str, object],
    consent: Mapping[str, str],
) -> None:
    """Swap, and write the picture to `to`; an option that is None is left unsaid."""
    said = {name: value for name, value in options.items() if value is not None}
    request = {
        "operation": "swap",
        "faces": _selector(faces),
        "options": {**said, **_format(to)},
        "consent": consent,
    }
    _work(place, request, target, sources, to)


def detect_faces(place: Place, image: Path) -> None:
    """Print where the faces are."""
    _readable(image)
    with (
        _naming([image]),
        place.client() as client,
        busy("looking for faces", quiet=place.json),
    ):
        record = client.create({"operation": "detect"}, image)
    if place.json:
        print_json(record)
        return
    from rich.table import Table

    table = Table("index", "score", "x0", "y0", "x1", "y1", box=None)
    for face in record.get("faces", []):
        corners = (str(round(value)) for value in face["box"])
        table.add_row(str(face["index"]), str(face["score"]), *corners)
    out().print(table)


def _work(
    place: Place,
    request: Mapping[str, Any],
    target: Path,
    sources: Sequence[Path],
    to: Path,
) -> None:
    for path in (*sources, target):
        _readable(path)
    with _naming((*sources, target)), place.client() as client:
        with busy(str(request["operation"]), quiet=place.json):
            record = client.create(request, target, sources)
        to.write_bytes(client.result(record["job"]))
    if place.json:
        print_json(record | {"out": str(to)})
    else:
        faces = counted(len(record.get("faces", [])), "face")
        index = record["receipt"]["index"]
        say(f"{to}: {faces}, {record['swap_ms']} ms, audit entry {index}")


def _readable(path: Path) -> None:
    if not path.is_file():
        raise NotFound(f"{path} is not a file")


@contextmanager
def _naming(paths: Sequence[Path]) -> Iterator[None]:
    """Say which file the service could not read: to it they have no names."""
    try:
        yield
    except Answered as problem:
        if problem.document().get("status") == Unreadable.status:
            for path in paths:
                _refuse_unreadable(path)
        raise


def _refuse_unreadable(path: Path) -> None:
    from functions.swap.media import read_header

    try:
        read_header(path.read_bytes())
    except (Unreadable, Unsupported) as problem:
        raise type(problem)(f"{path}: {problem.detail}") from problem


def _selector(text: str) -> object:
    """Return the request's selector: an index, a position X,Y, or the word itself."""
    if text.isdecimal():
        return {"index": int(text)}
    try:
        x, y = map(float, text.split(","))
    except ValueError:
        return text
    return {"position": [x, y]}


def _format(to: Path) -> dict[str, str]:
    """Return the output's format by its file's name."""
    suffix = to.suffix.lower()
    if suffix not in FORMATS:
        raise InvalidRequest(f"{to}: the output is .jpg, .png or .webp")
    return {"format": FORMATS[suffix]}
