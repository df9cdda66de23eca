"""Turn published networks into the files of a pack.

A network is simplified once, for every CPU, and stored with an input and the outputs
it must give.  The weights of a large one lie in a file of their own, to be mapped into
memory.  The same files give the same bytes, each time.
"""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

import msgspec

from models import catalogue, fp16, golden, manifest, optimise
from models.convert import convert
from models.errors import DigestMismatch, UnsupportedNetwork

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from pathlib import Path

    from onnxruntime import InferenceSession

    from models.catalogue import Member, Pack
    from models.manifest import Shape

    Report = Callable[[str], None]

Stamp = tuple[int, int, int, int]
"""What a file shows from outside: device, inode, size, time of change."""


@dataclass(frozen=True, slots=True)
class Brought:
    """A network the operator brought: what it is, where it lies, its proved digest.

    `stamp` is how the file looked when it was hashed; `private` that it is a build of
    the operator's own.
    """

    model: catalogue.Model
    path: Path
    sha256: str
    size: int
    stamp: Stamp
    private: bool = False


def prepare(
    pack: Pack,
    originals: Mapping[str, bytes],
    folder: Path,
    *,
    report: Report,
) -> manifest.Pack:
    """Write the files of a `pack` of members into the empty `folder`.

    Return the manifest.  `originals` holds the published files by member name, already
    proved.  The same files give the same bytes, each time and on every CPU.

    Raises:
        UnsupportedNetwork: a network cannot be converted.
    """
    arrays: golden.Arrays = {}
    for model in pack.models:
        report(f"preparing {model.name}")
        ready = optimise.simplified(convert(originals[model.member], model))
        (folder / f"{model.name}.onnx").write_bytes(ready.SerializeToString())
        arrays |= golden.named(model.name, golden.example(ready, model))
    golden.write(folder / golden.FILE, arrays)
    for notice in pack.notices:
        (folder / notice.file).write_bytes(originals[notice.member])
    return _finished(pack, folder, [_member(pack, model) for model in pack.models])


def assemble(
    pack: Pack,
    brought: Sequence[Brought],
    folder: Path,
    *,
    halved: bool = False,
    papers: Mapping[str, bytes] | None = None,
    report: Report,
) -> manifest.Pack:
    """Write a `pack` of what was brought into the empty `folder`; return its manifest.

    `halved` asks for float16 where that is worth it; `papers` are files that go with
    the pack, by name.  One network is in memory at a time.  The same files give the
    same bytes on the same machine; on another kind of CPU the golden outputs may
    differ in their last bits, and nothing else.

    Raises:
        UnsupportedNetwork: a file is no network of its contract, or what was made of
            it does not give what it gives.
        DigestMismatch: a file is not the one any more that was hashed.
    """
    arrays: golden.Arrays = {}
    models: list[manifest.Model] = []
    for one in brought:
        report(f"preparing {one.model.name}")
        halve = halved and one.model.contract in fp16.HALVED
        model, examples = _one(one, folder, halve=halve)
        arrays |= golden.named(model.name, examples)
        models.append(model)
    golden.write(folder / golden.FILE, arrays)
    for name, text in (papers or {}).items():
        (folder / name).write_bytes(text)
    return _finished(pack, folder, models)


def stamp(path: Path) -> Stamp:
    """Return what changes when somebody writes to the file at `path`."""
    there = path.stat()
    return there.st_dev, there.st_ino, there.st_size, there.st_mtime_ns


# --- one network -------------------------------------------------------------


def _one(
    brought: Brought, folder: Path, *, halve: bool
) -> tuple[manifest.Model, golden.Arrays]:
    """Prepare one network: what the manifest says of it, and its golden arrays."""
    with optimise.alone(brought.path) as source:
        model, examples = _published(brought, source)
        weights, half = optimise.portable(source, folder, model.name)
        if model.contract == "inswapper":
            name = f"{model.name}-{optimise.EMAP}"
            optimise.save(folder / name, optimise.emap(source))
            model = msgspec.structs.replace(model, emap=name)
    if stamp(brought.path) != brought.stamp:
        raise DigestMismatch(f"{brought.path.name}: it changed while it was read")
    path = folder / model.file
    with optimise.editing(path) as network:
        optimise.declare(network.graph, model)
    model = optimise.batched(path, model)
    if halve and not half:
        weights, half = fp16.halve(folder, model.name), True
    model = msgspec.structs.replace(
        model,
        weights=weights,
        precision="fp16" if half else "fp32",
        tolerance_micro=fp16.TOLERANCE_MICRO if half else golden.TOLERANCE_MICRO,
    )
    _prove(path, model, examples)
    return model, examples


def _published(brought: Brought, source: Path) -> tuple[manifest.Model, golden.Arrays]:
    """Describe the network as it is, and have it compute its golden outputs."""
    session = golden.session(source, "ORT_DISABLE_ALL", threads=1)
    described = brought.model.described(
        brought.sha256, brought.size, private=brought.private
    )
    model = _named(described, session)
    given = golden.inputs(model)
    return model, given | golden.computed(session, model, given)


