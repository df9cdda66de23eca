"""What a bucket of S3 says of itself: how it encrypts, and which versions it keeps."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from botocore.exceptions import ClientError

from functions.problems import NotFound, Problem
from functions.storage.base import StoreFault, StoreMissing
from functions.storage.protection import Protection
from functions.storage.s3_client import code, wrapped

if TYPE_CHECKING:
    from collections.abc import Callable

_KMS: Final = frozenset({"aws:kms", "aws:kms:dsse"})
_UNENCRYPTED: Final = "ServerSideEncryptionConfigurationNotFoundError"


def protection_of(client: Any, bucket: str) -> Protection:  # noqa: ANN401  # it has no type
    """Return how `bucket` keeps things, or raise `StoreDenied` or `StoreMissing`."""
    key = _asked(bucket, lambda: _default_key(client, bucket))
    status = _asked(
        bucket, lambda: client.get_bucket_versioning(Bucket=bucket).get("Status", "")
    )
    # Where it was suspended, what was kept before is still there.
    return Protection(key, f"versions, {status.lower()}" if status else "")


def _default_key(client: Any, bucket: str) -> str:  # noqa: ANN401  # as above
    found = client.get_bucket_encryption(Bucket=bucket)
    for rule in found["ServerSideEncryptionConfiguration"]["Rules"]:
        default = rule.get("ApplyServerSideEncryptionByDefault", {})
        if default.get("SSEAlgorithm") in _KMS:
            # One that names none is under AWS's own key for the account: not ours
            # to destroy, and the same for every tenant.
            return str(default.get("KMSMasterKeyID", ""))
    return ""


def _asked(bucket: str, ask: Callable[[], str]) -> str:
    try:
        with wrapped(bucket):
            return ask()
    except NotFound as error:
        raise StoreMissing(internal=f"no bucket {bucket}") from error
    except StoreFault as error:
        if _says(error, _UNENCRYPTED):
            return ""
        raise


def _says(error: Problem, name: str) -> bool:
    return isinstance(error.__cause__, ClientError) and code(error.__cause__) == name
