"""The catalogue: every network Guise can run, and the packs that can be made of them.

Light: importing this imports msgspec and nothing heavier.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from models import manifest
from models.errors import UnknownModel, UnknownPack
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
    Template,
    Tensor,
    Text,
    Tier,
    Upstream,
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


class Member(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A network out of a package: its member, digest, size, contract and licence."""

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


class Model(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A network the operator brings, as it is published.

    `file` and `aliases` are the names it is published under; without a `sha256`
    nobody has said which bytes are meant.  Tensors have the names they have in the
    file, outputs in the order of the contract.
    """

    name: Id
    contract: Contract
    file: Text
    licence: Text
    commercial: bool
    url: Text
    input: Input
    outputs: Annotated[tuple[Tensor, ...], Meta(min_length=1, max_length=16)]
    sha256: Digest | None = None
    bytes: Size | None = None
    aliases: tuple[Text, ...] = ()
    vectors: tuple[Tensor, ...] = ()
    template: Template | None = None
    scale: int = 1
    labels: tuple[Text, ...] = ()
    precision: Literal["fp32", "fp16"] = "fp32"

    @property
    def names(self) -> tuple[str, ...]:
        """Every file name it is published under."""
        return (self.file, *self.aliases)

    def described(
        self, sha256: str, size: int, *, private: bool = False
    ) -> manifest.Model:
        """Return what a manifest says of the network made from a file of that digest.

        `size` is the file's, in bytes.

        A private build is never called commercial: nobody here knows its licence.
        """
        return manifest.Model(
            name=self.name,
            file=f"{self.name}.onnx",
            contract=self.contract,
            licence=self.licence,
            commercial=self.commercial and not private,
            input=self.input,
            outputs=self.outputs,
            upstream=Upstream(
                source=self.url, sha256=sha256, bytes=size, private=private
            ),
            vectors=self.vectors,
            template=self.template,
            scale=self.scale,
            labels=self.labels,
            precision=self.precision,
        )


class Pack(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A pack that can be made: of a package's members, or of what an operator has.

    `needs` names the models it cannot do without, `takes` those it holds as well when
    the operator has them.
    """

    id: Id
    version: SemVer
    licence: Text
    tier: Tier = "lite"
    detector_side: Annotated[int, Meta(ge=0, le=4096, multiple_of=32)] = 0
    source: Source | None = None
    models: tuple[Member, ...] = msgspec.field(name="model", default=())
    notices: tuple[Notice, ...] = msgspec.field(name="notice", default=())
    needs: tuple[Id, ...] = ()
    takes: tuple[Id, ...] = ()

    def __post_init__(self) -> None:
        """Refuse a pack that is made of nothing, or in two ways.

        Raises:
            ValueError: it names no package with members and no models, or both.
        """
        if bool(self.source and self.models) == bool(self.needs):
            raise ValueError("a pack is made of a package's members or of models")


class Catalogue(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Every pack that can be made, and every network that can be brought."""

    packs: tuple[Pack, ...] = msgspec.field(name="pack")
    models: tuple[Model, ...] = msgspec.field(name="model", default=())

    def __post_init__(self) -> None:
        """Refuse a pack of models that are not there, and a name said twice.

        Raises:
            ValueError: so it is; the message names it.
        """
        names = [model.name for model in self.models]
        if len({*names}) != len(names):
            raise ValueError("a model is named twice")
        for pack in self.packs:
            for name in (*pack.needs, *pack.takes):
                if name not in names:
                    raise ValueError(f"{pack.id}: no model {name}")

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

    def model(self, name: str) -> Model:
        """Return the network called `name`.

        Raises:
            UnknownModel: there is none; the message lists those there are.
        """
        for model in self.models:
            if model.name == name:
                return model
        known = ", ".join(model.name for model in self.models)
        raise UnknownModel(f"no model {name!r} in the catalogue; it has: {known}")

    def commercial(self, pack: Pack) -> bool:
        """Whether every network the pack cannot do without may be used commercially."""
        members = all(member.commercial for member in pack.models)
        return members and all(self.model(name).commercial for name in pack.needs)


def load(path: Path = HERE) -> Catalogue:
    """Return the catalogue at `path`.

    Raises:
        msgspec.ValidationError: it has an unknown key or a wrong type.
    """
    return msgspec.toml.decode(path.read_bytes(), type=Catalogue)
