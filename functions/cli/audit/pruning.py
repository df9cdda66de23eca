"""How long entries are kept, and dropping those whose time is over."""

from __future__ import annotations

import time
from contextlib import closing
from dataclasses import asdict
from typing import TYPE_CHECKING

from functions.audit import pruning
from functions.cli.terminal import busy, print_json, say
from functions.tenant import Tenant

if TYPE_CHECKING:
    from functions.cli.audit.place import Place


def show_retention(place: Place, tenant: str, days: int | None, *, json: bool) -> None:
    """Set the retention if one is given, and print what it is."""
    who = Tenant(tenant).id
    with closing(place.store()) as store:
        if days is not None:
            pruning.set_retention(store, who, days)
        kept = pruning.retention_of(store, who)
    if json:
        print_json({"tenant": who, "days": kept})
    else:
        how_long = "for ever" if kept is None else f"for {kept} days"
        say(f"{who}: entries are kept {how_long}")


def prune_log(place: Place, tenant: str, *, json: bool) -> None:
    """Drop what is too old, and print what it was."""
    who = Tenant(tenant).id
    with closing(place.store()) as store, busy("dropping old entries", quiet=json):
        dropped = pruning.prune(store, who, int(time.time() * 1000))
    if json:
        print_json({"tenant": who, "pruned": [asdict(each) for each in dropped]})
        return
    for each in dropped:
        say(
            f"{who}, epoch {each.epoch}: {each.entries} entries dropped, kept from"
            f" entry {each.minimum} on; nothing private is left of {each.jobs} jobs"
        )
