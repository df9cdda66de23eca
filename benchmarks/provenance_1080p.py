"""Milliseconds to label and sign a 1080p JPEG, parent ingredient and check included.

5 ms is what it may take.  There is no peer that does the same.  The first signature
of a process loads tables of the library, and is left out.
"""

from __future__ import annotations

import json
import platform
import statistics
import time
from pathlib import Path

import cv2
import numpy as np

from functions.keys import MemoryKeys
from functions.sink import Receipt
from functions.swap.media import Image, decode, encode
from functions.swap.provenance import Credentials, Work, chain

PORTRAIT = Path(__file__).parents[1] / "examples" / "hopper.jpg"
RUNS = 101


def photograph() -> bytes:
    """Return a portrait at 1920 x 1080, quality 92, as the worker encodes it."""
    pixels = decode(PORTRAIT.read_bytes()).pixels
    scaled = cv2.resize(pixels, (1920, 1080), interpolation=cv2.INTER_CUBIC)
    return encode(Image(np.asarray(scaled, np.uint8), "jpeg"), "jpeg", 92)


def main() -> None:
    """Print the median as one JSON line."""
    signer = MemoryKeys().signer(chain.KEY)
    pem, _ = chain.self_made(signer.private.public_key())
    credentials = Credentials(signer.sign, pem)
    data = photograph()
    note = "guise.audit/acme\n4\n5BntDZcxxC/3r3/Bva+bVH4Cz1VDm5WT2lKmmP6hPAU=\n\n"
    pack = {"id": "lite", "version": "1.0.0", "digest": "00" * 32}
    work = Work("job-1", "swap", pack, Receipt(3, "00" * 32, note))
    credentials.sign(data, "jpeg", data, work)
    taken = []
    for _ in range(RUNS):
        began = time.perf_counter()
        signed = credentials.sign(data, "jpeg", data, work)
        taken.append((time.perf_counter() - began) * 1000)
    line = {
        "name": "provenance_1080p",
        "ours": round(statistics.median(taken), 3),
        "peer": None,
        "ratio": None,
        "unit": "ms",
        "device": f"{platform.machine()}, 1 thread",
        "n": RUNS,
        "added_bytes": len(signed.data) - len(data),
    }
    print(json.dumps(line))


if __name__ == "__main__":
    main()
