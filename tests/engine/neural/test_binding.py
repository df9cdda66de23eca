"""Kept buffers: the same numbers, in arrays of their own, for whoever asks."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import numpy as np
import pytest

from functions.swap.engine.binding import SHAPES_MAX, Binding, static
from functions.swap.engine.runtime import Network
from models import optimise
from tests.engine.neural.networks import opened, published
from tools.standins import file_name

if TYPE_CHECKING:
    from pathlib import Path

    from functions.swap.engine.arrays import Floats
    from models.manifest import Model

    Given = dict[str, Floats]

NAMES = ("det_10g", "w600k_r50", "inswapper_128", "hyperswap_1a_256", "nsfw_marqo")


def given(model: Model, seed: int, *, side: int = 128, batch: int = 1) -> Given:
    """Return noise for all that a network takes; `side` where it takes any."""
    random = np.random.default_rng(seed)
    shapes = {model.input.name: model.input.shape}
    shapes |= {each.name: each.shape for each in model.vectors}

    def length(axis: int, told: int) -> int:
        return told or (side if axis else batch)

    return {
        name: random.random(
            [length(axis, told) for axis, told in enumerate(shape)], np.float32
        )
        for name, shape in shapes.items()
    }


def names_of(model: Model) -> list[str]:
    return [output.name for output in model.outputs]


def same(some: list[Floats], others: list[Floats]) -> bool:
    return all(np.array_equal(a, b) for a, b in zip(some, others, strict=True))


def declared(name: str, standins: Path, folder: Path) -> Network:
    """Return a small stand-in whose graph tells the manifest's shapes, as in a pack.

    The published det_10g takes any size and says that its outputs are those of 640.
    """
    model, path = published(name), folder / file_name(name)
    path.write_bytes((standins / path.name).read_bytes())
    with optimise.editing(path) as graph:
        optimise.declare(graph.graph, model)
    return opened(model, path)


@pytest.fixture(params=NAMES)
def network(request: pytest.FixtureRequest, standins: Path, tmp_path: Path) -> Network:
    """Return the network of a contract, on the processor."""
    return declared(request.param, standins, tmp_path)


def test_kept_buffers_change_no_bit(network: Network) -> None:
    """What a binding gives is what the session gives, to the last bit, again and again.

    Where the image may have any size, the first run allocates and the others keep it.
    """
    model, names = network.model, names_of(network.model)
    binding = Binding(network.session, model, "cpu")
    seen = [given(model, seed) for seed in (1, 2, 1)]
    found = [binding.run(names, each) for each in seen]
    for one, each in zip(found, seen, strict=True):
        assert same(one, network.session.run(names, each))
    assert same(found[0], found[2])
    assert not same(found[0], found[1])
    assert binding.shapes == 1


def test_outputs_come_in_the_order_asked(network: Network) -> None:
    """Names that are asked for backwards give outputs backwards, and no others."""
    model, names = network.model, names_of(network.model)
    binding = Binding(network.session, model, "cpu")
    inputs = given(model, 3)
    forwards = binding.run(names, inputs)
    assert same(binding.run(names[::-1], inputs), forwards[::-1])
    assert same(binding.run(names[:1], inputs), forwards[:1])


def test_a_binding_stands_for_a_session(network: Network) -> None:
    """A network cannot tell a binding from its session."""
    model = network.model
    image, *vectors = given(model, 4).values()
    bound = Network(model, Binding(network.session, model, "cpu"))
    plain, kept = (each(image, *vectors) for each in (network, bound))
    assert list(plain) == list(kept)
    assert same(list(plain.values()), list(kept.values()))


@pytest.fixture
def detector(standins: Path, tmp_path: Path) -> Network:
    return declared("det_10g", standins, tmp_path)


def test_each_shape_has_its_buffers_up_to_a_limit(detector: Network) -> None:
    """Sizes come and go; buffers are kept for the latest, and right for all."""
    names = names_of(detector.model)
    binding = Binding(detector.session, detector.model, "cpu")
    sides = [32 * (n + 1) for n in range(SHAPES_MAX + 2)]
    for side in [*sides, *sides]:
        inputs = given(detector.model, side, side=side)
        assert same(binding.run(names, inputs), detector.session.run(names, inputs))
    assert binding.shapes == SHAPES_MAX


def test_threads_take_turns(detector: Network) -> None:
    """Runs from several threads do not write into one another's buffers."""
    names = names_of(detector.model)
    binding = Binding(detector.session, detector.model, "cpu")
    inputs = [given(detector.model, seed, side=64) for seed in range(24)]
    expected = [detector.session.run(names, each) for each in inputs]
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda each: binding.run(names, each), inputs))
    assert all(map(same, found, expected))


def test_what_is_not_contiguous_is_copied_in(detector: Network) -> None:
    """A view that skips values is read as what it shows."""
    names = names_of(detector.model)
    wide = np.random.default_rng(5).random((1, 3, 64, 128), np.float32)
    binding = Binding(detector.session, detector.model, "cpu")
    name = detector.model.input.name
    view = wide[..., ::2]
    expected = detector.session.run(names, {name: np.ascontiguousarray(view)})
    assert same(binding.run(names, {name: view}), expected)


@pytest.mark.parametrize(
    ("name", "fixed"),
    [
        ("det_10g", False),
        ("w600k_r50", True),
        ("inswapper_128", True),
        ("real_esrgan_x2", False),
    ],
)
def test_static_shapes_are_those_that_follow_from_the_batch(
    name: str, *, fixed: bool
) -> None:
    """Crops of one size can be captured; pictures of any size cannot."""
    assert static(published(name)) is fixed
