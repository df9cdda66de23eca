"""Events and whom they are owed to, in SQLite: durable before anybody is told.

Write-ahead log with `synchronous = FULL`, so a commit survives a power cut.  One
connection, one lock: a machine's worth of events needs no more.  Tables:

* `events`      what was taken, as structured-mode JSON, while somebody is owed it
* `deliveries`  one row an event and Trigger, gone when it is delivered
* `dead`        what was given up, with the reason, until it is replayed
* `seen`        which generation of each uploaded file has become an event
"""

from __future__ import annotations

import sqlite3
import threading
import time
from collections import Counter
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

from functions.database import make_private
from functions.local import stored
from functions.local.shares import fits
from functions.local.stored import DeadLetter, Owed, Waiting
from functions.problems import NotFound, Unavailable

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from functions.events import Event

EVENTS_MAX: Final = 100_000
DEAD_LETTERS_MAX: Final = 10_000
_BUSY_SECONDS_MAX: Final = 10.0
_NUMBER_MAX: Final = 2**63 - 1  # SQLite's

_TABLES: Final = """
CREATE TABLE IF NOT EXISTS events (
  number INTEGER PRIMARY KEY,
  body BLOB NOT NULL,
  taken REAL NOT NULL
);
CREATE TABLE IF NOT EXISTS deliveries (
  number INTEGER PRIMARY KEY,
  event INTEGER NOT NULL REFERENCES events (number),
  trigger TEXT NOT NULL,
  attempts INTEGER NOT NULL DEFAULT 0,
  due REAL NOT NULL
);
CREATE INDEX IF NOT EXISTS deliveries_due ON deliveries (trigger, due);
CREATE INDEX IF NOT EXISTS deliveries_event ON deliveries (event);
CREATE TABLE IF NOT EXISTS dead (
  number INTEGER PRIMARY KEY AUTOINCREMENT,
  trigger TEXT NOT NULL,
  destination TEXT NOT NULL,
  reason TEXT NOT NULL,
  attempts INTEGER NOT NULL,
  body BLOB NOT NULL,
  died REAL NOT NULL
);
CREATE TABLE IF NOT EXISTS seen (
  bucket TEXT NOT NULL,
  name TEXT NOT NULL,
  generation INTEGER NOT NULL,
  PRIMARY KEY (bucket, name)
) WITHOUT ROWID;
"""

# It jumps from Trigger to Trigger along the index: whatever is owed, and however
# many tenants there are, it costs what the Triggers cost that are owed something.
_WAITING: Final = """
WITH RECURSIVE owed (name) AS (
  SELECT min(trigger) FROM deliveries
  UNION ALL
  SELECT (SELECT min(trigger) FROM deliveries WHERE trigger > name)
  FROM owed WHERE name IS NOT NULL
)
SELECT name,
  (SELECT min(due) FROM deliveries WHERE trigger = name) <= :now,
  (SELECT min(due) FROM deliveries WHERE trigger = name AND due > :now)
FROM owed WHERE name IS NOT NULL
"""
_EVENTS: Final = """
SELECT substr(trigger, 1, instr(trigger || '/', '/') - 1), count(DISTINCT event)
FROM deliveries GROUP BY 1
"""


