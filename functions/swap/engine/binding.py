"""Inputs and outputs that stay where the network runs: ONNX Runtime's IOBinding.

Without it each run on a GPU allocates its inputs there anew, and its outputs on the
way back.  Here they lie in buffers made once for each shape: a run copies in, computes,
copies out.  As their addresses stay, a network of static shape can be captured as a
CUDA graph in its first run and replayed in the others, which saves launching its nodes
one by one.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from itertools import count
from typing import TYPE_CHECKING, Any, Final, Literal

import numpy as np

from models.runtime import load as load_onnxruntime

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    import onnxruntime

    from functions.swap.engine.arrays import Floats
    from models.manifest import Model

    Shapes = dict[str, tuple[int, ...]]
    Where = tuple[Literal["cpu", "cuda"], int]

SHAPES_MAX: Final = 16
"""For how many shapes of input there are buffers: the batches of an embedder."""


class Binding:
    """Stands for a session before `Network`: the same `run`, through kept buffers.

    They lie on `device` number `number`, as ONNX Runtime names it.  Safe to call from
    several threads; as the buffers are shared, one run waits for the other.  With
    `graph` the session is one with `enable_cuda_graph`, and `model` is `static`.
    """

    def __init__(
        self,
        session: onnxruntime.InferenceSession,
        model: Model,
        device: Literal["cpu", "cuda"],
        number: int = 0,
        *,
        graph: bool = False,
    ) -> None:
        self._session = session
        self._model = model
        self._where: Where = device, number
        self._graphs = count(1) if graph else None
        self._kept: OrderedDict[object, _Buffers] = OrderedDict()
        self._turn = threading.Lock()

    @property
    def shapes(self) -> int:
        """For how many shapes of input there are buffers now."""
        return len(self._kept)

    def run(self, names: Sequence[str], given: Mapping[str, Floats]) -> list[Floats]:
        """Return the outputs of those names, as `InferenceSession.run` does."""
        shapes = {name: value.shape for name, value in given.items()}
        key = tuple(sorted(shapes.items()))
        with self._turn:
            buffers = self._kept.pop(key, None) or self._buffers(shapes)
            self._kept[key] = buffers
            if len(self._kept) > SHAPES_MAX:
                self._kept.popitem(last=False)  # the longest unused
            outputs = buffers.run(given)
        return [outputs[name] for name in names]

    def _buffers(self, inputs: Shapes) -> _Buffers:
        options = load_onnxruntime().RunOptions()
        if self._graphs is not None:
            options.add_run_config_entry("gpu_graph_id", str(next(self._graphs)))
        buffers = _Buffers(self._session, self._where, inputs, options)
        outputs = {each.name: each.shape for each in self._model.outputs}
        if static(self._model):
            batch = inputs[self._model.input.name][0]
            buffers.allocate(
                {name: (batch, *shape[1:]) for name, shape in outputs.items()}
            )
        else:
            buffers.learn(outputs)
        return buffers


class _Buffers:
    """The buffers for one shape of input, bound to the session."""

    def __init__(
        self,
        session: onnxruntime.InferenceSession,
        where: Where,
        inputs: Shapes,
        options: onnxruntime.RunOptions,
    ) -> None:
        self._session = session
        self._where = where
        self._options = options
        self._binding = session.io_binding()
        self._inputs = {name: _buffer(shape, where) for name, shape in inputs.items()}
        for name, value in self._inputs.items():
            self._binding.bind_ortvalue_input(name, value)
        self._names: list[str] = []
        self._outputs: list[Any] = []

    def allocate(self, outputs: Shapes) -> None:
        """Make buffers for outputs of these shapes."""
        self._names = list(outputs)
        self._keep([_buffer(shape, self._where) for shape in outputs.values()])

    def learn(self, names: Iterable[str]) -> None:
        """Let the first run allocate the outputs; the others keep what it made.

        No contract has an output whose shape depends on more than the input's.
        """
        self._names = list(names)
        for name in self._names:
            self._binding.bind_output(name, *self._where)

    def run(self, given: Mapping[str, Floats]) -> dict[str, Floats]:
        """Return every output by name, in arrays of their own."""
        for name, value in given.items():
            self._inputs[name].update_inplace(np.ascontiguousarray(value))
        self._session.run_with_iobinding(self._binding, self._options)
        if not self._outputs:
            self._keep(self._binding.get_outputs())
        # On the processor `numpy()` shows the buffer itself.
        copies = (np.array(value.numpy()) for value in self._outputs)
        return dict(zip(self._names, copies, strict=True))

    def _keep(self, values: list[Any]) -> None:
        self._outputs = values
        self._binding.clear_binding_outputs()
        for name, value in zip(self._names, values, strict=True):
            self._binding.bind_ortvalue_output(name, value)


def static(model: Model) -> bool:
    """Return whether every shape follows from how many images a run takes."""
    batch, *image = model.input.shape
    tensors = (*model.vectors, *model.outputs)
    return 0 not in image and all(
        tensor.shape[0] == batch and 0 not in tensor.shape[1:] for tensor in tensors
    )


def _buffer(shape: Sequence[int], where: Where) -> Any:  # noqa: ANN401  # an OrtValue
    onnxruntime: Any = load_onnxruntime()
    value = onnxruntime.OrtValue
    return value.ortvalue_from_shape_and_type(list(shape), np.float32, *where)
