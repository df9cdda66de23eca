"""Turn published networks into the files of a pack.

A network is converted, optimised once, and stored with an input and the outputs it
must give.  The level is ORT_ENABLE_BASIC: what it writes is right on every CPU, and
the same bytes each time; higher levels write this CPU's block layout into the file,
which on another CPU can be wrong without an error.  The weights stay inside: the
largest network has 2.4 MB, and loads in 3 ms either way.
"""

from __future__ import annotations

import hashlib
import math
import tempfile
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING

from models import manifest, runtime
from models.convert import convert

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    import numpy as np
    from numpy.typing import NDArray
    from onnx import ModelProto

    from models.catalogue import Member, Pack
    from models.manifest import Input

    Arrays = dict[str, NDArray[np.float32]]

GOLDEN = "golden.npz"

GRID = 4096
"""Golden outputs are whole multiples of 1/GRID: fine enough to find a fault, and so
coarse that float64 on another CPU rounds to the same value."""


def prepare(
    pack: Pack,
    originals: Mapping[str, bytes],
    folder: Path,
    *,
    report: Callable[[str], None],
) -> manifest.Pack:
    """Write the files of `pack` into the empty `folder`; return the manifest.

    `originals` holds the published files by member name, already proved.  The same
    files give the same bytes, each time and on every CPU.

    Raises:
        UnsupportedNetwork: a network cannot be converted.
    """
    golden: Arrays = {}
    for model in pack.models:
        report(f"preparing {model.name}")
        ready = optimise(convert(originals[model.member], model))
        (folder / f"{model.name}.onnx").write_bytes(ready.SerializeToString())
        for tensor, values in example(ready, model).items():
            golden[f"{model.name}/{tensor}"] = values
    _write_arrays(folder / GOLDEN, golden)
    for notice in pack.notices:
        (folder / notice.file).write_bytes(originals[notice.member])
    made = _manifest(pack, folder)
    (folder / manifest.NAME).write_bytes(manifest.encode(made))
    return made


# --- the network -------------------------------------------------------------


def optimise(model: ModelProto) -> ModelProto:
    """Return `model` simplified as far as it stays right on every CPU.

    ONNX Runtime names every operator set it knows in what it writes; those that no
    node uses are dropped, so that the file asks for ONNX itself and nothing else.
    """
    import onnx

    onnxruntime = runtime.load()
    options = onnxruntime.SessionOptions()
    level = onnxruntime.GraphOptimizationLevel
    options.graph_optimization_level = level.ORT_ENABLE_BASIC
    with tempfile.TemporaryDirectory(prefix="guise-") as folder:
        path = Path(folder, "model.onnx")
        options.optimized_model_filepath = str(path)
        onnxruntime.InferenceSession(
            model.SerializeToString(), options, providers=["CPUExecutionProvider"]
        )
        simple = onnx.load(path)
    used = {node.domain for node in simple.graph.node}
    sets = [one for one in simple.opset_import if one.domain in used]
    del simple.opset_import[:]
    simple.opset_import.extend(sets)
    return simple


# --- what it must give -------------------------------------------------------


def example(ready: ModelProto, model: Member) -> Arrays:
    """Return a golden input of the model and the outputs it must give, by tensor.

    The input is noise, so that the outputs depend on every weight.  They are computed
    by ONNX's reference implementation at float64 and rounded to a grid: another
    CPU's last bits are lost in the rounding, and the pack is the same everywhere.
    """
    import numpy as np
    from onnx.reference import ReferenceEvaluator

    image = noise(f"guise golden {model.name}", model.input)
    names = [output.name for output in model.outputs]
    outputs = ReferenceEvaluator(_doubled(ready)).run(
        names, {model.input.name: image.astype(np.float64)}
    )
    arrays = {model.input.name: image}
    for name, values in zip(names, outputs, strict=True):
        arrays[name] = (np.rint(values * GRID) / GRID).astype(np.float32)
    return arrays


def noise(seed: str, expected: Input) -> NDArray[np.float32]:
    """Return an image of uniform noise as `expected` wants it.

    SHAKE-256 makes it: numpy does not promise the same numbers in its next version.
    """
    import numpy as np

    count = math.prod(expected.shape)
    pixels = np.frombuffer(hashlib.shake_256(seed.encode()).digest(count), np.uint8)
    levels = pixels.reshape(expected.shape).astype(np.float64)
    return normalised(levels, expected)


def normalised(levels: NDArray[np.float64], expected: Input) -> NDArray[np.float32]:
    """Return pixels 0 to 255, laid out as `expected` asks, as the numbers it asks."""
    import numpy as np

    shape = (1, 1, 1, 3) if expected.layout == "nhwc" else (1, 3, 1, 1)
    mean, std = (
        np.array(milli, np.float64).reshape(shape) / 1000
        for milli in (expected.mean, expected.std)
    )
    return ((levels - mean) / std).astype(np.float32)


def _doubled(model: ModelProto) -> ModelProto:
    """Return `model` with float64 weights, input and outputs."""
    import numpy as np
    from onnx import ModelProto, TensorProto, numpy_helper

    double = ModelProto()
    double.CopyFrom(model)
    for tensor in double.graph.initializer:
        if tensor.data_type == TensorProto.FLOAT:
            values = numpy_helper.to_array(tensor).astype(np.float64)
            tensor.CopyFrom(numpy_helper.from_array(values, tensor.name))
    for value in (*double.graph.input, *double.graph.output):
        value.type.tensor_type.elem_type = TensorProto.DOUBLE
    return double


def _write_arrays(path: Path, arrays: Arrays) -> None:
    """Write what `numpy.load` reads.  Unlike `numpy.savez`: no clock, no order."""
    import numpy as np

    with zipfile.ZipFile(path, "w") as archive:
        for name in sorted(arrays):
            member = zipfile.ZipInfo(f"{name}.npy")  # dated 1980, always
            with archive.open(member, "w") as file:
                np.lib.format.write_array(file, arrays[name], allow_pickle=False)


# --- the manifest ------------------------------------------------------------


def _manifest(pack: Pack, folder: Path) -> manifest.Pack:
    return manifest.Pack(
        id=pack.id,
        version=pack.version,
        licence=pack.licence,
        commercial=all(model.commercial for model in pack.models),
        golden=GOLDEN,
        models=tuple(_model(pack, model) for model in pack.models),
        files=tuple(_files(sorted(folder.iterdir()))),
    )


def _model(pack: Pack, model: Member) -> manifest.Model:
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


def _files(paths: Iterable[Path]) -> Iterable[manifest.File]:
    for path in paths:
        raw = path.read_bytes()
        digest = hashlib.sha256(raw).hexdigest()
        yield manifest.File(name=path.name, sha256=digest, bytes=len(raw))
