"""Translate a published TFLite network to ONNX, for exactly the operators we met.

TFLite images are NHWC; ONNX convolutions are NCHW.  The input stays as published
and is turned once; inside, every image is NCHW; what leaves as a list is turned back.
Anything we did not meet is refused by name, never guessed.

Formulas: the TFLite operator reference (SAME padding is asymmetric, the odd pixel
goes to the bottom and right) and the ONNX operators of opset 17.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from models.errors import UnsupportedNetwork
from models.network import Network, Operator, read

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    import numpy as np
    from numpy.typing import NDArray
    from onnx import ModelProto, NodeProto, TensorProto, ValueInfoProto

    from models.catalogue import Member

    Translate = Callable[["Graph", Operator], None]

OPSET = 17
IR_VERSION = 8
"""Both old enough for every ONNX Runtime of the last years, on CPU and GPU."""

SAME, VALID = 0, 1
NONE, RELU = 0, 1
IMAGE = 4
"""The rank of an image tensor."""


def convert(raw: bytes, model: Member) -> ModelProto:
    """Return the TFLite file `raw` as an ONNX model with the contract of `model`.

    Input and outputs are float32 and have the names and shapes of the catalogue, and
    the weights are float32, inside the model.

    Raises:
        UnsupportedNetwork: it holds something we do not translate, or its inputs and
            outputs are not those of the catalogue.
    """
    try:
        return translate(read(raw), model)
    except UnsupportedNetwork as error:
        raise UnsupportedNetwork(f"{model.name}: {error}") from error


def translate(network: Network, model: Member) -> ModelProto:
    """Return `network` as an ONNX model with the contract of `model`.

    Raises:
        UnsupportedNetwork: as `convert`.
    """
    graph = Graph(network)
    graph.begin(model)
    for operator in network.operators:
        TRANSLATE.get(operator.kind, _unknown)(graph, operator)
    graph.end(model)
    return graph.finished(model)


class Graph:
    """An ONNX graph in the making.  Tensor 7 of the file is `t7` here."""

    def __init__(self, network: Network) -> None:
        self.network = network
        self.nodes: list[NodeProto] = []
        self.initializers: dict[str, TensorProto] = {}

    def begin(self, model: Member) -> None:
        """Take the published input and turn it to NCHW."""
        expected = [model.input.shape]
        found = [self.network.shapes[index] for index in self.network.inputs]
        if found != expected:
            raise UnsupportedNetwork(f"inputs {found}, not {expected}")
        (index,) = self.network.inputs
        self.node("Transpose", [model.input.name], f"t{index}", perm=[0, 3, 1, 2])

    def end(self, model: Member) -> None:
        """Give each published output the name and shape of the contract."""
        by_name = {self.network.names[index]: index for index in self.network.outputs}
        if set(by_name) != {output.upstream for output in model.outputs}:
            raise UnsupportedNetwork(f"outputs {sorted(by_name)}")
        for output in model.outputs:
            index = by_name[output.upstream]
            published = self.network.shapes[index]
            if math.prod(published) != math.prod(output.shape):
                raise UnsupportedNetwork(f"{output.name}: published as {published}")
            self.reshape(self.nhwc(index), output.name, output.shape)

    def node(
        self,
        kind: str,
        inputs: Sequence[str],
        output: str,
        **attributes: int | str | Sequence[int],
    ) -> None:
        """Add a node; its name is the name of what it gives."""
        from onnx import helper

        node = helper.make_node(kind, inputs, [output], name=output)
        for name, value in attributes.items():
            node.attribute.append(helper.make_attribute(name, value))
        self.nodes.append(node)

    def constant(self, name: str, value: NDArray[Any]) -> str:
        """Keep `value` as a weight called `name`, and return the name."""
        from onnx import numpy_helper

        self.initializers[name] = numpy_helper.from_array(value, name)
        return name

    def weight(self, index: int) -> NDArray[Any]:
        """Return a constant of the file.

        Raises:
            UnsupportedNetwork: the tensor is computed, not constant.
        """
        if index not in self.network.constants:
            raise UnsupportedNetwork(f"{self.network.names[index]}: not a constant")
        return self.network.constants[index]

    def nhwc(self, index: int) -> str:
        """Return the name of a tensor in its published order."""
        if len(self.network.shapes[index]) != IMAGE:
            return f"t{index}"
        self.node("Transpose", [f"t{index}"], f"t{index}_nhwc", perm=[0, 2, 3, 1])
        return f"t{index}_nhwc"

    def reshape(self, name: str, output: str, shape: Sequence[int]) -> None:
        """Add a reshape to a shape known now."""
        import numpy as np

        target = self.constant(f"{output}_shape", np.array(shape, np.int64))
        self.node("Reshape", [name, target], output)

    def activated(
        self,
        kind: str,
        inputs: Sequence[str],
        operator: Operator,
        **attributes: int | str | Sequence[int],
    ) -> None:
        """Add a node for `operator`, and after it the activation fused into it."""
        fused = operator.options["FusedActivationFunction"]
        if fused not in {NONE, RELU}:
            raise UnsupportedNetwork(f"{operator.kind}: fused activation {fused}")
        output = f"t{operator.outputs[0]}"
        raw = output if fused == NONE else f"{output}_raw"
        self.node(kind, inputs, raw, **attributes)
        if fused == RELU:
            self.node("Relu", [raw], output)

    def finished(self, model: Member) -> ModelProto:
        """Return the finished model, checked by ONNX itself."""
        import onnx
        from onnx import helper

        graph = helper.make_graph(
            self.nodes,
            model.name,
            [_value(model.input.name, model.input.shape)],
            [_value(output.name, output.shape) for output in model.outputs],
            list(self.initializers.values()),
        )
        made = helper.make_model(
            graph,
            producer_name="guise",
            ir_version=IR_VERSION,
            opset_imports=[helper.make_opsetid("", OPSET)],
        )
        try:
            onnx.checker.check_model(made, full_check=True)
        except (
            onnx.checker.ValidationError,
            onnx.shape_inference.InferenceError,
        ) as error:
            raise UnsupportedNetwork(f"does not fit together: {error}") from error
        return made


def _value(name: str, shape: Sequence[int]) -> ValueInfoProto:
    from onnx import TensorProto, helper

    return helper.make_tensor_value_info(name, TensorProto.FLOAT, list(shape))


# --- one function an operator ------------------------------------------------


def _unknown(_: Graph, operator: Operator) -> None:
    raise UnsupportedNetwork(f"operator {operator.kind}")


def _require(operator: Operator, **expected: int) -> None:
    """Refuse an option with a value we have not met."""
    for name, value in expected.items():
        if operator.options[name] != value:
            raise UnsupportedNetwork(
                f"{operator.kind}: {name} {operator.options[name]}, not {value}"
            )


def _inputs(operator: Operator, count: int) -> tuple[int, ...]:
    """Return the operator's inputs, none of which may be left out."""
    if len(operator.inputs) != count or min(operator.inputs) < 0:
        raise UnsupportedNetwork(f"{operator.kind}: inputs {operator.inputs}")
    return operator.inputs


