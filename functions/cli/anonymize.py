"""`guise anonymize`: photographs, folders and globs, each a job of its own.

    plan      what becomes what; refused as a whole before anything runs
    cover     a few jobs at once, each through the door, its receipt and its bill
    report    one line a failure, then who was covered, and what must be looked at

A picture in which no face is found is refused by the service and not delivered:
whether nobody is on it or somebody was missed, only a person can tell, and an
output folder holds nothing but pictures that were worked on.
"""

from __future__ import annotations

import os
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from functions.cli.terminal import counted, err, print_json, say
from functions.cli.work import FORMATS
from functions.problems import Conflict, InvalidRequest, NotFound, Problem, Unavailable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from functions.cli.client import Client
    from functions.cli.work import Place

_IN_FLIGHT: Final = 2  # one is read and sent while the other is on the device
_MAGIC: Final = frozenset("*?[")
_NO_FACE: Final = "urn:guise:problem:no-face"


@dataclass(frozen=True, slots=True)
class Task:
    """One photograph, and where its output goes."""

    path: Path
    to: Path


@dataclass(slots=True)
class Plan:
    """What is to be done; `skipped` are files in a folder that are no pictures."""

    tasks: list[Task] = field(default_factory=list)
    skipped: list[Path] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Ended:
    """How one task ended: with a record, or with a problem's document."""

    task: Task
    record: dict[str, Any] = field(default_factory=dict)
    problem: dict[str, Any] | None = None

    def count(self, name: str) -> int:
        """Return how many faces were `found`, `done` or `kept`."""
        return int((self.record.get("counts") or {}).get(name, 0))

    @property
    def line(self) -> dict[str, Any]:
        """What a script is told."""
        told: dict[str, Any] = {"in": str(self.task.path)}
        if self.problem is not None:
            return told | {"problem": self.problem}
        return self.record | told | {"out": str(self.task.to)}


@dataclass(frozen=True, slots=True)
class Covering:
    """How faces are covered, and pictures of whom to keep."""

    cover: str
    keep: Sequence[Path] = ()

    def request(self, to: Path) -> dict[str, Any]:
        """Return the request; a name that tells no format leaves the target's."""
        form = FORMATS.get(to.suffix.lower())
        options = {"cover": self.cover} | ({"format": form} if form else {})
        return {"operation": "anonymize", "options": options}


def anonymize_all(
    place: Place,
    named: Sequence[Path],
    out: Path,
    covering: Covering,
    *,
    recursive: bool,
    force: bool,
) -> int:
    """Cover the faces in all of them; return the exit status, 1 if any failed."""
    plan = plan_of(named, out, recursive=recursive)
    for path in covering.keep:
        if not path.is_file():
            raise NotFound(f"{path} is not a file")
    _check(plan, covering.keep, force=force)
    with place.client() as client:
        ended = _run(client, plan, covering, force=force, quiet=place.json)
    (_tell_script if place.json else _tell_person)(plan, ended)
    return int(any(each.problem for each in ended))


def plan_of(named: Sequence[Path], out: Path, *, recursive: bool) -> Plan:
    """Return what becomes what, or raise `NotFound` or `InvalidRequest`.

    `out` is a file for one photograph, unless it is a folder already, and a folder
    for anything else.  Below a folder that was named its structure is kept.
    """
    paths = [each for path in named for each in _expanded(path)]
    if len(paths) == 1 and paths[0].is_file() and not out.is_dir():
        return Plan([Task(paths[0], _file(out))])
    if not out.is_dir() and (out.exists() or out.suffix.lower() in FORMATS):
        raise InvalidRequest(f"{out}: more than one picture needs a folder")
    plan = Plan()
    for path in paths:
        if path.is_dir():
            _add_folder(plan, path, out, recursive=recursive)
        else:
            plan.tasks.append(Task(path, out / path.name))
    if not plan.tasks:
        raise NotFound(f"no pictures in {', '.join(map(str, named))}")
    return plan


def _file(out: Path) -> Path:
    if out.suffix.lower() not in FORMATS:
        raise InvalidRequest(
            f"{out}: the output is .jpg, .png or .webp, or a folder that is there"
        )
    return out


def _expanded(path: Path) -> list[Path]:
    """Return what a path names: itself, or what matches it as a glob, sorted."""
    if path.is_file() or path.is_dir():
        return [path]
    at = next((i for i, part in enumerate(path.parts) if _MAGIC & set(part)), None)
    if at is None:
        raise NotFound(f"{path} is neither a file nor a folder")
    base = Path(*path.parts[:at])
    matches = [
        each
        for each in base.glob(str(Path(*path.parts[at:])))
        if not _hidden(each.relative_to(base))
    ]
    if not matches:
        raise NotFound(f"nothing matches {path}")
    return sorted(matches)


def _add_folder(plan: Plan, folder: Path, out: Path, *, recursive: bool) -> None:
    for path in _below(folder, out, recursive=recursive):
        if path.suffix.lower() not in FORMATS or not _inside(path, folder):
            plan.skipped.append(path)
        else:
            plan.tasks.append(Task(path, out / path.relative_to(folder)))


def _below(folder: Path, out: Path, *, recursive: bool) -> Iterator[Path]:
    """Yield the files in a folder, but for the hidden and those in `out`, sorted."""
    inner: list[Path] = []
    for path in sorted(folder.iterdir()):
        if _hidden(Path(path.name)):
            continue
        if path.is_dir():
            inner.append(path)
        elif path.is_file():
            yield path
    for path in inner if recursive else ():
        if not path.is_symlink() and not _same(path, out):
            yield from _below(path, out, recursive=True)


