"""Take in the weights an operator already has, and make a pack of them.

Nothing is fetched.  Files are known by their SHA-256, whatever they are called; one
that is called like a published file and is another is refused, unless the operator
names its digest and takes it for a build of their own.
"""

from __future__ import annotations

import hashlib
import hmac
import stat
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import msgspec

from models import catalogue, licence, prepare, shelf
from models.errors import ModelError, PackRefused, WeightsRefused
from models.manifest import Digest, SemVer
from models.prepare import Brought
from models.verify import verify, verify_as

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from pathlib import Path

    from models import manifest
    from models.catalogue import Catalogue, Model, Pack

FILES_MAX = 1_000
"""How many networks a folder may hold: more is not a folder of weights."""

PAPER = "MODEL.LICENSE"
"""The signed licence that lies in a package of insightface."""


@dataclass(frozen=True, slots=True)
class Found:
    """A network that lies in the operator's folder, hashed once."""

    path: Path
    sha256: str
    size: int
    stamp: prepare.Stamp


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """What shall be made: which pack, the richest that can be without a name.

    `version` replaces the catalogue's; `private` holds the digests the operator
    accepts, by model; `halved` asks for float16.
    """

    pack: str | None = None
    version: str | None = None
    private: Mapping[str, str] = field(default_factory=dict)
    halved: bool = False


def bring(
    folders: Sequence[Path],
    root: Path,
    wish: Wish,
    *,
    anew: bool = False,
    report: Callable[[str], None],
) -> Path:
    """Make a pack of the networks below `folders`; return `root/<pack>/<version>`.

    It appears whole or not at all, read-only.  A whole one that is there, made of the
    same files, is left; `anew` makes it once more and compares.

    Raises:
        UnknownPack: the catalogue has no such pack, or fetches it itself.
        UnknownModel: a digest is accepted for a model the catalogue does not have.
        WeightsRefused: a file is not what it is called, or one is missing; or a pack
            made of other files has the name and version.
        UnsupportedNetwork: a file is no network of its contract.
        OSError: a folder cannot be read, or `root` cannot be written.
    """
    offered = catalogue.load()
    found = scan(folders, report=report)
    pack, brought = choose(offered, found, wish, report=report)
    folder = root / pack.id / pack.version

    def there() -> manifest.Pack | None:
        try:
            return verify_as(folder, pack.id, pack.version)
        except PackRefused as error:
            if folder.exists():
                report(f"making {pack.id} {pack.version} anew: {error}")
            return None

    old = there()
    if old is not None and not anew:
        _refuse_other(old, brought, wish)
        report(f"{pack.id} {pack.version} is there")
        return folder
    with shelf.building(root, pack.id, pack.version) as built:
        papers = _papers(brought, report)
        new = prepare.assemble(
            pack, brought, built, halved=wish.halved, papers=papers, report=report
        )
        if not shelf.place(built, folder, lambda: there() is not None):
            _compare(verify(folder), new)
            report(f"{pack.id} {pack.version} is there, the same byte for byte")
            return folder
    report(f"{pack.id} {pack.version} is ready")
    return folder


def digests(accepted: Iterable[str]) -> dict[str, str]:
    """Return the digests in texts such as NAME=SHA256, by name.

    Raises:
        WeightsRefused: a text is not such.
    """
    private: dict[str, str] = {}
    for text in accepted:
        name, _, digest = text.partition("=")
        try:
            private[name] = msgspec.convert(digest.lower(), Digest)
        except msgspec.ValidationError as error:
            raise WeightsRefused(
                f"{text!r} is not NAME=SHA256, 64 hexadecimal digits"
            ) from error
    return private


# --- what lies there ---------------------------------------------------------


def scan(
    folders: Iterable[Path], *, report: Callable[[str], None]
) -> tuple[Found, ...]:
    """Return every `.onnx` file below the folders, by path, each read once.

    Raises:
        WeightsRefused: a folder is none, or has too many.
    """
    paths: list[Path] = []
    for folder in folders:
        if not folder.is_dir():
            raise WeightsRefused(f"{folder}: no folder")
        paths += sorted(folder.rglob("*.onnx"))
        if len(paths) > FILES_MAX:
            raise WeightsRefused(f"{folder}: more than {FILES_MAX} networks")
    return tuple(_hashed(path, report) for path in paths if _plain(path))


def _plain(path: Path) -> bool:
    """Whether it is a file, or a link to one, as the caches of model hubs hold them."""
    return stat.S_ISREG(path.stat().st_mode)


def _hashed(path: Path, report: Callable[[str], None]) -> Found:
    report(f"reading {path.name}")
    before = prepare.stamp(path)
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return Found(path, digest, before[2], before)


# --- what it is --------------------------------------------------------------


