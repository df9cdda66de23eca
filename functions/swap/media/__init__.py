"""Bytes to pixels and back: `decode` trusts nothing, `encode` tells nothing.

Read `codec` first.  `header` decides what a file is from its magic bytes alone;
`jpeg`, `png` and `webp` walk their containers without decoding a pixel, so a
bomb, a stump or an animation is refused before any codec has seen it.
"""

from functions.swap.media.codec import decode, encode
from functions.swap.media.header import Format, Header, read_header
from functions.swap.media.image import Image
from functions.swap.media.label import write_on

__all__ = ["Format", "Header", "Image", "decode", "encode", "read_header", "write_on"]
