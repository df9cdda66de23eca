"""1.5 GiB into each store and out again, and how much memory that takes.

Each store has a process of its own.  S3 is moto's server on this machine, Google's is
that of the tests; both hold the object in their own memory: the seconds are the
server's, the memory is ours.
"""

from __future__ import annotations

import hashlib
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Final

from functions.storage import open_store
from functions.tenant import Key

if TYPE_CHECKING:
    from functions.storage import Store

SIZE: Final = 1536 * 1024 * 1024
PIECE: Final = 1024 * 1024
SERVERS: Final = Path(__file__).parents[1] / "tests" / "storage"
KEY: Final = Key("uploads/film.mp4")
CREDENTIALS: Final = {
    "AWS_ACCESS_KEY_ID": "benchmark",
    "AWS_SECRET_ACCESS_KEY": "no secret",
    "AWS_CONFIG_FILE": os.devnull,
    "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
    "AWS_EC2_METADATA_DISABLED": "true",
}


class Zebra:
    """`SIZE` bytes of which no two pieces are alike, and their SHA-256."""

    def __init__(self) -> None:
        self.left = SIZE
        self.digest = hashlib.sha256()

    def read(self, size: int) -> bytes:
        """Return the next piece."""
        size = min(size, self.left)
        data = (self.left.to_bytes(8, "big") * (size // 8 + 1))[:size]
        self.left -= size
        self.digest.update(data)
        return data


def drained(stream: BinaryIO) -> bytes:
    """Return the SHA-256 of all that a stream gives."""
    digest = hashlib.sha256()
    while piece := stream.read(PIECE):
        digest.update(piece)
    return digest.digest()


def peak_mib() -> float:
    """Return the most memory this process has had resident."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def opened(kind: str, ending: ExitStack) -> Store:
    """Return an empty store, gone at the end."""
    if kind == "file":
        folder = ending.enter_context(tempfile.TemporaryDirectory())
        return open_store(f"file://{folder}/acme")
    os.environ.update(CREDENTIALS)
    command = [sys.executable, str(SERVERS / f"{kind}_server.py"), "acme"]
    server = ending.enter_context(
        subprocess.Popen(command, stdout=subprocess.PIPE)  # noqa: S603  # ours
    )
    ending.callback(server.kill)
    assert server.stdout is not None  # noqa: S101  # it is a pipe
    endpoint = f"http://127.0.0.1:{int(server.stdout.readline())}"
    if kind == "gcs":
        return open_store(f"gs://acme?endpoint={endpoint}")
    from functions.storage.s3_client import client

    client(endpoint).create_bucket(Bucket="acme")
    return open_store(f"s3://acme?endpoint={endpoint}")


def measure(kind: str) -> None:
    """Stream both ways and print one JSON line."""
    with ExitStack() as ending:
        store = opened(kind, ending)
        store.put(Key("uploads/first"), b"x")  # what is imported is imported now
        before = peak_mib()
        source = Zebra()
        began = time.perf_counter()
        store.put_from(KEY, source)  # type: ignore[arg-type]  # all of it that is used
        written = time.perf_counter()
        with store.open(KEY) as stream:
            whole = drained(stream) == source.digest.digest()
        print(
            json.dumps(
                {
                    "name": f"store_stream_{kind}",
                    "bytes": SIZE,
                    "whole": whole,
                    "write_s": round(written - began, 1),
                    "read_s": round(time.perf_counter() - written, 1),
                    "rss_before_mib": round(before),
                    "rss_peak_mib": round(peak_mib()),
                },
            ),
        )


def main() -> None:
    """Measure the stores that are named, or each of them."""
    kinds = sys.argv[1:]
    if len(kinds) == 1:
        measure(kinds[0])
        return
    for kind in kinds or ("file", "gcs", "s3"):
        subprocess.run([sys.executable, __file__, kind], check=True)  # noqa: S603  # ours


if __name__ == "__main__":
    main()
