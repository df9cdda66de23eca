"""A ring guarded by Google Cloud KMS: a symmetric key for each tenant.

Through its REST API (cloud.google.com/kms/docs/reference/rest/v1, read 2026-11):
`cryptoKeys.encrypt` and `.decrypt` with additional authenticated data and the CRC-32C
of everything both ways, as its guide to data integrity asks for;
`cryptoKeyVersions.create` and `cryptoKeys.updatePrimaryVersion` to rotate;
`cryptoKeyVersions.list` and `.destroy`.

A version that is destroyed opens nothing from that moment on; the service keeps it
restorable for the key's `destroyScheduledDuration` (30 days unless said otherwise).
"""

from __future__ import annotations

import base64
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final

import google.auth
import google_crc32c
import requests
from google.auth import exceptions as auth
from google.auth.transport.requests import AuthorizedSession

from functions.problems import Failed, Problem, Unavailable

if TYPE_CHECKING:
    from functions.tenant import Tenant

ENDPOINT: Final = "https://cloudkms.googleapis.com"
SCOPE: Final = "https://www.googleapis.com/auth/cloudkms"
_TIMEOUT: Final = (3.0, 15.0)
_PAGE: Final = 1_000
_ALIVE: Final = frozenset({"ENABLED", "DISABLED"})
_NOT_NOW: Final = frozenset({408, 429, 500, 502, 503, 504})


class GcpKms:
    """A `Guard` whose key of a tenant is `resource`, `{tenant}` filled in.

    `endpoint` is empty for Google itself; to one of somebody else's it says nothing
    of who it is.
    """

    def __init__(self, resource: str, *, endpoint: str = "") -> None:
        self._resource = resource
        self._endpoint = endpoint

    def wrap(self, tenant: Tenant, name: str, key: bytes) -> bytes:
        """Return the key's ciphertext under the primary version."""
        bound = _bound(tenant, name)
        answer = self._post(
            f"{self._key(tenant)}:encrypt",
            {
                "plaintext": _text(key),
                "plaintextCrc32c": _checksum(key),
                "additionalAuthenticatedData": _text(bound),
                "additionalAuthenticatedDataCrc32c": _checksum(bound),
            },
        )
        heard = answer.get("verifiedPlaintextCrc32c")
        if not heard or not answer.get("verifiedAdditionalAuthenticatedDataCrc32c"):
            raise Unavailable(internal="KMS did not hear what was said")
        return _sound(answer, "ciphertext")

    def unwrap(self, tenant: Tenant, name: str, wrapped: bytes) -> bytes:
        """Return the key, or raise `Failed` if it is none of this tenant's name."""
        bound = _bound(tenant, name)
        answer = self._post(
            f"{self._key(tenant)}:decrypt",
            {
                "ciphertext": _text(wrapped),
                "ciphertextCrc32c": _checksum(wrapped),
                "additionalAuthenticatedData": _text(bound),
                "additionalAuthenticatedDataCrc32c": _checksum(bound),
            },
        )
        return _sound(answer, "plaintext")

    def rotate(self, tenant: Tenant) -> None:
        """Make a new version and let it be the primary one."""
        key = self._key(tenant)
        made = self._post(f"{key}/cryptoKeyVersions", {})
        number = str(made["name"]).rpartition("/")[2]
        self._post(f"{key}:updatePrimaryVersion", {"cryptoKeyVersionId": number})

    def destroy(self, tenant: Tenant) -> int:
        """Schedule every version's destruction; none opens anything from now on."""
        alive = [
            each["name"] for each in self._versions(tenant) if each["state"] in _ALIVE
        ]
        for name in alive:
            self._post(f"{name}:destroy", {})
        return len(alive)

    def _versions(self, tenant: Tenant) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = []
        token = ""
        while True:
            query = {"pageSize": str(_PAGE), "pageToken": token}
            path = f"{self._key(tenant)}/cryptoKeyVersions"
            answer = self._ask("GET", path, params=query)
            found += answer.get("cryptoKeyVersions", [])
            token = answer.get("nextPageToken", "")
            if not token:
                return found

    def _key(self, tenant: Tenant) -> str:
        return self._resource.replace("{tenant}", tenant.id)

    def _post(self, path: str, body: dict[str, str]) -> dict[str, Any]:
        return self._ask("POST", path, json=body)

    def _ask(self, method: str, path: str, **what: Any) -> dict[str, Any]:  # noqa: ANN401  # as requests has it
        url = f"{self._endpoint or ENDPOINT}/v1/{path}"
        try:
            answer = _session(self._endpoint).request(
                method, url, timeout=_TIMEOUT, **what
            )
        except (requests.RequestException, auth.TransportError) as error:
            raise Unavailable(internal=f"KMS {path}: {error}") from error
        except auth.GoogleAuthError as error:
            raise Failed(internal=f"KMS {path}: {error}") from error
        if not answer.ok:
            kind: type[Problem] = (
                Unavailable if answer.status_code in _NOT_NOW else Failed
            )
            raise kind(internal=f"KMS {path}: {answer.status_code} {_said(answer)}")
        try:
            found: dict[str, Any] = dict(answer.json())
        except ValueError as error:
            raise Unavailable(internal=f"KMS {path}: no JSON") from error
        return found


@lru_cache(maxsize=8)
def _session(endpoint: str) -> requests.Session:
    if endpoint:
        return requests.Session()
    credentials, _ = google.auth.default(scopes=[SCOPE])
    session: requests.Session = AuthorizedSession(credentials)  # type: ignore[no-untyped-call]
    return session


def _bound(tenant: Tenant, name: str) -> bytes:
    return f"guise ring v1 {tenant.id} {name}".encode()


def _text(data: bytes) -> str:
    return base64.b64encode(data).decode()


def _checksum(data: bytes) -> str:
    """Return the CRC-32C as the API has it: an int64, hence a string."""
    return str(google_crc32c.value(data))


def _sound(answer: dict[str, Any], name: str) -> bytes:
    try:
        data = base64.b64decode(answer.get(name, ""), validate=True)
    except ValueError as error:
        raise Unavailable(internal=f"KMS: {name} is no base64") from error
    if str(answer.get(f"{name}Crc32c")) != _checksum(data):
        raise Unavailable(internal=f"KMS: the {name} was damaged on the way")
    return data


def _said(answer: requests.Response) -> str:
    try:
        return str(answer.json()["error"]["message"])
    except (ValueError, LookupError, TypeError):
        return ""