def _pads(operator: Operator, size: Sequence[int], kernel: Sequence[int]) -> list[int]:
    """Return [top, left, bottom, right] of TFLite's padding for an NHWC `size`.

    SAME: out = ceil(in / stride); what is missing is split, the odd one last.
    """
    if operator.options["Padding"] == VALID:
        return [0, 0, 0, 0]
    before, after = [], []
    for length, window, stride in zip(
        size[1:3], kernel, _strides(operator), strict=True
    ):
        missing = max((-(-length // stride) - 1) * stride + window - length, 0)
        before.append(missing // 2)
        after.append(missing - missing // 2)
    return before + after


def _strides(operator: Operator) -> list[int]:
    return [operator.options["StrideH"], operator.options["StrideW"]]


def _convolution(graph: Graph, operator: Operator) -> None:
    _require(operator, DilationHFactor=1, DilationWFactor=1)
    _, kernel, _ = _inputs(operator, 3)
    weights = graph.weight(kernel).transpose(0, 3, 1, 2)  # OHWI to OIHW
    _add_convolution(graph, operator, weights, group=1)


def _depthwise(graph: Graph, operator: Operator) -> None:
    _require(operator, DilationHFactor=1, DilationWFactor=1, DepthMultiplier=1)
    _, kernel, _ = _inputs(operator, 3)
    weights = graph.weight(kernel).transpose(3, 0, 1, 2)  # 1HWO to O1HW
    _add_convolution(graph, operator, weights, group=len(weights))


def _add_convolution(
    graph: Graph, operator: Operator, weights: NDArray[np.float32], *, group: int
) -> None:
    image, kernel, bias = operator.inputs
    window = weights.shape[2:]
    names = [
        f"t{image}",
        graph.constant(f"w{kernel}", weights),
        graph.constant(f"w{bias}", graph.weight(bias)),
    ]
    graph.activated(
        "Conv",
        names,
        operator,
        group=group,
        kernel_shape=window,
        strides=_strides(operator),
        pads=_pads(operator, graph.network.shapes[image], window),
    )


def _max_pool(graph: Graph, operator: Operator) -> None:
    (image,) = _inputs(operator, 1)
    window = [operator.options["FilterHeight"], operator.options["FilterWidth"]]
    graph.activated(
        "MaxPool",
        [f"t{image}"],
        operator,
        kernel_shape=window,
        strides=_strides(operator),
        pads=_pads(operator, graph.network.shapes[image], window),
    )


def _add(graph: Graph, operator: Operator) -> None:
    left, right = _inputs(operator, 2)
    if graph.network.shapes[left] != graph.network.shapes[right]:
        raise UnsupportedNetwork("ADD: of two shapes")
    graph.activated("Add", [f"t{left}", f"t{right}"], operator)


def _relu(graph: Graph, operator: Operator) -> None:
    graph.node("Relu", [f"t{operator.inputs[0]}"], f"t{operator.outputs[0]}")


def _prelu(graph: Graph, operator: Operator) -> None:
    image, slope = _inputs(operator, 2)
    alpha = graph.weight(slope)
    if alpha.shape != (1, 1, graph.network.shapes[image][3]):
        raise UnsupportedNetwork(f"PRELU: slopes {alpha.shape}, not one a channel")
    name = graph.constant(f"w{slope}", alpha.transpose(2, 0, 1))
    graph.node("PRelu", [f"t{image}", name], f"t{operator.outputs[0]}")


def _pad(graph: Graph, operator: Operator) -> None:
    import numpy as np

    image, amounts = _inputs(operator, 2)
    published = graph.weight(amounts)
    if published.shape != (IMAGE, 2):
        raise UnsupportedNetwork(f"PAD: amounts {published.shape}, not of an image")
    before_after = published[[0, 3, 1, 2]].T.astype(np.int64)
    name = graph.constant(f"t{operator.outputs[0]}_pads", before_after.ravel())
    graph.node("Pad", [f"t{image}", name], f"t{operator.outputs[0]}")


def _resize(graph: Graph, operator: Operator) -> None:
    import numpy as np

    _require(operator, AlignCorners=0, HalfPixelCenters=1)
    output = operator.outputs[0]
    _, height, width, channels = graph.network.shapes[output]
    sizes = np.array([1, channels, height, width], np.int64)
    names = [f"t{operator.inputs[0]}", "", "", graph.constant(f"t{output}_size", sizes)]
    graph.node(
        "Resize",
        names,
        f"t{output}",
        mode="linear",
        coordinate_transformation_mode="half_pixel",
    )


def _depth_to_space(graph: Graph, operator: Operator) -> None:
    graph.node(
        "DepthToSpace",
        [f"t{operator.inputs[0]}"],
        f"t{operator.outputs[0]}",
        mode="DCR",
        blocksize=operator.options["BlockSize"],
    )


def _reshape(graph: Graph, operator: Operator) -> None:
    """Reshape to the shape the file declares for the output: it is static there."""
    output = operator.outputs[0]
    shape = graph.network.shapes[output]
    if len(shape) == IMAGE:
        raise UnsupportedNetwork("RESHAPE: to an image")
    graph.reshape(graph.nhwc(operator.inputs[0]), f"t{output}", shape)


def _concatenation(graph: Graph, operator: Operator) -> None:
    output = operator.outputs[0]
    if len(graph.network.shapes[output]) == IMAGE:
        raise UnsupportedNetwork("CONCATENATION: of images")
    names = [f"t{index}" for index in operator.inputs]
    graph.activated("Concat", names, operator, axis=operator.options["Axis"])


TRANSLATE: Mapping[str, Translate] = {
    "ADD": _add,
    "CONCATENATION": _concatenation,
    "CONV_2D": _convolution,
    "DEPTHWISE_CONV_2D": _depthwise,
    "DEPTH_TO_SPACE": _depth_to_space,
    "MAX_POOL_2D": _max_pool,
    "PAD": _pad,
    "PRELU": _prelu,
    "RELU": _relu,
    "RESHAPE": _reshape,
    "RESIZE_BILINEAR": _resize,
}