def _hidden(path: Path) -> bool:
    return any(part.startswith(".") for part in path.parts)


def _inside(path: Path, folder: Path) -> bool:
    """Return whether a file lies in the folder also once links are followed."""
    return path.resolve().is_relative_to(folder.resolve())


def _same(one: Path, other: Path) -> bool:
    return other.exists() and one.samefile(other)


def _check(plan: Plan, keep: Sequence[Path], *, force: bool) -> None:
    """Raise `Conflict` if an output would land on another, an input or a file."""
    outputs = Counter(task.to.resolve() for task in plan.tasks)
    for task in plan.tasks:
        if outputs[task.to.resolve()] > 1:
            raise Conflict(f"two pictures would both become {task.to}")
    inputs = {_identity(path) for path in (*(t.path for t in plan.tasks), *keep)}
    there = [task for task in plan.tasks if task.to.exists()]
    for task in there:
        if _identity(task.to) in inputs:
            raise Conflict(f"{task.to} is an input: it would be written over")
    if there and not force:
        more = f" and {len(there) - 1} more" if len(there) > 1 else ""
        raise Conflict(f"{there[0].to}{more} exists already: --force writes over it")


def _identity(path: Path) -> tuple[int, int]:
    """Return which file it is, whatever it is called: by links, too."""
    found = path.stat()
    return found.st_dev, found.st_ino


def _run(
    client: Client, plan: Plan, covering: Covering, *, force: bool, quiet: bool
) -> list[Ended]:
    """Do every task, `_IN_FLIGHT` at once; return the endings in order."""

    def one(task: Task) -> Ended:
        return _ended(task, lambda: _cover(client, task, covering, force=force))

    ended = []
    with (
        ThreadPoolExecutor(_IN_FLIGHT) as pool,
        _progress(len(plan.tasks), quiet=quiet) as advance,
    ):
        for each in pool.map(one, plan.tasks):
            ended.append(each)
            _tell(each, quiet=quiet)
            advance()
    return ended


def _ended(task: Task, work: Callable[[], dict[str, Any]]) -> Ended:
    """Do one task; whatever goes wrong with it is its own ending."""
    try:
        return Ended(task, work())
    except Problem as problem:
        return Ended(task, problem=problem.document())
    except OSError as error:
        return Ended(task, problem=Unavailable(str(error)).document())


def _cover(
    client: Client, task: Task, covering: Covering, *, force: bool
) -> dict[str, Any]:
    record = client.create(covering.request(task.to), task.path, keep=covering.keep)
    _write(task.to, client.result(record["job"]), force=force)
    return record


def _write(to: Path, data: bytes, *, force: bool) -> None:
    """Write a whole file or none."""
    to.parent.mkdir(parents=True, exist_ok=True)
    part = to.with_name(f".{to.name}.{os.getpid()}.part")
    try:
        part.write_bytes(data)
        if to.exists() and not force:  # since the plan was made
            raise Conflict(f"{to} exists already")
        part.replace(to)
    finally:
        part.unlink(missing_ok=True)


@contextmanager
def _progress(total: int, *, quiet: bool) -> Iterator[Callable[[], None]]:
    """Show a bar on a terminal; yield what moves it."""
    console = err()
    if quiet or not console.is_terminal:
        yield lambda: None
        return
    from rich.progress import Progress

    with Progress(console=console, transient=True) as bar:
        row = bar.add_task("anonymize", total=total)
        yield lambda: bar.advance(row)


def _tell(ended: Ended, *, quiet: bool) -> None:
    """Say at once what became of one picture: all of it in JSON, else what failed."""
    if quiet:
        print_json(ended.line)
    elif ended.problem is not None:
        kind = ended.problem["type"]
        text = ended.problem.get("detail") or ended.problem.get("title", "")
        line = f"error: {ended.task.path}: {text} ({kind})"
        err().print(line, markup=False, style="red")


def _tell_script(plan: Plan, ended: Sequence[Ended]) -> None:
    print_json(
        {
            "done": sum(each.problem is None for each in ended),
            "failed": sum(each.problem is not None for each in ended),
            "faces": sum(each.count("done") for each in ended),
            "kept": sum(each.count("kept") for each in ended),
            "no_face": [str(path) for path in _faceless(ended)],
            "skipped": [str(path) for path in plan.skipped],
        }
    )


def _tell_person(plan: Plan, ended: Sequence[Ended]) -> None:
    for each in ended if len(ended) == 1 else ():
        if each.problem is None:
            index = each.record["receipt"]["index"]
            faces = f"{counted(each.count('done'), 'face')} covered"
            faces += f", {each.count('kept')} kept"
            say(f"{each.task.to}: {faces}, audit entry {index}")
    if len(ended) > 1:
        say(_summary(ended))
    _list("no face was found, nothing was written; look yourself:", _faceless(ended))
    _list("skipped, no JPEG, PNG or WebP by its name:", plan.skipped)


def _summary(ended: Sequence[Ended]) -> str:
    done = [each for each in ended if each.problem is None]
    faces = sum(each.count("done") for each in done)
    kept = sum(each.count("kept") for each in done)
    text = f"{counted(len(done), 'picture')} done, {counted(faces, 'face')} covered"
    failed = counted(len(ended) - len(done), "picture")
    return f"{text}, {kept} kept; {failed} failed"


def _faceless(ended: Iterable[Ended]) -> list[Path]:
    return [
        each.task.path
        for each in ended
        if each.problem is not None and each.problem["type"] == _NO_FACE
    ]


def _list(title: str, paths: Sequence[Path]) -> None:
    if paths:
        say("\n".join([title, *(f"  {path}" for path in paths)]))