def _named(model: manifest.Model, session: InferenceSession) -> manifest.Model:
    """Give the tensors the names and shapes they have in the file.

    An only input is the image, whatever its name; outputs of other names count in the
    order of the file, which is how insightface reads them.

    Raises:
        UnsupportedNetwork: inputs or outputs are not those of the contract.
    """
    inputs = {each.name: each for each in session.get_inputs()}
    outputs = {each.name: each for each in session.get_outputs()}
    image = model.input.name
    if len(inputs) == 1 and not model.vectors:
        (image,) = inputs
    wanted = {image, *(vector.name for vector in model.vectors)}
    if {*inputs} != wanted:
        has = ", ".join(inputs)
        raise UnsupportedNetwork(
            f"{model.name}: its inputs are {has}, not {', '.join(sorted(wanted))}"
        )
    names = [output.name for output in model.outputs]
    if not {*names} <= {*outputs}:
        if len(names) != len(outputs):
            raise UnsupportedNetwork(
                f"{model.name}: its outputs are {', '.join(outputs)}, "
                f"not {', '.join(names)}"
            )
        names = list(outputs)
    for each in (*inputs.values(), *(outputs[name] for name in names)):
        if each.type != "tensor(float)":
            raise UnsupportedNetwork(f"{model.name}: {each.name} is a {each.type}")
    shape = _shape(model.name, model.input.shape, inputs[image].shape)
    return msgspec.structs.replace(
        model,
        input=msgspec.structs.replace(model.input, name=image, shape=shape),
        outputs=tuple(
            manifest.Tensor(name, _ranked(output.shape, outputs[name].shape))
            for output, name in zip(model.outputs, names, strict=True)
        ),
    )


def _ranked(promised: Shape, actual: Sequence[int | str | None]) -> Shape:
    """Return an output's shape; detectors exported for batches have one in front."""
    return (1, *promised) if len(actual) == len(promised) + 1 else promised


def _shape(name: str, promised: Shape, actual: Sequence[int | str | None]) -> Shape:
    """Return the shape of an image: what the file fixes, and else what is published.

    Raises:
        UnsupportedNetwork: the file fixes another length than is published.
    """
    there = tuple(each if isinstance(each, int) else 0 for each in actual)
    if len(there) != len(promised) or any(
        a and b and a != b for a, b in zip(there, promised, strict=True)
    ):
        raise UnsupportedNetwork(f"{name}: its image is {there}, not {promised}")
    return tuple(b or a for a, b in zip(there, promised, strict=True))


def _prove(path: Path, model: manifest.Model, examples: golden.Arrays) -> None:
    """Refuse a prepared network that does not give what the published one gives.

    Raises:
        UnsupportedNetwork: it lies further than its tolerance.
    """
    session = golden.session(path, "ORT_ENABLE_EXTENDED")
    given = {each.name: examples[each.name] for each in session.get_inputs()}
    far = golden.furthest(golden.computed(session, model, given), examples)
    if far > model.tolerance_micro:
        raise UnsupportedNetwork(
            f"{model.name}: as {model.precision} it lies {far:.0f} millionths off what "
            f"is published, and {model.tolerance_micro} are allowed"
        )


# --- the manifest ------------------------------------------------------------


def _finished(
    pack: Pack, folder: Path, models: Iterable[manifest.Model]
) -> manifest.Pack:
    """Write the manifest of what lies in `folder`; return it."""
    models = tuple(models)
    made = manifest.Pack(
        id=pack.id,
        version=pack.version,
        licence=pack.licence,
        commercial=all(model.commercial for model in models),
        golden=golden.FILE,
        models=models,
        files=tuple(_file(path) for path in sorted(folder.iterdir())),
        tier=pack.tier,
        detector_side=pack.detector_side,
    )
    (folder / manifest.NAME).write_bytes(manifest.encode(made))
    return made


def _member(pack: Pack, model: Member) -> manifest.Model:
    source = pack.source
    origin = f"{source.package} {source.version}" if source else pack.id
    return manifest.Model(
        name=model.name,
        file=f"{model.name}.onnx",
        contract=model.contract,
        licence=model.licence,
        commercial=model.commercial,
        input=model.input,
        outputs=tuple(
            manifest.Tensor(name=output.name, shape=output.shape)
            for output in model.outputs
        ),
        grids=model.grids,
        upstream=manifest.Upstream(
            source=f"{origin}: {model.member}",
            sha256=model.sha256,
            bytes=model.bytes,
        ),
    )


def _file(path: Path) -> manifest.File:
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
        return manifest.File(
            name=path.name, sha256=digest, bytes=os.fstat(file.fileno()).st_size
        )
