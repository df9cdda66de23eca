"""Old ledgers become new ones in place, and nothing that was counted is lost."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext

from functions.billing.invoice import Period
from functions.billing.ledger import SCHEMA, Ledger, Selection
from functions.billing.tables import metadata
from functions.database import migrate, open_database, transaction
from functions.settings import SettingsError
from tests.billing.house import BOTH
from tests.billing.test_billing_closing import usage
from tests.postgres import OWNER

if TYPE_CHECKING:
    from pathlib import Path

    from tests.postgres import Database

DATABASES = BOTH
# The one table that there was before there were versions.
OLD = (
    """
    CREATE TABLE usage (
        tenant TEXT NOT NULL, source TEXT NOT NULL, id TEXT NOT NULL,
        digest {blob} NOT NULL, at_ms BIGINT NOT NULL, job TEXT NOT NULL,
        operation TEXT NOT NULL, outcome TEXT NOT NULL, billable BOOLEAN NOT NULL,
        device_kind TEXT NOT NULL, device_name TEXT NOT NULL,
        device_uuid TEXT NOT NULL, device_share TEXT NOT NULL,
        model_digest TEXT NOT NULL, lease_ms BIGINT NOT NULL, gpu_ms BIGINT NOT NULL,
        cpu_ms BIGINT NOT NULL, load_ms BIGINT NOT NULL, requests BIGINT NOT NULL,
        faces BIGINT NOT NULL, frames BIGINT NOT NULL, input_bytes BIGINT NOT NULL,
        output_bytes BIGINT NOT NULL, PRIMARY KEY (tenant, source, id)
    )
    """,
    "CREATE INDEX usage_of_period ON usage (tenant, at_ms)",
    """
    INSERT INTO usage VALUES (
        'acme', 's', 'u1', {empty}, 1790812800000, 'j1', 'swap', 'completed', {true},
        'cuda', 'L4', 'GPU-1', '1', 'd', 100, 100, 5, 0, 1, 1, 1, 10, 10
    )
    """,
)


@pytest.fixture
def old(request: pytest.FixtureRequest, url: str, tmp_path: Path) -> tuple[str, str]:
    """Return where the old table lies, with a row: for us, and for its owner."""
    if url.startswith("sqlite"):
        ours = owners = f"sqlite:///{tmp_path}/old.db"
        words = {"blob": "BLOB", "empty": "x'00'", "true": "1"}
    else:
        empty: Database = request.getfixturevalue("empty_database")
        for role in ("committer", "reader"):
            empty.tamper(
                f"DO $$ BEGIN CREATE ROLE guise_billing_{role} NOLOGIN;"
                " EXCEPTION WHEN duplicate_object THEN NULL; END $$"
            )
            empty.tamper(f"GRANT guise_billing_{role} TO guise_app WITH SET TRUE")
        ours, owners = empty.url(), empty.url(OWNER)
        words = {"blob": "BYTEA", "empty": "'\\x00'", "true": "true"}
    engine = open_database(owners)
    with transaction(engine) as db:
        for statement in OLD:
            db.exec_driver_sql(statement.format(**words))
    engine.dispose()
    return ours, owners


def test_an_old_ledger_is_counted_on(old: tuple[str, str]) -> None:
    """Its usage is in the invoice of the month it is of, and still counted once."""
    ours, owners = old
    if not ours.startswith("sqlite"):
        with pytest.raises(SettingsError, match="guise bill migrate"):
            Ledger.open(ours)
        engine = open_database(owners)
        assert migrate(engine, SCHEMA) == ["0002"]
        assert migrate(engine, SCHEMA) == []
        engine.dispose()
    ledger = Ledger.open(ours)
    october = Period(2026, 10)
    assert list(ledger.digests("acme", october)) == [b"\x00"]
    ledger.post(usage("u2"))
    wanted = Selection("acme", october.start_ms, october.stop_ms)
    assert sum(part.sum.events for part in ledger.sums(wanted)) == 2
    ledger.close()


def test_migrating_makes_the_tables_that_the_code_has(old: tuple[str, str]) -> None:
    """Alembic sees no difference between the two."""
    engine = open_database(old[1])
    migrate(engine, SCHEMA)

    def ours(_object: Any, name: str | None, kind: str, *_: Any) -> bool:
        return not (kind == "table" and name == SCHEMA.table)

    with transaction(engine) as db:
        options = {"include_object": ours}
        context = MigrationContext.configure(db, opts=options)
        assert list(compare_metadata(context, metadata)) == []
        money = sa.inspect(db).get_columns("credit_entry")
    engine.dispose()
    assert {type(each["type"]).__name__ for each in money} <= {"TEXT", "BIGINT"}
