"""A client of S3 that gives up in time, and what its errors mean here.

One client is shared by every bucket at an endpoint: making one reads the whole
description of the service (60 ms, 10 MB), and it is safe among threads.
Credentials come from where AWS's own tools look: the environment, the profile,
the pod's or the machine's role.
"""

from __future__ import annotations

import logging
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final

import botocore.session
import urllib3.exceptions
from botocore import exceptions as boto
from botocore.config import Config

from functions.problems import Changed, InvalidRequest, NotFound, Problem
from functions.storage.base import (
    StoreBusy,
    StoreClock,
    StoreDamaged,
    StoreDenied,
    StoreFault,
    StoreMissing,
    StoreUnreachable,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

log = logging.getLogger(__name__)

REGION: Final = "us-east-1"
"""What S3 calls the place of a bucket that was not told where to be; MinIO too."""
_CLIENTS_MAX: Final = 8
_CONNECTIONS_MAX: Final = 32
_SERVER_FAULT: Final = 500

# The error codes of S3, and of MinIO where they begin with an X.  A HEAD has no
# body to name one, only its status.
_CODES: Final[dict[str, type[Problem]]] = {
    "NoSuchKey": NotFound,
    "404": NotFound,
    "NoSuchBucket": StoreMissing,
    "PreconditionFailed": Changed,
    "412": Changed,
    "AccessDenied": StoreDenied,
    "AllAccessDisabled": StoreDenied,
    "AccountProblem": StoreDenied,
    "ExpiredToken": StoreDenied,
    "InvalidAccessKeyId": StoreDenied,
    "InvalidToken": StoreDenied,
    "NotSignedUp": StoreDenied,
    "SignatureDoesNotMatch": StoreDenied,
    "401": StoreDenied,
    "403": StoreDenied,
    "RequestTimeTooSkewed": StoreClock,
    "RequestExpired": StoreClock,
    "ConditionalRequestConflict": StoreBusy,
    "OperationAborted": StoreBusy,
    "RequestLimitExceeded": StoreBusy,
    "SlowDown": StoreBusy,
    "SlowDownRead": StoreBusy,
    "SlowDownWrite": StoreBusy,
    "ServiceUnavailable": StoreBusy,
    "Throttling": StoreBusy,
    "ThrottlingException": StoreBusy,
    "TooManyRequests": StoreBusy,
    "429": StoreBusy,
    "503": StoreBusy,
    "BadDigest": StoreDamaged,
    "InvalidDigest": StoreDamaged,
    "XAmzContentChecksumMismatch": StoreDamaged,
    "XAmzContentSHA256Mismatch": StoreDamaged,
    "IncompleteBody": StoreUnreachable,
    "InternalError": StoreUnreachable,
    "NoSuchUpload": StoreUnreachable,
    "RequestTimeout": StoreUnreachable,
    "KeyTooLongError": InvalidRequest,
    "XMinioInvalidObjectName": InvalidRequest,
    "XMinioObjectExistsAsDirectory": InvalidRequest,
    "XMinioParentIsObject": InvalidRequest,
}
_NO_CREDENTIALS: Final = (
    boto.NoCredentialsError,
    boto.PartialCredentialsError,
    boto.CredentialRetrievalError,
    boto.ProfileNotFound,
    boto.RefreshWithMFAUnsupportedError,
)
_BROKEN: Final = (
    boto.ConnectionError,
    boto.HTTPClientError,
    boto.IncompleteReadError,
    boto.ResponseStreamingError,
    urllib3.exceptions.HTTPError,
)


@dataclass(frozen=True, slots=True)
class Patience:
    """How long one try may wait, and how many tries there are."""

    connect_seconds: float = 3.0
    read_seconds: float = 15.0
    tries: int = 3


@lru_cache(maxsize=_CLIENTS_MAX)
def client(
    endpoint: str = "",
    region: str = "",
    patience: Patience = Patience(),  # frozen
) -> Any:  # noqa: ANN401  # made from the service's description; it has no type
    """Return the client for `endpoint` (AWS itself if empty) and `region`."""
    session = botocore.session.get_session()
    if not region and endpoint:
        region = session.get_config_variable("region") or REGION
    # Addresses like bucket.host need a DNS zone, which only AWS is sure to have.
    style = {"addressing_style": "path"} if endpoint else {}
    config = Config(
        connect_timeout=patience.connect_seconds,
        read_timeout=patience.read_seconds,
        retries={"total_max_attempts": patience.tries, "mode": "standard"},
        max_pool_connections=_CONNECTIONS_MAX,
        s3=style,
    )
    with wrapped("the client"):
        return session.create_client(
            "s3",
            endpoint_url=endpoint or None,
            region_name=region or None,
            config=config,
        )


@contextmanager
def wrapped(what: str) -> Iterator[None]:
    """Turn what the client raises into what a store raises, each by its name."""
    try:
        yield
    except boto.ClientError as error:
        raise _answered(error, what) from error
    except boto.FlexibleChecksumError as error:
        raise StoreDamaged(internal=f"{what}: {error}") from error
    except _NO_CREDENTIALS as error:
        raise StoreDenied(internal=f"{what}: {error}") from error
    except _BROKEN as error:
        raise StoreUnreachable(internal=f"{what}: {error}") from error
    except boto.BotoCoreError as error:
        raise StoreFault(internal=f"{what}: {error}") from error


def _answered(error: boto.ClientError, what: str) -> Problem:
    """Return what an answer of the service means."""
    kind = _CODES.get(code(error)) or _by_status(status(error))
    if kind is NotFound:
        return NotFound(f"{what} does not exist")
    if kind is InvalidRequest:
        return InvalidRequest(f"{what} cannot be an object here")
    return kind(internal=f"{what}: {error}")


def _by_status(number: int) -> type[Problem]:
    known = _CODES.get(str(number))
    if known is not None and known is not NotFound:
        return known
    return StoreUnreachable if number >= _SERVER_FAULT else StoreFault


def code(error: boto.ClientError) -> str:
    """Return the service's own name of an error, e.g. `NoSuchKey`."""
    return str(error.response.get("Error", {}).get("Code", ""))


def status(error: boto.ClientError) -> int:
    """Return the HTTP status of the answer."""
    return int(_about(error).get("HTTPStatusCode", 0))


def retried(error: boto.ClientError) -> bool:
    """Return whether an earlier try of the same request may have been done."""
    return int(_about(error).get("RetryAttempts", 0)) > 0


def _about(error: boto.ClientError) -> dict[str, Any]:
    found: dict[str, Any] = error.response.get("ResponseMetadata", {})
    return found