class Queue:
    """The durable queue in the file `path`, which is made when it is missing.

    Of `events_max` events owed no more are taken, and from one namespace none before:
    see `shares`.  The senders keep them.  Over `dead_letters_max` dead letters, the
    oldest go.
    """

    def __init__(
        self,
        path: Path,
        *,
        events_max: int = EVENTS_MAX,
        dead_letters_max: int = DEAD_LETTERS_MAX,
    ) -> None:
        self._events_max = events_max
        self._dead_letters_max = dead_letters_max
        self._lock = threading.Lock()
        make_private(path)
        self._database = sqlite3.connect(
            path,
            timeout=_BUSY_SECONDS_MAX,
            isolation_level=None,
            check_same_thread=False,
            cached_statements=32,
        )
        self._database.execute("PRAGMA journal_mode = WAL")
        self._database.execute("PRAGMA synchronous = FULL")
        self._database.execute("PRAGMA foreign_keys = ON")
        self._database.executescript(_TABLES)
        # Counted once: to count what waits, with every event, reads all of it.
        self._events = Counter(dict(self._all(_EVENTS, ())))
        self._changes: Counter[str] = Counter()

    def close(self) -> None:
        """Close the file; what is owed stays owed."""
        with self._lock:
            self._database.close()

    def put(
        self,
        event: Event,
        triggers: Iterable[str],
        *,
        seen: tuple[str, str, int] | None = None,
    ) -> None:
        """Owe `event` to each of `triggers`, durably when this returns.

        `seen` is the bucket, name and generation of the file the event is about,
        noted in the same transaction.  Raises `Unavailable` when the queue is full.
        """
        names = tuple(triggers)
        with self._transaction() as run:
            self._make_sure_of_room(names)
            self._put(run, event, names)
            if seen:
                run("INSERT OR REPLACE INTO seen VALUES (?, ?, ?)", seen)

    def due(self, trigger: str, limit: int) -> list[Owed]:
        """Return up to `limit` deliveries that are due, the longest due first."""
        rows = self._all(
            "SELECT d.number, d.trigger, d.attempts, e.body FROM deliveries d "
            "JOIN events e ON e.number = d.event "
            "WHERE d.trigger = ? AND d.due <= ? ORDER BY d.due, d.number LIMIT ?",
            (trigger, time.time(), limit),
        )
        return [Owed(*columns) for columns in rows]

    def waiting(self) -> list[Waiting]:
        """Return every Trigger that is owed something."""
        rows = self._all(_WAITING, {"now": time.time()})
        return [Waiting(name, bool(is_due), due) for name, is_due, due in rows]

    def delivered(
        self,
        owed: Owed,
        reply: Event | None = None,
        triggers: Iterable[str] = (),
    ) -> None:
        """Owe it no more, and take the reply to it in the same transaction."""
        with self._transaction() as run:
            self._forget(run, owed)
            if reply is not None:
                self._put(run, reply, tuple(triggers))

    def postpone(self, owed: Owed, pause_seconds: float) -> None:
        """Try again after the pause."""
        with self._transaction() as run:
            run(
                "UPDATE deliveries SET attempts = attempts + 1, due = ? "
                "WHERE number = ?",
                (time.time() + pause_seconds, owed.number),
            )

    def bury(
        self,
        owed: Owed,
        event: Event | None = None,
        *,
        destination: str = "",
        reason: str,
    ) -> None:
        """Give it up: `event` is what the dead letter holds, if not what was owed."""
        with self._transaction() as run:
            self._forget(run, owed)
            run(
                "INSERT INTO dead (trigger, destination, reason, attempts, body, died) "
                "VALUES (?, ?, ?, ?, ?, ?)",
                (
                    owed.trigger,
                    destination,
                    reason,
                    owed.attempts + 1,
                    owed.body if event is None else stored.as_body(event),
                    time.time(),
                ),
            )
            run(
                "DELETE FROM dead WHERE number <= (SELECT max(number) FROM dead) - ?",
                (self._dead_letters_max,),
            )

    def owed_to(self, trigger: str) -> list[Owed]:
        """Return all that a Trigger is owed, due or not."""
        rows = self._all(
            "SELECT d.number, d.trigger, d.attempts, e.body FROM deliveries d "
            "JOIN events e ON e.number = d.event WHERE d.trigger = ?",
            (trigger,),
        )
        return [Owed(*columns) for columns in rows]

    def depth(self) -> dict[str, int]:
        """Return how many deliveries each Trigger is owed."""
        sql = "SELECT trigger, count(*) FROM deliveries GROUP BY trigger"
        rows = self._all(sql, ())
        return {str(name): int(count) for name, count in rows}

    def dead_count(self) -> int:
        """Return how many dead letters there are."""
        return int(self._all("SELECT count(*) FROM dead", ())[0][0])

    def dead_letters(self, limit: int = 100) -> list[DeadLetter]:
        """Return up to `limit` dead letters, the newest first."""
        rows = self._all(
            "SELECT number, trigger, destination, reason, attempts, died, body "
            "FROM dead ORDER BY number DESC LIMIT ?",
            (limit,),
        )
        return [stored.dead_letter(*columns) for columns in rows]

    def replay(self, number: int) -> None:
        """Owe a dead letter to its Trigger again.

        Raises `NotFound`, or `Refused` if it cannot be read any more.
        """
        if number > _NUMBER_MAX:
            raise NotFound("there is no dead letter of such a number")
        with self._transaction() as run:
            row = run("SELECT trigger, body FROM dead WHERE number = ?", (number,))
            found = row.fetchone()
            if found is None:
                raise NotFound(f"there is no dead letter {number}")
            trigger, body = found
            run("DELETE FROM dead WHERE number = ?", (number,))
            self._put(run, stored.without_errors(stored.read(body)), (trigger,))

    def generations(self, bucket: str) -> dict[str, int]:
        """Return the generation of each file of `bucket` that became an event."""
        sql = "SELECT name, generation FROM seen WHERE bucket = ?"
        rows = self._all(sql, (bucket,))
        return {str(name): int(generation) for name, generation in rows}

    def forget(self, bucket: str, names: Iterable[str]) -> None:
        """Forget files that are gone."""
        with self._transaction() as run:
            for name in names:
                run("DELETE FROM seen WHERE bucket = ? AND name = ?", (bucket, name))

    def _make_sure_of_room(self, triggers: tuple[str, ...]) -> None:
        own = self._events[_home(triggers[0])] if triggers else 0
        count = self._events.total()
        if not fits(own, count, self._events_max):
            raise Unavailable(internal=f"the queue holds {count} events, {own} of it")

    def _put(
        self,
        run: Any,  # noqa: ANN401  # execute
        event: Event,
        triggers: tuple[str, ...],
    ) -> None:
        if not triggers:
            return
        now = time.time()
        body = stored.checked(event)
        row = run("INSERT INTO events (body, taken) VALUES (?, ?)", (body, now))
        for name in triggers:
            run(
                "INSERT INTO deliveries (event, trigger, due) VALUES (?, ?, ?)",
                (row.lastrowid, name, now),
            )
        self._changes[_home(triggers[0])] += 1

    def _forget(self, run: Any, owed: Owed) -> None:  # noqa: ANN401  # as above
        """Delete a delivery, and its event with the last one."""
        row = run("SELECT event FROM deliveries WHERE number = ?", (owed.number,))
        ((event,),) = row.fetchall()
        run("DELETE FROM deliveries WHERE number = ?", (owed.number,))
        gone = run(
            "DELETE FROM events WHERE number = ? "
            "AND NOT EXISTS (SELECT 1 FROM deliveries WHERE event = ?)",
            (event, event),
        )
        self._changes[_home(owed.trigger)] -= gone.rowcount

    def _all(
        self, sql: str, values: tuple[Any, ...] | dict[str, Any]
    ) -> list[tuple[Any, ...]]:
        with self._lock:
            try:
                return self._database.execute(sql, values).fetchall()
            except sqlite3.Error as error:
                raise Unavailable(internal=f"the queue: {error}") from error

    @contextmanager
    def _transaction(self) -> Iterator[Any]:
        """Yield `execute` in one transaction, or raise `Unavailable`."""
        with self._lock:
            self._changes.clear()
            try:
                self._database.execute("BEGIN IMMEDIATE")
                yield self._database.execute
                self._database.execute("COMMIT")
            except sqlite3.Error as error:
                self._roll_back()
                raise Unavailable(internal=f"the queue: {error}") from error
            except BaseException:
                self._roll_back()
                raise
            self._events.update(self._changes)

    def _roll_back(self) -> None:
        if self._database.in_transaction:
            self._database.execute("ROLLBACK")


def _home(trigger: str) -> str:
    """Return the namespace that a Trigger's name begins with."""
    return trigger.partition("/")[0]
