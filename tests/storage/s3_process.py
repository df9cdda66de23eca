"""Starting the server of `s3_server`, and the environment its clients need."""

from __future__ import annotations

import subprocess
import sys
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from functions.storage.s3_client import client

if TYPE_CHECKING:
    from collections.abc import Iterator

ENVIRON = {
    "AWS_ACCESS_KEY_ID": "tests",
    "AWS_SECRET_ACCESS_KEY": "no secret",
    "AWS_CONFIG_FILE": "/dev/null",
    "AWS_SHARED_CREDENTIALS_FILE": "/dev/null",
    "AWS_EC2_METADATA_DISABLED": "true",
    "NO_PROXY": "127.0.0.1",
}


@dataclass(frozen=True)
class Server:
    """A running server."""

    endpoint: str

    @property
    def client(self) -> Any:
        return client(self.endpoint)

    def bucket(self, name: str) -> str:
        """Make a bucket, and return its name."""
        self.client.create_bucket(Bucket=name)
        return name

    def uploads(self, bucket: str) -> list[str]:
        """Return the ids of uploads in parts that are neither done nor given up."""
        found = self.client.list_multipart_uploads(Bucket=bucket).get("Uploads", [])
        return [each["UploadId"] for each in found]


@contextmanager
def serving() -> Iterator[Server]:
    """Yield a server in a process of its own; the environment must be `ENVIRON`."""
    script = Path(__file__).with_name("s3_server.py")
    with subprocess.Popen([sys.executable, script], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        try:
            port = int(process.stdout.readline())
            yield Server(f"http://127.0.0.1:{port}")
        finally:
            process.kill()
