"""The manifest of a pack: `pack.json`, strictly decoded.

The file is canonical JSON (RFC 8785: keys sorted, no space between tokens, integers
only), so its SHA-256 is the digest of the pack, and `sha256sum pack.json` says the
same.  Unknown keys and wrong types are refused by name.
"""

from __future__ import annotations

import hashlib
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from models.errors import PackRefused

NAME = "pack.json"
BYTES_MAX = 65_536
"""How long a manifest may be."""

GOLDEN_TOLERANCE = 1e-3
"""How far any output may lie from the golden one, at float32.

Boxes and meshes are in pixels of the input, scores are logits.  Measured: 2e-4 at
most, on a CPU at every level of optimisation.
"""

Id = Annotated[str, Meta(pattern=r"^[a-z][a-z0-9_-]{0,63}\Z")]
FileName = Annotated[
    str, Meta(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]{0,63}(\.[a-z0-9]{1,8})?\Z")
]
SemVer = Annotated[str, Meta(pattern=r"^(0|[1-9]\d*)\.(0|[1-9]\d*)\.(0|[1-9]\d*)\Z")]
Digest = Annotated[str, Meta(pattern=r"^[0-9a-f]{64}\Z")]
Text = Annotated[str, Meta(min_length=1, max_length=256)]
Size = Annotated[int, Meta(ge=0, le=2**40)]
Shape = Annotated[
    tuple[Annotated[int, Meta(ge=1, le=2**20)], ...], Meta(min_length=1, max_length=8)
]
Contract = Literal["blazeface", "facemesh"]
"""What a network takes and gives; the engine has one reader for each."""


class Input(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The image a network takes: RGB, NHWC, float32, one shape only.

    `low` and `high` are what the pixel values 0 and 255 become:
    x = low + pixel * (high - low) / 255.
    """

    name: Text
    shape: Shape
    low: int
    high: int


class Output(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A float32 tensor a network gives."""

    name: Text
    shape: Shape


class Grid(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A square grid of anchors over the input, row by row.

    Each of the `side` x `side` cells holds `per_cell` anchors in a row, all at the
    centre of the cell: ((column + 0.5) / side, (row + 0.5) / side) of the input.
    """

    side: Annotated[int, Meta(ge=1, le=4096)]
    per_cell: Annotated[int, Meta(ge=1, le=64)]


class Upstream(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The published file a network was made from."""

    package: Text
    version: Text
    member: Text
    sha256: Digest
    bytes: Size


class Model(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One network of a pack.

    `grids` are the anchors of a `blazeface`, in the order of its outputs; other
    contracts have none.
    """

    name: Id
    file: FileName
    contract: Contract
    licence: Text
    commercial: bool
    input: Input
    outputs: Annotated[tuple[Output, ...], Meta(min_length=1, max_length=16)]
    upstream: Upstream
    grids: Annotated[tuple[Grid, ...], Meta(max_length=8)] = ()


class File(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A file of a pack, and the proof of its content."""

    name: FileName
    sha256: Digest
    bytes: Size


class Pack(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A prepared pack: what it is, what lies in it, under which licence.

    `golden` names the file that holds, for every model, an input and the outputs it
    must give, as float32 arrays called `<model>/<tensor>`.
    """

    id: Id
    version: SemVer
    licence: Text
    commercial: bool
    golden: FileName
    models: Annotated[tuple[Model, ...], Meta(min_length=1, max_length=64)]
    files: Annotated[tuple[File, ...], Meta(min_length=1, max_length=256)]
    format: Literal[1] = 1

    def __post_init__(self) -> None:
        """Refuse a manifest whose parts do not fit together.

        Raises:
            ValueError: it names a file or a model twice, or a file it does not list,
                or calls itself commercial over a model that is not.
        """
        files = [file.name for file in self.files]
        models = [model.name for model in self.models]
        if len({*files}) != len(files) or len({*models}) != len(models):
            raise ValueError("a file or a model is named twice")
        for name in (self.golden, *(model.file for model in self.models)):
            if name not in files:
                raise ValueError(f"{name} is not among its files")
        if self.commercial and not all(model.commercial for model in self.models):
            raise ValueError("it is commercial and one of its models is not")

    @property
    def pack_digest(self) -> str:
        """SHA-256 of the canonical manifest, 64 hexadecimal digits."""
        return hashlib.sha256(encode(self)).hexdigest()

    def model(self, name: str) -> Model:
        """Return the model called `name`.

        Raises:
            KeyError: the pack has none.
        """
        return {model.name: model for model in self.models}[name]


def encode(pack: Pack) -> bytes:
    """Return the canonical bytes of `pack`: what `pack.json` holds."""
    return msgspec.json.encode(pack, order="sorted")


def decode(raw: bytes) -> Pack:
    """Return the manifest in `raw`.

    Raises:
        PackRefused: it is too long, not JSON, has an unknown key or a wrong type, or
            is not the canonical encoding of what it says.
    """
    if len(raw) > BYTES_MAX:
        raise PackRefused(f"{NAME}: more than {BYTES_MAX} bytes")
    try:
        pack = msgspec.json.decode(raw, type=Pack)
    except (msgspec.DecodeError, ValueError, RecursionError) as error:
        raise PackRefused(f"{NAME}: {error}") from error
    if encode(pack) != raw:
        raise PackRefused(f"{NAME}: not canonical (a key twice, a space, an order)")
    return pack
