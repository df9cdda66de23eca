"""Who the tenants are, what each may have, and how far each is kept apart."""

from functions.roster.folder import EveryTenant, FolderRoster, Roster, roster_of
from functions.roster.lifecycle import (
    RECEIPT_SECONDS_MAX,
    Change,
    changed,
    put_on_record,
)
from functions.roster.reading import InvalidSpec, parse, write
from functions.roster.spec import (
    Budget,
    Consent,
    Gate,
    Impossible,
    Isolation,
    Level,
    Models,
    Policy,
    Quotas,
    Retention,
    Spec,
    plain,
)

__all__ = [
    "RECEIPT_SECONDS_MAX",
    "Budget",
    "Change",
    "Consent",
    "EveryTenant",
    "FolderRoster",
    "Gate",
    "Impossible",
    "InvalidSpec",
    "Isolation",
    "Level",
    "Models",
    "Policy",
    "Quotas",
    "Retention",
    "Roster",
    "Spec",
    "changed",
    "parse",
    "plain",
    "put_on_record",
    "roster_of",
    "write",
]
