"""Who is served: as the specs say, from a moment after they say it.

A spec that appears brings its tenant's Triggers, upload watch and daily tick; one that
is deleted ends the watch and the tick, while what is owed is delivered still (its log
and its bills stay).  Of a broken one nothing is delivered and nothing given up until
it is mended.  Suspending changes nothing here: the functions refuse, on record.
"""

from __future__ import annotations

import logging
import threading
from typing import TYPE_CHECKING, Final

from functions.local import manifests
from functions.local.manifests import ManifestError, Manifests, Template, namespace_of
from functions.problems import Problem, Unavailable, UnknownTenant

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Sequence
    from pathlib import Path
    from typing import Protocol

    from functions.local.manifests import Broker, Ping, Trigger
    from functions.roster import FolderRoster, Spec
    from functions.tenant import Tenant

    class Deliveries(Protocol):
        """A broker whose tenants come and go."""

        def serve(
            self,
            brokers: Iterable[Broker],
            triggers: Iterable[Trigger],
            held: Iterable[str] = (),
        ) -> None:
            """Be these brokers from now on; see `broker`."""

    Found = dict[Tenant, Spec | None]
    """Everybody who has a spec; None for one whose spec is broken."""

LOOK_SECONDS: Final = 0.5
log = logging.getLogger(__name__)


class Blueprint:
    """The manifests in a folder: the system's, and a tenant's to be filled.

    `known` are the Services that have a place here; any other is refused with a
    `ManifestError`.  `prefix` gives what the names of a tenant's objects begin with.
    """

    def __init__(
        self, folder: Path, known: Collection[str], prefix: Callable[[Tenant], str]
    ) -> None:
        self.system = manifests.read(folder / manifests.SYSTEM)
        self._tenant = Template(folder / manifests.TENANT)
        self._prefix = prefix
        # Whoever it is for, a Service of every tenant is one process here.
        self.shared = self._tenant.fill({"tenant": "anybody", "prefix": ""})
        parts = self.system, self.shared
        named = {service.name for part in parts for service in part.services}
        named |= {each.subscriber.name for part in parts for each in part.triggers}
        if strangers := named - set(known):
            raise ManifestError(f"no place for {', '.join(sorted(strangers))} here")

    def of(self, tenant: Tenant) -> Manifests:
        """Return a tenant's own, typed."""
        values = {"tenant": tenant.id, "prefix": self._prefix(tenant)}
        return self._tenant.fill(values)


class Tenants:
    """Whom this machine serves; `look` is for a timer to call.

    `welcome` makes what a tenant needs who is new here; `watch` and `tick` are told
    whose uploads are watched, and which pings are sent.
    """

    def __init__(
        self,
        roster: FolderRoster,
        blueprint: Blueprint,
        *,
        welcome: Callable[[Spec], None],
        broker: Deliveries,
        watch: Callable[[Sequence[Spec]], None],
        tick: Callable[[Sequence[Ping]], None],
    ) -> None:
        self._roster = roster
        self._blueprint = blueprint
        self._welcome = welcome
        self._broker = broker
        self._watch = watch
        self._tick = tick
        self._wired: dict[Tenant, Manifests] = {}
        self._seen: Found | None = None
        self._said: set[str] = set()
        self._looking = threading.Lock()

    def look(self) -> None:
        """Serve whom the specs name now.  From any thread."""
        with self._looking:
            self._look()

    def _look(self) -> None:
        try:
            found = self._found()
        except Unavailable as error:
            self._say(str(error))  # whom we served we go on serving
            return
        if found == self._seen:
            return
        turned_away = [
            spec for spec in self._living(found) if not self._is_welcome(spec)
        ]
        for spec in turned_away:
            found[spec.tenant] = None
        self._serve(found)
        self._seen = None if turned_away else found
        if not turned_away:
            self._said.clear()

    def _found(self) -> Found:
        found: Found = {}
        for tenant in self._roster.names():
            try:
                found[tenant] = self._roster.read(tenant)
            except UnknownTenant:
                continue  # it went while we looked
            except Unavailable:  # the roster has said why
                found[tenant] = None
        return found

    def _is_welcome(self, spec: Spec) -> bool:
        known = (self._seen or {}).get(spec.tenant)
        if known == spec:
            return True
        try:
            self._welcome(spec)
        except (OSError, Problem) as error:
            self._say(f"{spec.id} cannot be served: {error}")
            return False
        return True

    def _say(self, what: str) -> None:
        """Log a fault once, however often it is met."""
        if what not in self._said:
            log.error("%s", what)
            self._said.add(what)

    def _serve(self, found: Found) -> None:
        self._wired = {
            tenant: self._wired.get(tenant) or self._blueprint.of(tenant)
            for tenant in found
        }
        system, wired = self._blueprint.system, self._wired.values()
        held = [namespace_of(each.id) for each, spec in found.items() if spec is None]
        self._broker.serve(
            [*system.brokers, *(each for one in wired for each in one.brokers)],
            [*system.triggers, *(each for one in wired for each in one.triggers)],
            held,
        )
        living = self._living(found)
        self._watch(living)
        theirs = (self._wired[spec.tenant].pings for spec in living)
        self._tick([*system.pings, *(each for pings in theirs for each in pings)])
        log.info("%d tenants are served, %d are held", len(living), len(held))

    def _living(self, found: Found) -> list[Spec]:
        return [spec for spec in found.values() if spec and self._serves(spec.tenant)]

    def _serves(self, tenant: Tenant) -> bool:
        """Return whether the tenant is active or suspended, and of our region."""
        try:
            self._roster.spec(tenant)
        except (UnknownTenant, Unavailable):
            return False
        return True
