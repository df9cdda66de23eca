"""A place at a door for every request: no tenant has so many that others have none.

Where people ask, each tenant has a rate, too: whoever asks on and on has a process
work for nobody else however few of its places they hold.

Slow bodies and slow readers hold a place and a thread for as long as they please to:
whoever has as many as are free is told to come again, by the request's head alone.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from flask import Response, after_this_request

from functions.problems import TooManyRequests
from functions.ratelimit import Rates, Room

if TYPE_CHECKING:
    from functions.auth import Authenticator, Caller
    from functions.settings import Limits, Settings
    from functions.tenant import Tenant

_AT_ONCE_BYTES: Final = 64 * 1024
"""What the kernel takes of an answer without the reader: no thread waits for that."""


def seat(room: Room, tenant: Tenant) -> None:
    """Have the current request take a place of the tenant's until it is answered.

    Raises `TooManyRequests`.
    """
    if not room.enter(tenant):
        raise TooManyRequests("too many requests at once")

    @after_this_request
    def leave(response: Response) -> Response:
        if response.is_streamed or (response.content_length or 0) > _AT_ONCE_BYTES:
            response.call_on_close(lambda: room.leave(tenant))
        else:
            room.leave(tenant)
        return response


class Seated:
    """Tells who asks, as another authenticator does, and gives them a place.

    For doors that ask once a request, before its body is read.  What comes in some
    other way, such as events, has no rate, and the threads that the room leaves.
    """

    def __init__(
        self, authenticator: Authenticator, room: Room, limits: Limits
    ) -> None:
        self._authenticator = authenticator
        self._room = room
        self._rates = Rates()
        self._pace = limits.reads_per_second_max, limits.reads_burst_max

    def caller(self, authorization: str) -> Caller:
        """Return who sent `authorization`; see `Authenticator`.

        Raises `TooManyRequests` too.
        """
        caller = self._authenticator.caller(authorization)
        self._rates.take(caller.tenant, *self._pace)
        seat(self._room, caller.tenant)
        return caller


def seated(authenticator: Authenticator, settings: Settings) -> Seated:
    """Return `authenticator` with what places and rate people have in a process."""
    room = Room(settings.limits.door_requests_max, shared=settings.tenant is None)
    return Seated(authenticator, room, settings.limits)
