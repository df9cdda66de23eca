"""Every way a request can fail, as exceptions that know their own document.

The tree, with the status of each (RFC 9457 `type` is `urn:guise:problem:<slug>`,
the slug being the class name in kebab case):

* Problem
  x Refused                 the caller can mend it
    + InvalidRequest        400  not well formed, or asks for what does not exist
      - UnsupportedOption   400  asks for what this pack has no model for
    + Unauthenticated       401
    + OverBudget            402  the tenant's hard budget of this month is used up
    + Forbidden             403
      - UnknownTenant       403
      - OverStorage         403  the tenant's store holds all that it may
      - TenantSuspended     403  nothing new begins; reading and erasing go on
      - ConsentMissing      403
      - NoContentGate       403  nothing here judges what the pictures show
      - ContentRefused      403  the content gate lets no such picture pass
    + NotFound              404
    + Conflict              409
      - IdempotencyConflict 409  the same key, other inputs
      - Cancelled           409
    + Gone                  410  erased
    + TooLarge              413
    + Unreadable            415  bytes that are not the image they claim to be
    + Unsupported           415  a format, or a kind of file, we do not take
    + NoFace                422
      - NoSuchFace          422
    + TooManyRequests       429
  x Failed                  only we can mend it
    + Unavailable           503  not now; try again
      - NoReceipt           503  the audit function did not answer: nothing is done
      - NotServedHere       503  the tenant has a door and a worker of its own
    + Changed               (internal) a conditional write found something else

`detail` is shown to the caller; `internal` only ever reaches the log.
"""

from __future__ import annotations

import re
from typing import Any, ClassVar, Final

_HUMP: Final = re.compile(r"(?<!^)(?=[A-Z])")
TYPE_PREFIX: Final = "urn:guise:problem:"


class Problem(Exception):
    """A failure with a status, a public detail and a private one."""

    status: ClassVar[int] = 500
    title: ClassVar[str] = "Internal error"

    def __init__(self, detail: str = "", *, internal: str = "") -> None:
        super().__init__(internal or detail or self.title)
        self.detail = detail

    @property
    def slug(self) -> str:
        """The stable name that clients may switch on."""
        return _HUMP.sub("-", type(self).__name__).lower()

    def document(self, *, instance: str = "") -> dict[str, Any]:
        """Return the `application/problem+json` document, without any cause."""
        document: dict[str, Any] = {
            "type": TYPE_PREFIX + self.slug,
            "title": self.title,
            "status": self.status,
        }
        if self.detail:
            document["detail"] = self.detail
        if instance:
            document["instance"] = instance
        return document


class Refused(Problem):
    """The caller can mend it."""

    status, title = 400, "Refused"


class InvalidRequest(Refused):
    """The request, or the event it came in, is not well formed."""

    status, title = 400, "Invalid request"


class UnsupportedOption(InvalidRequest):
    """An option for which the pack that is loaded has no model."""

    title = "Unsupported option"


class Unauthenticated(Refused):
    """No bearer token, or one that does not verify."""

    status, title = 401, "Who are you?"


class OverBudget(Refused):
    """A job of a tenant whose hard budget of this month is used up."""

    status, title = 402, "Over budget"


class Forbidden(Refused):
    """The caller is known and may not do this."""

    status, title = 403, "Not allowed"


class UnknownTenant(Forbidden):
    """No tenant, or one this function does not serve."""

    title = "Unknown tenant"


class OverStorage(Forbidden):
    """A job of a tenant whose store holds all that it may."""

    title = "Over storage"


class TenantSuspended(Forbidden):
    """New work of a tenant that the operator has suspended."""

    title = "Tenant suspended"


class ConsentMissing(Forbidden):
    """A swap without a recorded basis for using the person's face."""

    title = "Consent missing"


class NoContentGate(Forbidden):
    """A swap where nothing judges what the pictures show, as the policy asks."""

    title = "No content gate"


class ContentRefused(Forbidden):
    """A picture that the content gate does not let pass."""

    title = "Content refused"


class NotFound(Refused):
    """What the request names does not exist for this tenant."""

    status, title = 404, "Not found"


class Conflict(Refused):
    """The request contradicts what is already recorded."""

    status, title = 409, "Conflict"


class IdempotencyConflict(Conflict):
    """The same job or Idempotency-Key was used for something else."""

    title = "Same key, other request"


class Cancelled(Conflict):
    """The job was cancelled before it ended."""

    title = "Cancelled"


class Gone(Refused):
    """It existed and was erased."""

    status, title = 410, "Erased"


class TooLarge(Refused):
    """An input is over its limit."""

    status, title = 413, "Too large"


class Unreadable(Refused):
    """Bytes that are not the image they claim to be."""

    status, title = 415, "Unreadable image"


class Unsupported(Refused):
    """A format, or a kind of file, that is not taken."""

    status, title = 415, "Unsupported image"


class NoFace(Refused):
    """An image in which no face is found."""

    status, title = 422, "No face found"


class NoSuchFace(NoFace):
    """The face that was asked for is not among those found."""

    title = "No such face"


class TooManyRequests(Refused):
    """The tenant is over its rate; after `retry_seconds` it is not."""

    status, title = 429, "Too many requests"

    def __init__(
        self, detail: str = "", *, internal: str = "", retry_seconds: int = 1
    ) -> None:
        super().__init__(detail, internal=internal)
        self.retry_seconds = retry_seconds


class Failed(Problem):
    """Only we can mend it; the caller sees an instance id, and never the cause."""


class Unavailable(Failed):
    """Not now; try again."""

    status, title = 503, "Unavailable"


class NoReceipt(Unavailable):
    """The audit function gave no receipt, so nothing was done."""

    title = "Not recorded"


class NotServedHere(Unavailable):
    """A tenant that is promised more than this function keeps."""

    title = "Not served here"


class Changed(Failed):
    """A conditional write found another generation than the one it expected."""
