"""Our conversion gives what the published networks give, or refuses."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import msgspec
import numpy as np
import pytest
from ai_edge_litert.interpreter import Interpreter

from models import catalogue, runtime
from models.convert import convert, translate
from models.errors import UnsupportedNetwork
from models.golden import normalised
from models.network import Network, Operator, read

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

EXAMPLES = Path(__file__).parents[2] / "examples"

TOLERANCE = 1e-3
"""Absolute: boxes and meshes in pixels of the input, scores as logits.

Measured: 5.5e-4 at most, in a score of -137; one float32 step is 1.5e-5 there, and
the two sides add up in different orders.
"""

MODELS = {model.name: model for model in catalogue.load().pack("lite").models}
FULL, SHORT, MESH = MODELS.values()


def ours(raw: bytes, model: catalogue.Member, image: NDArray[np.float32]) -> Any:
    session = runtime.load().InferenceSession(
        convert(raw, model).SerializeToString(), providers=["CPUExecutionProvider"]
    )
    names = [output.name for output in model.outputs]
    return session.run(names, {model.input.name: image})


def theirs(raw: bytes, model: catalogue.Member, image: NDArray[np.float32]) -> Any:
    """Run the published file as it is, in the runtime it was published for."""
    interpreter = Interpreter(model_content=raw)
    interpreter.allocate_tensors()
    interpreter.set_tensor(interpreter.get_input_details()[0]["index"], image)
    interpreter.invoke()
    outputs = {
        each["name"]: interpreter.get_tensor(each["index"])
        for each in interpreter.get_output_details()
    }
    return [outputs[output.upstream].reshape(output.shape) for output in model.outputs]


def assert_same(
    raw: bytes, model: catalogue.Member, image: NDArray[np.float32]
) -> None:
    for mine, original in zip(
        ours(raw, model, image), theirs(raw, model, image), strict=True
    ):
        np.testing.assert_allclose(mine, original, rtol=0, atol=TOLERANCE)


def photograph(name: str, model: catalogue.Member, share: float) -> NDArray[np.float32]:
    """Return the middle `share` of a picture, as the network wants it."""
    encoded = np.fromfile(EXAMPLES / name, np.uint8)
    picture = cv2.imdecode(encoded, cv2.IMREAD_COLOR_RGB)
    assert picture is not None
    height, width = picture.shape[:2]
    top, left = (int(side * (1 - share) / 2) for side in (height, width))
    crop = picture[top : height - top, left : width - left]
    _, rows, columns, _ = model.input.shape
    small = cv2.resize(crop, (columns, rows), interpolation=cv2.INTER_AREA)
    return normalised(small[None].astype(np.float64), model.input)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("name", MODELS)
def test_parity_on_noise(originals: Mapping[str, bytes], name: str, seed: int) -> None:
    """On noise, the conversion gives what the published network gives."""
    model = MODELS[name]
    levels = np.random.default_rng(seed).uniform(0, 255, model.input.shape)
    image = normalised(levels, model.input)
    assert_same(originals[model.member], model, image)


@pytest.mark.parametrize("share", [1.0, 0.6, 0.3])
@pytest.mark.parametrize("picture", ["collins.jpg", "hopper.jpg"])
@pytest.mark.parametrize("name", MODELS)
def test_parity_on_photographs(
    originals: Mapping[str, bytes], name: str, picture: str, share: float
) -> None:
    """On a portrait, whole or cropped, it gives what the published network gives."""
    model = MODELS[name]
    assert_same(originals[model.member], model, photograph(picture, model, share))


@pytest.mark.parametrize("picture", ["collins.jpg", "hopper.jpg"])
def test_finds_the_face(originals: Mapping[str, bytes], picture: str) -> None:
    """The detector is sure of a portrait's face, and decodes to a box inside it.

    This is also how to read the outputs: anchor centre plus pixels of the input.
    """
    image = photograph(picture, FULL, 1.0)
    boxes, scores = ours(originals[FULL.member], FULL, image)
    best = int(scores.argmax())
    side = FULL.grids[0].side
    x, y = (best % side + 0.5) / side, (best // side + 0.5) / side
    across, down, width, height = boxes[0, best, :4] / FULL.input.shape[1]
    assert 1 / (1 + np.exp(-scores.max())) > 0.8
    assert 0 < x + across - width / 2 < x + across + width / 2 < 1
    assert 0 < y + down - height / 2 < y + down + height / 2 < 1


@pytest.mark.parametrize("name", MODELS)
def test_repeats(originals: Mapping[str, bytes], name: str) -> None:
    """Converting twice gives the same bytes twice."""
    model = MODELS[name]
    raw = originals[model.member]
    first, second = convert(raw, model), convert(raw, model)
    assert first.SerializeToString() == second.SerializeToString()


# --- what is refused ---------------------------------------------------------


@pytest.fixture(scope="module")
def networks(originals: Mapping[str, bytes]) -> dict[str, Network]:
    return {name: read(originals[model.member]) for name, model in MODELS.items()}


def first(network: Network, kind: str) -> Operator:
    return next(each for each in network.operators if each.kind == kind)


def changed(
    network: Network, which: str, *, options: Mapping[str, int] | None = None, **to: Any
) -> Network:
    """Return the network with its first operator of that kind changed."""
    operators = list(network.operators)
    at = next(i for i, operator in enumerate(operators) if operator.kind == which)
    options = {**operators[at].options, **(options or {})}
    operators[at] = replace(operators[at], options=options, **to)
    return replace(network, operators=tuple(operators))


@pytest.mark.parametrize(
    ("model", "kind", "option", "value"),
    [
        (FULL, "CONV_2D", "DilationHFactor", 2),
        (FULL, "CONV_2D", "DilationWFactor", 2),
        (FULL, "DEPTHWISE_CONV_2D", "DilationHFactor", 2),
        (FULL, "DEPTHWISE_CONV_2D", "DilationWFactor", 2),
        (FULL, "DEPTHWISE_CONV_2D", "DepthMultiplier", 2),
        (FULL, "RESIZE_BILINEAR", "AlignCorners", 1),
        (FULL, "RESIZE_BILINEAR", "HalfPixelCenters", 0),
    ],
)
def test_unknown_option(
    networks: Mapping[str, Network],
    model: catalogue.Member,
    kind: str,
    option: str,
    value: int,
) -> None:
    """An option with a value we have not met is named, not ignored."""
    network = changed(networks[model.name], kind, options={option: value})
    with pytest.raises(UnsupportedNetwork, match=rf"^{kind}: {option} {value}, not"):
        translate(network, model)


@pytest.mark.parametrize(
    ("model", "kind"),
    [
        (FULL, "CONV_2D"),
        (FULL, "DEPTHWISE_CONV_2D"),
        (FULL, "ADD"),
        (SHORT, "MAX_POOL_2D"),
        (SHORT, "CONCATENATION"),
    ],
)
def test_unknown_activation(
    networks: Mapping[str, Network], model: catalogue.Member, kind: str
) -> None:
    """A fused activation other than RELU (3 is RELU6) is named, not dropped."""
    network = changed(
        networks[model.name], kind, options={"FusedActivationFunction": 3}
    )
    with pytest.raises(UnsupportedNetwork, match=rf"^{kind}: fused activation 3$"):
        translate(network, model)


def test_unknown_operator(networks: Mapping[str, Network]) -> None:
    """An operator we have not met is named."""
    network = changed(networks[SHORT.name], "RELU", kind="TANH")
    with pytest.raises(UnsupportedNetwork, match=r"^operator TANH$"):
        translate(network, SHORT)


@pytest.mark.parametrize("kind", ["CONV_2D", "DEPTHWISE_CONV_2D", "ADD", "PAD"])
def test_left_out_input(networks: Mapping[str, Network], kind: str) -> None:
    """An input that is left out, or marked as absent, is not made up."""
    network = networks[FULL.name]
    inputs = first(network, kind).inputs
    for fewer in (inputs[:-1], (*inputs[:-1], -1)):
        with pytest.raises(UnsupportedNetwork, match=rf"^{kind}: inputs \("):
            translate(changed(network, kind, inputs=fewer), FULL)


def test_computed_weights(networks: Mapping[str, Network]) -> None:
    """Weights that the network computes itself are refused."""
    network = networks[FULL.name]
    image, _, bias = first(network, "CONV_2D").inputs
    inputs = (image, image, bias)
    with pytest.raises(UnsupportedNetwork, match=r"Pad: not a constant$"):
        translate(changed(network, "CONV_2D", inputs=inputs), FULL)


def with_shape(network: Network, index: int, shape: tuple[int, ...]) -> Network:
    shapes = list(network.shapes)
    shapes[index] = shape
    return replace(network, shapes=tuple(shapes))


def with_constant(network: Network, index: int, value: NDArray[Any]) -> Network:
    return replace(network, constants={**network.constants, index: value})


def test_add_of_two_shapes(networks: Mapping[str, Network]) -> None:
    """ADD would broadcast over NHWC, which we have turned: refused."""
    network = networks[FULL.name]
    strange = with_shape(network, first(network, "ADD").inputs[1], (1, 1, 1, 32))
    with pytest.raises(UnsupportedNetwork, match=r"^ADD: of two shapes$"):
        translate(strange, FULL)


def test_slopes_of_each_pixel(networks: Mapping[str, Network]) -> None:
    """PRELU with other than one slope a channel is refused."""
    network = networks[MESH.name]
    slope = first(network, "PRELU").inputs[1]
    strange = with_constant(network, slope, np.zeros((96, 96, 16), np.float32))
    with pytest.raises(UnsupportedNetwork, match=r"^PRELU: slopes \(96, 96, 16\)"):
        translate(strange, MESH)


def test_pad_of_a_list(networks: Mapping[str, Network]) -> None:
    """PAD of anything but an image is refused."""
    network = networks[FULL.name]
    amounts = first(network, "PAD").inputs[1]
    strange = with_constant(network, amounts, np.zeros((3, 2), np.int32))
    with pytest.raises(UnsupportedNetwork, match=r"^PAD: amounts \(3, 2\)"):
        translate(strange, FULL)


def test_reshape_to_an_image(networks: Mapping[str, Network]) -> None:
    """RESHAPE to an image is refused: whatever comes next would expect it turned."""
    network = networks[FULL.name]
    output = first(network, "RESHAPE").outputs[0]
    with pytest.raises(UnsupportedNetwork, match=r"^RESHAPE: to an image$"):
        translate(with_shape(network, output, (1, 48, 48, 1)), FULL)


def test_concatenation_of_images(networks: Mapping[str, Network]) -> None:
    """CONCATENATION of images is refused: its axis would be another one."""
    network = networks[SHORT.name]
    output = first(network, "CONCATENATION").outputs[0]
    with pytest.raises(UnsupportedNetwork, match=r"^CONCATENATION: of images$"):
        translate(with_shape(network, output, (1, 1, 896, 1)), SHORT)


def test_another_input(networks: Mapping[str, Network]) -> None:
    """A network whose input is not the catalogue's is refused."""
    with pytest.raises(
        UnsupportedNetwork, match=r"^inputs \[\(1, 128, 128, 3\)\], not"
    ):
        translate(networks[SHORT.name], FULL)


def test_other_outputs(networks: Mapping[str, Network]) -> None:
    """A network whose outputs are not the catalogue's is refused."""
    with pytest.raises(
        UnsupportedNetwork, match=r"^outputs \['conv2d_21', 'conv2d_31'\]"
    ):
        translate(networks[MESH.name], FULL)


def test_other_size(networks: Mapping[str, Network]) -> None:
    """An output that cannot have the catalogue's shape is refused."""
    boxes, scores = FULL.outputs
    smaller = msgspec.structs.replace(boxes, shape=(1, 2303, 16))
    strange = msgspec.structs.replace(FULL, outputs=(smaller, scores))
    with pytest.raises(
        UnsupportedNetwork, match=r"^boxes: published as \(1, 2304, 16\)"
    ):
        translate(networks[FULL.name], strange)


def test_tensor_written_twice(networks: Mapping[str, Network]) -> None:
    """What ONNX itself finds wrong in the result is refused as ours."""
    network = networks[FULL.name]
    twice = changed(network, "CONV_2D", outputs=first(network, "PAD").outputs)
    with pytest.raises(UnsupportedNetwork, match=r"^does not fit together: "):
        translate(twice, FULL)