def choose(
    offered: Catalogue,
    found: Sequence[Found],
    wish: Wish,
    *,
    report: Callable[[str], None],
) -> tuple[Pack, tuple[Brought, ...]]:
    """Return the pack that can be made, and what it is made of.

    Raises:
        UnknownPack: as `bring`.
        UnknownModel: as `bring`.
        WeightsRefused: as `bring`; every fault is in the message, a line each.
    """
    packs = [pack for pack in offered.packs if pack.needs]
    if wish.pack is not None:
        packs = [offered.pack(wish.pack)]
        if not packs[0].needs:
            raise WeightsRefused(
                f"{wish.pack} is fetched: guise models pull {wish.pack}"
            )
    wanted = {name for pack in packs for name in (*pack.needs, *pack.takes)}
    known = [model for model in offered.models if model.name in wanted]
    brought = recognise(known, found, _accepted(offered, wish, wanted))
    taken = {one.sha256 for one in brought.values()}
    for one in found:
        if one.sha256 not in taken:
            report(f"leaving {one.path.name}: no pack asked for needs it")
    whole = [pack for pack in packs if {*pack.needs} <= {*brought}]
    if not whole:
        raise WeightsRefused(
            "\n".join(_missing(offered, pack, brought) for pack in packs)
        )
    pack = max(whole, key=lambda pack: (len(pack.needs), packs.index(pack)))
    if wish.version is not None:
        pack = msgspec.structs.replace(pack, version=_version(wish.version))
    names = [*pack.needs, *(name for name in pack.takes if name in brought)]
    return pack, tuple(brought[name] for name in names)


def recognise(
    known: Sequence[Model], found: Sequence[Found], accepted: Mapping[str, str]
) -> dict[str, Brought]:
    """Return which of the `known` models lie there, by name.

    `accepted` holds the digests of private builds, by model.  A model that is there
    as published and as a private build is taken as the latter: somebody asked.

    Raises:
        WeightsRefused: a file is called like a published one and is another, or an
            accepted digest is nowhere.
    """
    brought: dict[str, Brought] = {}
    faults: list[str] = []
    for one in found:
        model, private = _matched(known, one, accepted)
        if model is None:
            faults += _imposture(known, one)
        elif model.name not in brought or (private and not brought[model.name].private):
            brought[model.name] = Brought(
                model, one.path, one.sha256, one.size, one.stamp, private
            )
    digests = {one.sha256 for one in found}
    faults += [
        f"{name}: no file has the digest accepted for it, {digest}"
        for name, digest in accepted.items()
        if digest not in digests
    ]
    if faults:
        raise WeightsRefused("\n".join(faults))
    return brought


def _matched(
    known: Sequence[Model], one: Found, accepted: Mapping[str, str]
) -> tuple[Model | None, bool]:
    """Return the model a file is, and whether it is a private build of it."""
    for model in known:
        if hmac.compare_digest(accepted.get(model.name, ""), one.sha256):
            return model, model.sha256 != one.sha256
    for model in known:
        if hmac.compare_digest(model.sha256 or "", one.sha256):
            return model, False
    return None, False


def _imposture(known: Sequence[Model], one: Found) -> list[str]:
    """Say of a file that is called like published ones what it is not, and the way."""
    called = [model for model in known if one.path.name in model.names]
    return [
        f"{one.path.name}: its SHA-256 is {one.sha256}, "
        + (
            f"and {model.name} as published has {model.sha256}"
            if model.sha256
            else f"and nobody has said which {model.name} has"
        )
        + "; to take it in as a build of your own, never for commerce: "
        + f"--accept-private {model.name}={one.sha256}"
        for model in called
    ]


def _accepted(offered: Catalogue, wish: Wish, wanted: set[str]) -> dict[str, str]:
    for name in wish.private:
        if offered.model(name).name not in wanted:
            raise WeightsRefused(f"{name}: not in {wish.pack or 'any pack'}")
    return dict(wish.private)


def _version(text: str) -> str:
    try:
        return msgspec.convert(text, SemVer)
    except msgspec.ValidationError as error:
        raise WeightsRefused(f"{text!r} is no version such as 1.0.1") from error


def _missing(offered: Catalogue, pack: Pack, brought: Mapping[str, Brought]) -> str:
    models = [offered.model(name) for name in pack.needs if name not in brought]
    files = "; ".join(f"{model.file} ({model.url})" for model in models)
    return f"{pack.id} lacks {files}"


# --- what goes with it -------------------------------------------------------


def _papers(
    brought: Sequence[Brought], report: Callable[[str], None]
) -> dict[str, bytes]:
    """Return the record of the licences that lay beside the files, judged."""
    grants = []
    for package in sorted({one.path.parent for one in brought}):
        if (package / PAPER).is_file():
            names = [one.model.name for one in brought if one.path.parent == package]
            try:
                grant = licence.inspect(package, names)
            except ModelError as error:
                report(f"{package.name}: {PAPER} is left out: {error}")
            else:
                report(f"{package.name}: {PAPER}: {grant.status.replace('_', ' ')}")
                grants.append(grant)
    return {licence.NAME: licence.encode(grants)} if grants else {}


def _refuse_other(old: manifest.Pack, brought: Sequence[Brought], wish: Wish) -> None:
    """Refuse to call a pack made of other files the one that was asked for.

    Raises:
        WeightsRefused: it is.
    """
    made = {(model.name, model.upstream.sha256) for model in old.models}
    halved = any(model.precision == "fp16" for model in old.models)
    if made != {(one.model.name, one.sha256) for one in brought} or (
        wish.halved and not halved
    ):
        raise WeightsRefused(_other(old))


def _compare(old: manifest.Pack, new: manifest.Pack) -> None:
    """Refuse what was made anew and is not the pack that is there.

    Raises:
        WeightsRefused: they differ; the message names the files.
    """
    files = {*old.files} ^ {*new.files}
    if old.pack_digest != new.pack_digest:
        names = ", ".join(sorted({file.name for file in files})) or "the manifest"
        raise WeightsRefused(f"{_other(old)} (what differs: {names})")


def _other(old: manifest.Pack) -> str:
    return (
        f"{old.id} {old.version} is there and is another, {old.pack_digest}: "
        "give this one a --version of its own"
    )
