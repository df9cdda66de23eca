"""Who the tenants are, what each may have, and how far each is kept apart."""

from functions.roster.folder import EveryTenant, FolderRoster, Roster, roster_of
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
    "Budget",
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
    "parse",
    "plain",
    "roster_of",
    "write",
]
