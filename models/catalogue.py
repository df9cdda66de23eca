"""The catalogue: which packs can be made, and from exactly which published files.

Light: importing this imports msgspec and nothing heavier.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import msgspec
from msgspec import Meta

from models.errors import UnknownPack
from models.manifest import (
    Contract,
    Digest,
    FileName,
    Grid,
    Id,
    Input,
    SemVer,
    Shape,
    Size,
    Text,
)

HERE = Path(__file__).with_name("catalogue.toml")


class Source(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The package that holds the published files, as the package index knows it."""

    package: Text
    version: Text
    python: Text
    platform: Text


class Output(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """An output: its name in the published file, and its name and shape in ours."""

    upstream: Text
    name: Text
    shape: Shape


class Notice(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A licence text that goes with the pack."""

    file: FileName
    member: Text
    sha256: Digest
    bytes: Size


class Model(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A published network: member of the package, digest, size, contract, licence."""

    name: Id
    contract: Contract
    licence: Text
    commercial: bool
    member: Text
    sha256: Digest
    bytes: Size
    input: Input
    outputs: tuple[Output, ...]
    grids: tuple[Grid, ...] = ()


class Pack(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A pack that can be made."""

    id: Id
    version: SemVer
    licence: Text
    source: Source
    models: Annotated[tuple[Model, ...], Meta(min_length=1)] = msgspec.field(
        name="model"
    )
    notices: tuple[Notice, ...] = msgspec.field(name="notice", default=())

    @property
    def commercial(self) -> bool:
        """Whether every network in it may be used commercially."""
        return all(model.commercial for model in self.models)


class Catalogue(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Every pack that can be made."""

    packs: tuple[Pack, ...] = msgspec.field(name="pack")

    def pack(self, name: str) -> Pack:
        """Return the pack called `name`.

        Raises:
            UnknownPack: there is none; the message lists those there are.
        """
        for pack in self.packs:
            if pack.id == name:
                return pack
        known = ", ".join(pack.id for pack in self.packs)
        raise UnknownPack(f"no pack {name!r} in the catalogue; it has: {known}")


def load(path: Path = HERE) -> Catalogue:
    """Return the catalogue at `path`.

    Raises:
        msgspec.ValidationError: it has an unknown key or a wrong type.
    """
    return msgspec.toml.decode(path.read_bytes(), type=Catalogue)
