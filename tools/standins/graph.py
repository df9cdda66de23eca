"""A published network in the making: nodes, weights without numbers, and the work.

Every value carries its shape at the size the network is published for, so that the
parameters and the multiply-accumulates are known before a single weight is drawn.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from onnx import TensorProto, helper

from tools.standins.weights import Source, Weight

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import ArrayLike
    from onnx import ModelProto, NodeProto, ValueInfoProto

    Dimensions = Sequence[int | str]
    Attribute = int | float | str | Sequence[int] | TensorProto

RELU = math.sqrt(2)
"""The gain that keeps the variance through a layer and a ReLU (He et al. 2015)."""


@dataclass(frozen=True, slots=True)
class Value:
    """A float32 tensor of the graph: NCHW where it is an image."""

    name: str
    shape: tuple[int, ...]

    @property
    def channels(self) -> int:
        """How many channels an image or a vector has."""
        return self.shape[1]


class Graph:
    """Nodes in order, each with its weights, which `name` seeds.

    Opset 11 and IR version 6 are what the InsightFace family is published with.  A
    `half` network has weights of 16 bits and takes and gives 32 all the same.
    """

    def __init__(
        self, name: str, *, opset: int = 11, ir_version: int = 6, half: bool = False
    ) -> None:
        self.name = name
        self.half = half
        self.opset = opset
        self.ir_version = ir_version
        self.nodes: list[NodeProto] = []
        self.weights: list[Weight] = []
        self.inputs: list[tuple[str, Dimensions]] = []
        self.outputs: list[tuple[str, Dimensions]] = []
        self.macs = 0
        """Multiply-accumulates of convolutions and matrix products."""

    @property
    def parameters(self) -> int:
        """How many numbers the file holds."""
        return sum(weight.size for weight in self.weights)

    def model(self) -> ModelProto:
        """Return the network with its numbers drawn."""
        source = Source(self.name)
        initializers = [self._drawn(source, each) for each in self.weights]
        graph = helper.make_graph(
            self.nodes,
            "torch-jit-export",
            [_info(name, shape) for name, shape in self.inputs],
            [_info(name, shape) for name, shape in self.outputs],
            initializers,
        )
        return helper.make_model(
            graph,
            producer_name="guise-standins",
            ir_version=self.ir_version,
            opset_imports=[helper.make_opsetid("", self.opset)],
        )

    def _drawn(self, source: Source, weight: Weight) -> TensorProto:
        numbers = source.fill(weight)
        # What Resize is told is of 32 bits whatever it resizes.
        if self.half and not weight.name.startswith("Resize"):
            half = numbers.astype(np.float16).tobytes()
            kind = TensorProto.FLOAT16
            return helper.make_tensor(weight.name, kind, weight.shape, half, raw=True)
        return helper.make_tensor(
            weight.name, TensorProto.FLOAT, weight.shape, numbers.tobytes(), raw=True
        )

    # --- what goes in and out ------------------------------------------------

    def input(self, name: str, shape: tuple[int, ...], *free: str) -> Value:
        """Declare an input of the nominal `shape`, with its last axes `free` if named.

        `free` of four names leads every axis: an empty one leaves the number.
        """
        names = free or ("",) * len(shape)
        declared = [n or length for n, length in zip(names, shape, strict=True)]
        self.inputs.append((name, declared))
        return self._cast(Value(name, shape), TensorProto.FLOAT16)

    def output(self, value: Value, *free: str) -> None:
        """Declare an output; the names of `free` as for an input."""
        names = free or ("",) * len(value.shape)
        declared = [n or size for n, size in zip(names, value.shape, strict=True)]
        self.outputs.append((value.name, declared))

    def last(self, kind: str, x: Value, name: str) -> Value:
        """Add the operator whose output, of 32 bits, is called `name`."""
        if not self.half:
            return self.node(kind, [x], x.shape, name)
        return self._cast(self.node(kind, [x], x.shape), TensorProto.FLOAT, name)

    def _cast(self, x: Value, kind: int, name: str = "") -> Value:
        return self.node("Cast", [x], x.shape, name, to=kind) if self.half else x

    # --- weights -------------------------------------------------------------

    def weight(
        self,
        name: str,
        shape: tuple[int, ...],
        deviation: float,
        run: int = 0,
    ) -> str:
        """Add a random weight and return its name."""
        self.weights.append(Weight(name, shape, deviation, run))
        return name

    def constant(self, name: str, values: ArrayLike) -> str:
        """Add a weight of known numbers and return its name."""
        array = np.asarray(values, np.float32)
        self.weights.append(Weight(name, array.shape, values=array))
        return name

    # --- operators -----------------------------------------------------------

    def node(
        self,
        kind: str,
        inputs: Sequence[Value | str],
        shape: tuple[int, ...],
        name: str = "",
        **attributes: Attribute,
    ) -> Value:
        """Add one operator; its output is called `name`, or by kind and position."""
        label = f"{kind}_{len(self.nodes)}"
        out = name or f"{label}.out"
        names = [each if isinstance(each, str) else each.name for each in inputs]
        made = helper.make_node(kind, names, [out], name=label)
        made.attribute.extend(
            helper.make_attribute(key, value) for key, value in attributes.items()
        )
        self.nodes.append(made)
        return Value(out, shape)

    def integers(self, values: Sequence[int]) -> Value:
        """Add a constant of whole numbers, for operators that take a shape."""
        data = helper.make_tensor("", TensorProto.INT64, [len(values)], values)
        return self.node("Constant", [], (len(values),), value=data)

    def conv(  # noqa: PLR0913 (the attributes of a convolution)
        self,
        x: Value,
        channels: int,
        kernel: int = 3,
        stride: int = 1,
        *,
        pad: int | None = None,
        groups: int = 1,
        gain: float = RELU,
        bias: ArrayLike | None = 0.0,
        centred: bool = False,
        name: str = "",
    ) -> Value:
        """Convolve, "same" unless `pad` says otherwise; no bias where it is None."""
        label = f"Conv_{len(self.nodes)}"
        around = kernel // 2 if pad is None else pad
        filters = (channels, x.channels // groups, kernel, kernel)
        fan_in = math.prod(filters[1:])
        run = fan_in if centred else 0
        weight = self.weight(f"{label}.w", filters, gain / fan_in**0.5, run)
        parts: list[Value | str] = [x, weight]
        if bias is not None:
            full = np.broadcast_to(np.asarray(bias, np.float32), (channels,))
            parts.append(self.constant(f"{label}.b", full))
        height, width = ((s + 2 * around - kernel) // stride + 1 for s in x.shape[2:])
        self.macs += channels * height * width * fan_in
        return self.node(
            "Conv",
            parts,
            (x.shape[0], channels, height, width),
            name,
            kernel_shape=[kernel, kernel],
            strides=[stride, stride],
            pads=[around] * 4,
            dilations=[1, 1],
            group=groups,
        )

    def up_conv(
        self,
        x: Value,
        channels: int,
        kernel: int,
        stride: int,
        around: int | None = None,
    ) -> Value:
        """Convolve transposed, without bias, so that the sides grow by `stride`."""
        label = f"ConvTranspose_{len(self.nodes)}"
        around = (kernel - stride) // 2 if around is None else around
        filters = (x.channels, channels, kernel, kernel)
        fan_in = x.channels * kernel * kernel / stride**2
        self.weight(f"{label}.w", filters, RELU / fan_in**0.5)
        height, width = ((s - 1) * stride - 2 * around + kernel for s in x.shape[2:])
        self.macs += math.prod(x.shape[2:]) * math.prod(filters)
        return self.node(
            "ConvTranspose",
            [x, f"{label}.w"],
            (x.shape[0], channels, height, width),
            kernel_shape=[kernel, kernel],
            strides=[stride, stride],
            pads=[around] * 4,
        )

    def gemm(
        self,
        x: Value,
        features: int,
        *,
        gain: float = 1.0,
        bias: ArrayLike = 0.0,
        run: int = 0,
        name: str = "",
    ) -> Value:
        """Multiply a row vector by a random matrix [features, channels]."""
        label = f"Gemm_{len(self.nodes)}"
        deviation = gain / x.channels**0.5
        matrix = self.weight(f"{label}.w", (features, x.channels), deviation, run)
        full = np.broadcast_to(np.asarray(bias, np.float32), (features,))
        offset = self.constant(f"{label}.b", full)
        self.macs += features * x.channels
        shape = (x.shape[0], features)
        return self.node("Gemm", [x, matrix, offset], shape, name, transB=1)

    def relu(self, x: Value) -> Value:
        """Cut off below zero."""
        return self.node("Relu", [x], x.shape)

    def leaky(self, x: Value, slope: float = 0.2) -> Value:
        """Let `slope` of what is below zero through."""
        return self.node("LeakyRelu", [x], x.shape, alpha=slope)

    def prelu(self, x: Value) -> Value:
        """Let a learned share, here a quarter, of what is below zero through."""
        shape = (x.channels, 1, 1)
        slope = self.constant(f"PRelu_{len(self.nodes)}.w", np.full(shape, 0.25))
        return self.node("PRelu", [x, slope], x.shape)

    def norm(self, x: Value, *, scale: float = 1.0, name: str = "") -> Value:
        """Batch normalisation as it is after training, over inputs of deviation 1."""
        label = f"BatchNormalization_{len(self.nodes)}"
        rows = ((".w", scale), (".b", 0.0), (".mean", 0.0), (".var", 1.0))
        parts = [
            self.constant(label + end, np.full(x.channels, number))
            for end, number in rows
        ]
        return self.node("BatchNormalization", [x, *parts], x.shape, name, epsilon=1e-5)

    def add(self, a: Value, b: Value) -> Value:
        """Add two values of one shape."""
        return self.node("Add", [a, b], a.shape)

    def concat(self, *values: Value, axis: int = 1) -> Value:
        """Lay values side by side."""
        shape = list(values[0].shape)
        shape[axis] = sum(each.shape[axis] for each in values)
        return self.node("Concat", values, tuple(shape), axis=axis)

    def reshape(
        self, x: Value, *shape: int, known: tuple[int, ...] = (), name: str = ""
    ) -> Value:
        """Read the same numbers in another shape; one length may be -1.

        Where a length is 0, which is that of `x`, say what is `known` of the shape.
        """
        rest = math.prod(x.shape) // max(1, -math.prod(shape))
        known = known or tuple(rest if length < 0 else length for length in shape)
        return self.node("Reshape", [x, self.integers(shape)], known, name)

    def transpose(self, x: Value, *order: int) -> Value:
        """Change the order of the axes."""
        shape = tuple(x.shape[axis] for axis in order)
        return self.node("Transpose", [x], shape, perm=order)

    def reflect(self, x: Value, around: int) -> Value:
        """Mirror the border `around` pixels outwards."""
        pads = self.integers([0, 0, around, around] * 2)
        shape = (*x.shape[:2], *(side + 2 * around for side in x.shape[2:]))
        return self.node("Pad", [x, pads], shape, mode="reflect")

    def double(self, x: Value, mode: str = "linear") -> Value:
        """Double the sides of an image: "linear", or "nearest" for whole pixels."""
        if mode == "nearest":
            return self.resize(x, 2, "asymmetric", mode, nearest_mode="floor")
        return self.resize(x, 2)

    def resize(
        self,
        x: Value,
        factor: int,
        places: str = "half_pixel",
        mode: str = "linear",
        name: str = "",
        **more: str,
    ) -> Value:
        """Enlarge an image `factor` times; `places` says where pixels come to lie."""
        label = f"Resize_{len(self.nodes)}"
        roi = self.constant(f"{label}.roi", np.zeros(0))
        scales = self.constant(f"{label}.scales", [1, 1, factor, factor])
        shape = (*x.shape[:2], *(factor * side for side in x.shape[2:]))
        inputs: list[Value | str] = [x, roi, scales]
        how = {"mode": mode, "coordinate_transformation_mode": places, **more}
        return self.node("Resize", inputs, shape, name, **how)

    def max_pool(self, x: Value, kernel: int, stride: int, pad: int = 0) -> Value:
        """Keep the largest of each window."""
        return self._pool("MaxPool", x, kernel, stride, pad)

    def average_pool(self, x: Value, kernel: int, stride: int) -> Value:
        """Keep the mean of each window."""
        return self._pool("AveragePool", x, kernel, stride, 0)

    def global_pool(self, x: Value) -> Value:
        """Keep the mean of each channel, as [N, C, 1, 1]."""
        return self.node("GlobalAveragePool", [x], (*x.shape[:2], 1, 1))

    def _pool(self, kind: str, x: Value, kernel: int, stride: int, pad: int) -> Value:
        height, width = ((s + 2 * pad - kernel) // stride + 1 for s in x.shape[2:])
        return self.node(
            kind,
            [x],
            (*x.shape[:2], height, width),
            kernel_shape=[kernel, kernel],
            strides=[stride, stride],
            pads=[pad] * 4,
        )


def _info(name: str, shape: Dimensions) -> ValueInfoProto:
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, list(shape))
