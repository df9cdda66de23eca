"""The manifest of a pack: `pack.json`, strictly decoded.

The file is canonical JSON (RFC 8785: keys sorted, no space between tokens, integers
only), so its SHA-256 is the digest of the pack, and `sha256sum pack.json` says the
same.  Unknown keys and wrong types are refused by name.
"""

from __future__ import annotations

import hashlib
import itertools
from typing import Annotated, Final, Literal

import msgspec
from msgspec import Meta

from models.errors import PackRefused

NAME = "pack.json"
BYTES_MAX = 65_536
"""How long a manifest may be."""

FORMAT = 2
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
    tuple[Annotated[int, Meta(ge=0, le=2**20)], ...], Meta(min_length=1, max_length=8)
]
"""The length of each axis; 0 where the network takes any."""
Milli = Annotated[int, Meta(ge=0, le=255_000)]
"""Thousandths of a pixel's level, so that a manifest holds whole numbers only."""
Contract = Literal[
    "blazeface",
    "facemesh",
    "scrfd",
    "retinaface",
    "yunet",
    "arcface",
    "inswapper",
    "hyperswap",
    "ghost",
    "crossface",
    "gfpgan",
    "restoreformer",
    "realesrgan",
    "swin2sr",
    "classifier",
    "bisenet",
]
"""What a network takes and gives; the engine has one reader for each."""
Tier = Literal["lite", "fast", "standard", "quality"]
Template = Literal["arcface_112", "arcface_112_v1", "arcface_128", "ffhq_512"]
"""Where the five points of an aligned face lie; see `engine.align`."""


class Input(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The image a network takes, float32: its axes, its colours, its numbers.

    `mean` and `std` are per channel, in the network's order of channels, in
    thousandths of a level: x = (pixel - mean / 1000) / (std / 1000).
    """

    name: Text
    shape: Shape
    mean: tuple[Milli, Milli, Milli]
    std: tuple[Milli, Milli, Milli]
    layout: Literal["nhwc", "nchw"] = "nchw"
    order: Literal["rgb", "bgr"] = "rgb"

    def __post_init__(self) -> None:
        """Refuse what cannot be divided by.

        Raises:
            ValueError: a deviation is 0.
        """
        if not all(self.std):
            raise ValueError("std: 0 is no deviation")


class Tensor(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A float32 tensor a network takes beside its image, or gives."""

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
    """The file a network was made from.

    `source` says where it is published; `private` that it is not the published
    file but a build of the operator's own, accepted by digest.
    """

    source: Text
    sha256: Digest
    bytes: Size
    private: bool = False


class Model(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One network of a pack.

    `vectors` are the inputs beside the image, `outputs` in the order of the
    contract.  `grids` are the anchors of a `blazeface`, in the order of its outputs;
    `template` is how a face lies in the input, `scale` how far an upscaler enlarges,
    `labels` what a classifier tells apart.  `weights` and `emap` name the files of
    weights that are mapped into memory and of an inswapper's map.  `tolerance_micro`
    is how far an output may lie from the golden one, in millionths of the largest
    golden value of that output; 0 stands for GOLDEN_TOLERANCE.
    """

    name: Id
    file: FileName
    contract: Contract
    licence: Text
    commercial: bool
    input: Input
    outputs: Annotated[tuple[Tensor, ...], Meta(min_length=1, max_length=16)]
    upstream: Upstream
    vectors: Annotated[tuple[Tensor, ...], Meta(max_length=4)] = ()
    grids: Annotated[tuple[Grid, ...], Meta(max_length=8)] = ()
    template: Template | None = None
    scale: Annotated[int, Meta(ge=1, le=8)] = 1
    labels: Annotated[tuple[Text, ...], Meta(max_length=1000)] = ()
    precision: Literal["fp32", "fp16"] = "fp32"
    weights: FileName | None = None
    emap: FileName | None = None
    tolerance_micro: Annotated[int, Meta(ge=0, le=1_000_000)] = 0


class File(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A file of a pack, and the proof of its content."""

    name: FileName
    sha256: Digest
    bytes: Size


class Pack(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A prepared pack: what it is, what lies in it, under which licence.

    `golden` names the file that holds, for every model, an input and the outputs it
    must give, as float32 arrays called `<model>/<tensor>`.  `detector_side` is how
    large the detector sees a picture, 0 for the network's own size.
    """

    id: Id
    version: SemVer
    licence: Text
    commercial: bool
    golden: FileName
    models: Annotated[tuple[Model, ...], Meta(min_length=1, max_length=64)]
    files: Annotated[tuple[File, ...], Meta(min_length=1, max_length=256)]
    tier: Tier = "lite"
    detector_side: Annotated[int, Meta(ge=0, le=4096, multiple_of=32)] = 0
    format: Literal[2] = 2

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
        named = [(model.file, model.weights, model.emap) for model in self.models]
        for name in (self.golden, *itertools.chain.from_iterable(named)):
            if name is not None and name not in files:
                raise ValueError(f"{name} is not among its files")
        if self.commercial and not all(model.commercial for model in self.models):
            raise ValueError("it is commercial and one of its models is not")

    @property
    def pack_digest(self) -> str:
        """SHA-256 of the canonical manifest, 64 hexadecimal digits."""
        return hashlib.sha256(encode(self)).hexdigest()

    def of(self, contract: Contract) -> tuple[Model, ...]:
        """Return the models of one contract."""
        return tuple(model for model in self.models if model.contract == contract)

    def model(self, name: str) -> Model:
        """Return the model called `name`.

        Raises:
            KeyError: the pack has none.
        """
        return {model.name: model for model in self.models}[name]


class _Format(msgspec.Struct, frozen=True):
    format: int


def encode(pack: Pack) -> bytes:
    """Return the canonical bytes of `pack`: what `pack.json` holds."""
    return msgspec.json.encode(pack, order="sorted")


# Made while one thread imports this: msgspec is not safe where two threads are the
# first to read the same kind of thing.
_FORMAT: Final = msgspec.json.Decoder(_Format)
_PACK: Final = msgspec.json.Decoder(Pack)


def decode(raw: bytes) -> Pack:
    """Return the manifest in `raw`.

    Raises:
        PackRefused: it is too long, not JSON, has an unknown key or a wrong type, or
            is not the canonical encoding of what it says.
    """
    if len(raw) > BYTES_MAX:
        raise PackRefused(f"{NAME}: more than {BYTES_MAX} bytes")
    try:
        written = _FORMAT.decode(raw).format
        if written != FORMAT:
            raise PackRefused(
                f"{NAME}: format {written}, and this reads {FORMAT}: make the pack anew"
            )
        pack = _PACK.decode(raw)
    except (msgspec.DecodeError, ValueError, RecursionError) as error:
        raise PackRefused(f"{NAME}: {error}") from error
    if encode(pack) != raw:
        raise PackRefused(f"{NAME}: not canonical (a key twice, a space, an order)")
    return pack
