"""What `guise tenant list` and `show` print."""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING, Any, Final

from functions.cli.tenant.making import current
from functions.cli.terminal import counted, harmless, out, print_json, say
from functions.problems import NotFound, Problem, Unavailable
from functions.roster import plain
from functions.tenant import Key, Tenant

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from functions.cli.tenant.place import Place
    from functions.roster import Spec

EVERYTHING: Final = Key("")
_OBJECTS_MAX: Final = 100_000
_GIB: Final = 2**30


def list_all(place: Place) -> None:
    """Print a line for each tenant there ever was; a broken spec says why."""
    lines = [_line(place, tenant) for tenant in _names(place)]
    if place.json:
        for line in lines:
            print_json(line)
        return
    if not lines:
        say(f"no tenants in {place.specs}: `guise tenant create` makes one")
        return
    from rich.table import Table

    table = Table("tenant", "name", "state", "tier", "level", "region", box=None)
    for line in lines:
        level = "" if line.get("level") is None else str(line["level"])
        name = harmless(str(line.get("name", line.get("fault", ""))), 60)
        table.add_row(
            line["tenant"],
            name,
            _standing(line),
            line.get("tier", ""),
            level,
            line.get("region", ""),
        )
    out().print(table)


def _names(place: Place) -> list[Tenant]:
    return place.roster().names() if place.specs.is_dir() else []


def _line(place: Place, tenant: Tenant) -> dict[str, Any]:
    try:
        spec = current(place, tenant)
    except Unavailable as error:
        cause = error.__cause__
        fault = cause.detail if isinstance(cause, Problem) else str(cause)
        return {"tenant": tenant.id, "state": "broken", "fault": fault}
    return {
        "tenant": spec.id,
        "name": spec.name,
        "state": spec.state,
        "deleted": _is_deleted(place, spec),
        "tier": spec.tier,
        "level": spec.level,
        "why": spec.why,
        "region": spec.region,
        "compute": spec.isolation.compute,
    }


def _is_deleted(place: Place, spec: Spec) -> bool:
    """Return whether a tenant's objects were deleted, also those nobody could read."""
    return spec.state == "deleted" or (
        spec.state == "shredded" and place.is_cleared(spec.tenant)
    )


def _standing(line: Mapping[str, Any]) -> str:
    """Return a tenant's state, and whether a shredded one was deleted besides."""
    state = str(line["state"])
    return "shredded, deleted" if state == "shredded" and line["deleted"] else state


def show(place: Place, name: str) -> None:
    """Print a tenant's spec, what it comes to, and what is used of it."""
    tenant = Tenant(name)
    spec = _read(place, tenant)
    used = dict(_used(place, spec))
    if place.json:
        derived = {"level": spec.level, "why": spec.why, "weight": str(spec.weight)}
        print_json({**plain(spec), **derived, "priority": spec.priority, "used": used})
        return
    state = _standing({"state": spec.state, "deleted": _is_deleted(place, spec)})
    say(f"{spec.id}: {state}, {spec.tier}, level {spec.level}: {spec.why}")
    from rich.table import Table

    table = Table("field", "value", "used", box=None)
    for path, value in _fields(plain(spec)):
        table.add_row(path, harmless(_text(value)), used.get(path, ""))
    out().print(table)
    share = f"weight {spec.weight}, priority {spec.priority}"
    say(f"its share of the pooled device: {share}")


def _read(place: Place, tenant: Tenant) -> Spec:
    try:
        return current(place, tenant)
    except Unavailable as error:
        if isinstance(error.__cause__, Problem):
            raise error.__cause__ from None  # every fault in the file
        raise


def _fields(document: Mapping[str, Any], path: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in document.items():
        if isinstance(value, dict):
            yield from _fields(value, f"{path}{name}.")
        else:
            yield path + name, value


def _text(value: Any) -> str:  # noqa: ANN401  # any field's
    if value is None or value == "":
        return "-"
    return ", ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)


# --- used --------------------------------------------------------------------


def _used(place: Place, spec: Spec) -> Iterator[tuple[str, str]]:
    """Yield what is used of a quota, by its path, as far as it can be told here."""
    if not spec.living or not place.is_local:
        return
    if (stored := _stored(place, spec.tenant)) is not None:
        yield "quotas.storage_gib", stored
    try:
        yield from _spent(place, spec)
    except NotFound:
        return  # nothing was ever billed here


def _stored(place: Place, tenant: Tenant) -> str | None:
    try:
        store = place.stores(tenant).of(tenant)
        size = objects = 0
        cursor = ""
        while True:
            page = store.list(EVERYTHING, cursor=cursor)
            objects += len(page.objects)
            size += sum(info.size for info in page.objects)
            cursor = page.cursor
            if not cursor or objects > _OBJECTS_MAX:
                break
    except Problem:
        return None  # no store is not nothing stored
    more = " at least" if cursor else ""
    return f"{size / _GIB:.3f} in {counted(objects, 'object')}{more}"


def _spent(place: Place, spec: Spec) -> Iterator[tuple[str, str]]:
    from functions.billing import budgeting, budgets
    from functions.cli.bill.close import rate_cards
    from functions.cli.bill.place import Place as Ledger
    from functions.cli.databases import database_url

    cards = rate_cards(None)
    url = database_url(place.folder.database_url("billing"), place.home, "billing")
    if not (place.folder.root / "billing.db").is_file():
        raise NotFound("no ledger")
    month = budgets.this_month()
    with closing(Ledger(place.home, url).ledger()) as ledger:
        spent = budgeting.spent(ledger, cards, spec.id, month)
    yield "quotas.budget.limit", f"{spent:f} {cards.currency} in {month}"
