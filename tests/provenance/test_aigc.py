"""The AI label of GB 45438-2025, where each format carries it."""

from __future__ import annotations

import io
import json
from typing import TYPE_CHECKING

import pytest
from PIL import Image as Pillow

from functions.swap import media
from functions.swap.provenance import aigc, containers
from tests.provenance.files import FORMS, picture

if TYPE_CHECKING:
    from functions.swap.provenance.containers import Form

forms = pytest.mark.parametrize("form", FORMS)


@forms
def test_a_label_is_read_as_it_was_written(form: Form) -> None:
    """Also one in Chinese, with everything that XML and Latin-1 would trip over."""
    values = aigc.label("换脸 & Söhne <\"'>", "job-1")
    labelled = aigc.write(picture(form), form, values)
    assert aigc.read(labelled, form) == values
    assert (media.decode(labelled).pixels == media.decode(picture(form)).pixels).all()


def test_others_find_it_where_the_standard_says() -> None:
    """By a library that we did not write: tEXt in PNG, XMP in JPEG and WebP."""
    values = aigc.label("Guise", "job-1")
    opened = {
        form: Pillow.open(io.BytesIO(aigc.write(picture(form), form, values)))
        for form in FORMS
    }
    assert json.loads(opened["png"].info["AIGC"]) == values
    for form in ("jpeg", "webp"):
        assert b'<TC260:AIGC>{"Label":"1",' in opened[form].info["xmp"]
    assert list(values) == list(aigc.NAMES)


@pytest.mark.parametrize("alpha", [True, False])
def test_a_lossless_webp_keeps_its_alpha(alpha: bool) -> None:  # noqa: FBT001 - a case
    """In the extended form a flag says whether there is any."""
    kept = io.BytesIO()
    mode = "RGBA" if alpha else "RGB"
    Pillow.new(mode, (5, 7), (10, 20, 30, 40)[: len(mode)]).save(
        kept, "webp", lossless=True
    )
    data = kept.getvalue()
    assert data[12:16] == b"VP8L"
    labelled = aigc.write(data, "webp", aigc.label("Guise", "job-1"))
    read = Pillow.open(io.BytesIO(labelled))
    assert (read.mode, read.size) == (mode, (5, 7))


def test_an_extended_webp_stays_what_it_was() -> None:
    """With its alpha, and its profile."""
    kept = io.BytesIO()
    Pillow.new("RGBA", (5, 7), (1, 2, 3, 4)).save(kept, "webp", exif=b"Exif\0\0II*\0")
    labelled = aigc.write(kept.getvalue(), "webp", aigc.label("Guise", "j"))
    assert Pillow.open(io.BytesIO(labelled)).mode == "RGBA"
    assert aigc.read(labelled, "webp") is not None


def test_a_label_written_as_an_attribute_is_read_too() -> None:
    """As other tools write XMP."""
    text = b"<x TC260:AIGC='{&quot;Label&quot;:&quot;2&quot;}'/>"
    labelled = containers.with_xmp(picture("jpeg"), "jpeg", text)
    found = aigc.read(labelled, "jpeg")
    assert found is not None
    assert found["Label"] == "2"


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"{",
        b"[]",
        b'{"Label":1}',
        b"{}",
        b"[" * 4000,
        b'{"Label":"%s"}' % (b"1" * 5000),
    ],
)
def test_attack_a_label_that_is_none(text: bytes) -> None:
    """It is passed over: a target's author may have written anything."""
    labelled = containers.with_text(picture("png"), b"AIGC", text)
    assert aigc.read(labelled, "png") is None


@forms
def test_a_file_without_a_label_has_none(form: Form) -> None:
    """Nor has one that is cut short anywhere."""
    data = picture(form)
    for end in (*range(12, 80), len(data)):
        assert aigc.read(data[:end], form) is None


def test_a_jpeg_without_jfif_takes_a_label() -> None:
    """Straight after its start."""
    data = picture("jpeg")
    assert data[2:4] == b"\xff\xe0"
    bare = data[:2] + data[20:]
    values = aigc.label("Guise", "j")
    assert aigc.read(aigc.write(bare, "jpeg", values), "jpeg") == values


def test_a_label_too_long_for_a_segment_is_an_error() -> None:
    """Rather than a broken file."""
    with pytest.raises(ValueError, match="too many"):
        containers.with_xmp(picture("jpeg"), "jpeg", b"x" * 65_600)
