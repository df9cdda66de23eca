"""Alignment: where insightface puts a face, and a plain word where there is none."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from insightface.utils import face_align

from functions.swap.engine import align
from functions.swap.engine.arrays import Matrix, f32
from tests.engine.neural.networks import noise

if TYPE_CHECKING:
    from models.manifest import Template

# insightface calls a function that scikit-image is about to remove.
pytestmark = pytest.mark.filterwarnings("ignore:`estimate` is deprecated")

ARCFACE = np.array(align.points_of("arcface_112", 112), np.float64)
SIDES: list[tuple[int, Template]] = [
    (112, "arcface_112"),
    (224, "arcface_112"),
    (128, "arcface_128"),
    (256, "arcface_128"),
    (512, "arcface_128"),
]
# facefusion/face_helper.py, in parts of the side.
PARTS: dict[Template, list[tuple[float, float]]] = {
    "arcface_112": [
        (0.34191607, 0.46157411),
        (0.65653393, 0.45983393),
        (0.50022500, 0.64050536),
        (0.37097589, 0.82469196),
        (0.63151696, 0.82325089),
    ],
    "arcface_112_v1": [
        (0.35473214, 0.45658929),
        (0.64526786, 0.45658929),
        (0.50000000, 0.61154464),
        (0.37913393, 0.77687500),
        (0.62086607, 0.77687500),
    ],
    "arcface_128": [
        (0.36167656, 0.40387734),
        (0.63696719, 0.40235469),
        (0.50019687, 0.56044219),
        (0.38710391, 0.72160547),
        (0.61507734, 0.72034453),
    ],
    "ffhq_512": [
        (0.37691676, 0.46864664),
        (0.62285697, 0.46912813),
        (0.50123859, 0.61331904),
        (0.39308822, 0.72541100),
        (0.61150205, 0.72490465),
    ],
}

turns, scales = st.floats(-math.pi, math.pi), st.floats(0.35, 15)
places = st.tuples(st.floats(-300, 3840), st.floats(-300, 2160))


def posed(turn: float, scale: float, place: tuple[float, float]) -> Matrix:
    """Return the five points of a face: turned, enlarged and moved, (5, 2) float64."""
    cos, sin = scale * math.cos(turn), scale * math.sin(turn)
    points: Matrix = ARCFACE @ np.array([[cos, sin], [-sin, cos]]) + place
    return points


@st.composite
def faces(draw: st.DrawFn) -> Matrix:
    """Five points in a 4K frame or off its edge, of no quite regular face."""
    scale = draw(scales)
    random = np.random.default_rng(draw(st.integers(0, 2**32)))
    points = posed(draw(turns), scale, draw(places))
    return points + random.normal(0, 5 * scale, (5, 2))


@given(faces(), st.sampled_from(SIDES))
def test_the_matrix_is_insightfaces(points: Matrix, crop: tuple[int, Template]) -> None:
    """Every entry is within 1e-4 of `estimate_norm` on the same points."""
    matrix = align.estimate(points, *crop)
    assert np.abs(matrix - face_align.estimate_norm(points, crop[0])).max() < 1e-4


@given(faces(), st.sampled_from(SIDES))
def test_of_single_precision_the_crop_is_the_same(
    points: Matrix, crop: tuple[int, Template]
) -> None:
    """Where insightface rounds to float32, no corner of its crop moves visibly."""
    side, single = crop[0], f32(points)
    matrix = align.estimate(single, *crop)
    theirs = face_align.estimate_norm(single, side)
    back = np.linalg.inv(np.vstack((matrix, (0, 0, 1))))
    corners = back @ np.array([[0, side, 0, side], [0, 0, side, side], [1] * 4])
    assert np.abs((matrix - theirs) @ corners).max() < 0.01


@pytest.mark.parametrize("precision", [np.float32, np.float64])
@given(faces(), st.tuples(st.floats(0, 400), st.floats(0, 300)), st.integers(0, 99))
def test_the_crop_is_insightfaces(
    precision: type[np.floating], points: Matrix, place: tuple[float, float], seed: int
) -> None:
    """A crop is `norm_crop2`'s, black beyond the picture, to a level."""
    picture = noise(seed, 300, 400, 3)
    moved = (points - points.mean(axis=0) + place).astype(precision)
    crop = align.crop(picture, align.estimate(moved, 128, "arcface_128"), 128)
    theirs, _ = face_align.norm_crop2(picture, moved, 128)
    assert np.abs(crop.astype(int) - theirs).max() <= 1


