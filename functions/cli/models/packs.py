"""`guise models …`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from functions.cli.terminal import busy, err, out, print_json, say

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    from models.importing import Wish
    from models.manifest import Pack


def pull_pack(name: str, root: Path, *, json: bool) -> None:
    """Have the pack under `root`, and print where it is and what it is."""
    folder = have(name, root, quiet=json)
    verify_pack(folder, json=json)


def have(name: str, root: Path, *, quiet: bool) -> Path:
    """Return the folder of a verified pack, made when it is missing."""
    from models.pull import pull

    def report(line: str) -> None:
        if not (quiet or line.endswith("is there")):
            err().print(line, markup=False, style="dim")

    with busy(f"pack {name}", quiet=quiet):
        return pull(name, root, report=report)


def wished(
    pack: str | None, version: str | None, accepted: Iterable[str], *, halved: bool
) -> Wish:
    """Return what is asked for; each of `accepted` is NAME=SHA256.

    Raises:
        WeightsRefused: one is not.
    """
    from models.importing import Wish, digests

    return Wish(pack=pack, version=version, private=digests(accepted), halved=halved)


def bring_pack(
    folders: Sequence[Path], root: Path, wish: Wish, *, anew: bool, json: bool
) -> None:
    """Make a pack of weights the operator has; print where it is and what it is."""
    from models.importing import bring

    def report(line: str) -> None:
        if not json:
            err().print(line, markup=False, style="dim")

    with busy("making the pack", quiet=json):
        folder = bring(folders, root, wish, anew=anew, report=report)
    verify_pack(folder, json=json)


def list_packs(root: Path, *, json: bool) -> None:
    """Print every pack that is offered or there."""
    from models.inventory import inventory

    entries = inventory(root)
    if json:
        print_json([_plain(entry) for entry in entries])
        return
    from rich.table import Table

    table = Table("pack", "version", "state", "licence", "commercial use", box=None)
    for entry in entries:
        may = "yes" if entry.commercial else "no"
        table.add_row(entry.id, entry.version, entry.state, entry.licence, may)
    out().print(table)


def _plain(entry: object) -> dict[str, object]:
    from dataclasses import asdict, is_dataclass

    if is_dataclass(entry) and not isinstance(entry, type):
        plain = asdict(entry)
        return {key: str(v) if key == "folder" else v for key, v in plain.items()}
    raise TypeError(type(entry))


def verify_pack(folder: Path, trust: Path | None = None, *, json: bool) -> None:
    """Print that the pack is what its manifest says, or raise `PackRefused`.

    With `trust`, a folder of public keys, publisher and approver must have signed.
    """
    from models.signature import Trust
    from models.verify import verify

    pack = verify(folder, trust=None if trust is None else Trust.load(trust))
    said = {"folder": str(folder), "verified": True, "signed": trust is not None}
    if json:
        print_json(described(pack) | said)
    else:
        signed = "" if trust is None else " and signed by both"
        say(f"pack {pack.id} {pack.version} verified{signed}: {summary(pack)}")


def described(pack: Pack) -> dict[str, object]:
    """Return what a script wants to know of a pack."""
    return {
        "id": pack.id,
        "version": pack.version,
        "digest": pack.pack_digest,
        "licence": pack.licence,
        "commercial": pack.commercial,
        "files": len(pack.files),
    }


def summary(pack: Pack) -> str:
    """Return what a person wants to know of a pack, in half a line."""
    return f"{len(pack.files)} files, {pack.licence}, {pack.pack_digest[:12]}"
