"""Turn published networks into the files of a pack.

A network is converted, optimised once, and stored with an input and the outputs it
must give.  The level is ORT_ENABLE_BASIC: what it writes is right on every CPU, and
the same bytes each time; higher levels write this CPU's block layout into the file,
which on another CPU can be wrong without an error.  The weights stay inside: the
largest network has 2.4 MB, and loads in 3 ms either way.
"""

from __future__ import annotations

import hashlib
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from models import manifest
from models.convert import convert

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    import numpy as np
    from numpy.typing import NDArray

    from models.catalogue import Model, Pack
    from models.manifest import Input

    Arrays = dict[str, NDArray[np.float32]]

GOLDEN = "golden.npz"


def prepare(
    pack: Pack,
    originals: Mapping[str, bytes],
    folder: Path,
    *,
    report: Callable[[str], None],
) -> manifest.Pack:
    """Write the files of `pack` into the empty `folder`; return the manifest.

    `originals` holds the published files by member name, already proved.  Done twice,
    on one kind of machine, it writes the same bytes twice.

    Raises:
        UnsupportedNetwork: a network cannot be converted.
    """
    golden: Arrays = {}
    for model in pack.models:
        report(f"preparing {model.name}")
        ready = optimise(convert(originals[model.member], model).SerializeToString())
        (folder / f"{model.name}.onnx").write_bytes(ready)
        for tensor, values in example(ready, model.name, model.input).items():
            golden[f"{model.name}/{tensor}"] = values
    _write_arrays(folder / GOLDEN, golden)
    for notice in pack.notices:
        (folder / notice.file).write_bytes(originals[notice.member])
    made = _manifest(pack, folder)
    (folder / manifest.NAME).write_bytes(manifest.encode(made))
    return made


def optimise(raw: bytes) -> bytes:
    """Return the ONNX model `raw`, simplified as far as every CPU allows.

    ONNX Runtime names every operator set it knows in what it writes; those that no
    node uses are dropped, so that the file asks for ONNX itself and nothing else.
    """
    import onnx
    import onnxruntime

    options = onnxruntime.SessionOptions()
    level = onnxruntime.GraphOptimizationLevel
    options.graph_optimization_level = level.ORT_ENABLE_BASIC
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "model.onnx")
        options.optimized_model_filepath = str(path)
        _session(raw, options)
        model = onnx.load(path)
    used = {node.domain for node in model.graph.node}
    sets = [one for one in model.opset_import if one.domain in used]
    del model.opset_import[:]
    model.opset_import.extend(sets)
    return model.SerializeToString(deterministic=True)


def example(raw: bytes, name: str, expected: Input) -> Arrays:
    """Return a golden input of the model and the outputs it gives, by tensor name.

    The input is noise with a seed, so the outputs depend on every weight; they are
    computed at float32 on the CPU, without any optimisation.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    level = onnxruntime.GraphOptimizationLevel
    options.graph_optimization_level = level.ORT_DISABLE_ALL
    session = _session(raw, options)
    image = noise(f"guise golden {name}", expected)
    names = [output.name for output in session.get_outputs()]
    outputs = session.run(names, {expected.name: image})
    return {expected.name: image, **dict(zip(names, outputs, strict=True))}


def noise(seed: str, expected: Input) -> NDArray[np.float32]:
    """Return an image of uniform noise as `expected` wants it.

    SHAKE-256 makes it: numpy does not promise the same numbers in its next version.
    """
    import numpy as np

    count = int(np.prod(expected.shape))
    pixels = np.frombuffer(hashlib.shake_256(seed.encode()).digest(count), np.uint8)
    scale = np.float32((expected.high - expected.low) / 255)
    image = pixels.astype(np.float32) * scale + np.float32(expected.low)
    return image.reshape(expected.shape)


def _session(raw: bytes, options: Any) -> Any:
    import onnxruntime

    return onnxruntime.InferenceSession(
        raw, options, providers=["CPUExecutionProvider"]
    )


def _write_arrays(path: Path, arrays: Arrays) -> None:
    import numpy as np

    with path.open("wb") as file:
        np.savez(file, **{name: arrays[name] for name in sorted(arrays)})  # type: ignore[arg-type]


def _manifest(pack: Pack, folder: Path) -> manifest.Pack:
    return manifest.Pack(
        id=pack.id,
        version=pack.version,
        licence=pack.licence,
        commercial=pack.commercial,
        golden=GOLDEN,
        models=tuple(_model(pack, model) for model in pack.models),
        files=tuple(_files(sorted(folder.iterdir()))),
    )


def _model(pack: Pack, model: Model) -> manifest.Model:
    return manifest.Model(
        name=model.name,
        file=f"{model.name}.onnx",
        contract=model.contract,
        licence=model.licence,
        input=model.input,
        outputs=tuple(
            manifest.Output(name=output.name, shape=output.shape)
            for output in model.outputs
        ),
        grids=model.grids,
        upstream=manifest.Upstream(
            package=pack.source.package,
            version=pack.source.version,
            member=model.member,
            sha256=model.sha256,
            bytes=model.bytes,
        ),
    )


def _files(paths: Iterable[Path]) -> Iterable[manifest.File]:
    for path in paths:
        raw = path.read_bytes()
        digest = hashlib.sha256(raw).hexdigest()
        yield manifest.File(name=path.name, sha256=digest, bytes=len(raw))