@given(turns, scales, places, st.sampled_from(sorted(PARTS)))
def test_a_posed_template_comes_back(
    turn: float, scale: float, place: tuple[float, float], template: Template
) -> None:
    """What is a template turned, enlarged and moved comes to lie on the template."""
    wanted = align.points_of(template, 256)
    cos, sin = scale * math.cos(turn), scale * math.sin(turn)
    points = wanted @ np.array([[cos, sin], [-sin, cos]]) + place
    matrix = align.estimate(f32(points), 256, template)
    assert np.allclose(points @ matrix[:, :2].T + matrix[:, 2], wanted, atol=0.01)
    assert math.isclose(math.hypot(*matrix[:, 0]), 1 / scale, rel_tol=1e-4)


@given(faces(), st.tuples(*[st.floats(-0.01, 0.01)] * 2, *[st.floats(-2, 2)] * 2))
def test_no_other_similarity_is_nearer(
    points: Matrix, other: tuple[float, float, float, float]
) -> None:
    """The squares are least: any other turn, scale and shift has larger ones."""
    single = f32(points)
    matrix = align.estimate(single, 112, "arcface_112")
    along, across, x, y = other
    moved = np.add(matrix, [[along, -across, x], [across, along, y]])

    def squares(by: Matrix) -> float:
        return float(((single @ by[:, :2].T + by[:, 2] - ARCFACE) ** 2).sum())

    assert squares(matrix) <= squares(moved) + 1e-6


@pytest.mark.parametrize("template", PARTS)
def test_templates_are_the_fields(template: Template) -> None:
    """Each template lies where FaceFusion has it, and grows with the side."""
    assert np.allclose(align.points_of(template, 1), PARTS[template], atol=1e-6)
    parts = np.array(PARTS[template])
    assert np.allclose(align.points_of(template, 512), 512 * parts, atol=1e-3)


def test_the_wide_template_moves_x_alone() -> None:
    """arcface_128 is arcface_112 in a larger square, 8 pixels to the right."""
    wide, narrow = (
        align.points_of("arcface_128", 256),
        align.points_of("arcface_112", 224),
    )
    assert np.allclose(wide - narrow, [16, 0], atol=1e-4)


def test_points_on_a_line_are_a_face() -> None:
    """A profile whose points fall on a line is aligned, as insightface does."""
    line = f32([[100 + 3 * i, 100 + 20 * i] for i in (0, 1, 2, 4, 5)])
    matrix = align.estimate(line, 112, "arcface_112")
    assert np.allclose(matrix, face_align.estimate_norm(line, 112), atol=1e-4)


def unlike() -> Matrix:
    """Return five points that correlate with the template in no turn."""
    wanted = (ARCFACE - ARCFACE.mean(axis=0)) @ [1, 1j]
    points = np.array([30, -20j, 15 + 10j, -40, 15 + 10j])
    points -= points.mean()
    points -= wanted * np.vdot(wanted, points) / np.vdot(wanted, wanted).real
    return np.column_stack((points.real, points.imag)) + 200


@pytest.mark.parametrize(
    "points",
    [
        np.full((5, 2), 300.0),
        np.full((5, 2), 300.0) + np.eye(5, 2) * 0.01,
        np.full((5, 2), math.nan),
        np.full((5, 2), math.inf),
        ARCFACE * 1e30,
        ARCFACE + 1e7,
        unlike(),
    ],
    ids=["equal", "all but equal", "nan", "infinite", "vast", "far off", "no face"],
)
def test_what_is_no_face_is_degenerate(points: Matrix) -> None:
    """Points that say nothing of a face's place are refused, not turned into one."""
    with pytest.raises(align.Degenerate):
        align.estimate(f32(points), 112, "arcface_112")


@pytest.mark.parametrize("shape", [(6, 2), (5, 3), (10,)])
def test_five_points_are_five_pairs(shape: tuple[int, ...]) -> None:
    """Another number of points is a mistake of ours, not a face without a place."""
    with pytest.raises(ValueError, match="five points") as refused:
        align.estimate(f32(np.ones(shape)), 112, "arcface_112")
    assert not isinstance(refused.value, align.Degenerate)
