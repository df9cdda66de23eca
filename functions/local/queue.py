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
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final

import msgspec

from functions import events
from functions.problems import NotFound, TooLarge, Unavailable

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from functions.events import Event

EVENTS_MAX: Final = 100_000
DEAD_LETTERS_MAX: Final = 10_000
ERROR: Final = "knativeerror"
"""How the extensions begin that tell why an event is a dead letter."""
_BUSY_SECONDS_MAX: Final = 10.0
_NUMBER_MAX: Final = 2**63 - 1  # SQLite's
_BODY_BYTES_MAX: Final = 1024 * 1024
_STRUCTURED: Final = {"content-type": "application/cloudevents+json"}

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


@dataclass(frozen=True, slots=True)
class Owed:
    """One event owed to one Trigger.  `attempts` are those made before."""

    number: int
    trigger: str
    attempts: int
    body: bytes

    def event(self) -> Event:
        """Return the event, or raise `Refused` if it cannot be read any more."""
        return _event(self.body)


class DeadLetter(msgspec.Struct, frozen=True):
    """One event that one Trigger could not deliver.

    The event is in structured mode, with `knativeerrordest`, `-code` and `-data`
    where a broker would have set them.  `died` is seconds since the epoch.
    """

    number: int
    trigger: str
    destination: str
    reason: str
    attempts: int
    died: float
    event: dict[str, Any]


class Queue:
    """The durable queue in the file `path`, which is made when it is missing.

    Over `events_max` events owed, no more are taken: the senders keep them.  Over
    `dead_letters_max` dead letters, the oldest go.
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
        with self._transaction() as run:
            (count,) = run("SELECT count(*) FROM events").fetchone()
            if count >= self._events_max:
                raise Unavailable(internal=f"the queue holds {count} events")
            _put(run, event, triggers)
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

    def next_due(self) -> float | None:
        """Return when the next delivery that is not due yet will be (epoch)."""
        sql = "SELECT min(due) FROM deliveries WHERE due > ?"
        ((due,),) = self._all(sql, (time.time(),))
        return None if due is None else float(due)

    def delivered(
        self,
        owed: Owed,
        reply: Event | None = None,
        triggers: Iterable[str] = (),
    ) -> None:
        """Owe it no more, and take the reply to it in the same transaction."""
        with self._transaction() as run:
            _forget(run, owed)
            if reply is not None:
                _put(run, reply, triggers)

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
            _forget(run, owed)
            run(
                "INSERT INTO dead (trigger, destination, reason, attempts, body, died) "
                "VALUES (?, ?, ?, ?, ?, ?)",
                (
                    owed.trigger,
                    destination,
                    reason,
                    owed.attempts + 1,
                    owed.body if event is None else _body(event),
                    time.time(),
                ),
            )
            run(
                "DELETE FROM dead WHERE number <= (SELECT max(number) FROM dead) - ?",
                (self._dead_letters_max,),
            )

    def orphans(self, triggers: Iterable[str]) -> list[Owed]:
        """Return what is owed to Triggers that are none of `triggers`."""
        known = set(triggers)
        rows = self._all("SELECT DISTINCT trigger FROM deliveries", ())
        gone = [name for (name,) in rows if name not in known]
        return [owed for name in gone for owed in self._owed_to(name)]

    def _owed_to(self, trigger: str) -> list[Owed]:
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
        return [_dead_letter(*columns) for columns in rows]

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
            _put(run, _without_errors(_event(body)), [trigger])

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

    def _all(self, sql: str, values: tuple[Any, ...]) -> list[tuple[Any, ...]]:
        with self._lock:
            try:
                return self._database.execute(sql, values).fetchall()
            except sqlite3.Error as error:
                raise Unavailable(internal=f"the queue: {error}") from error

    @contextmanager
    def _transaction(self) -> Iterator[Any]:
        """Yield `execute` in one transaction, or raise `Unavailable`."""
        with self._lock:
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

    def _roll_back(self) -> None:
        if self._database.in_transaction:
            self._database.execute("ROLLBACK")


def _put(run: Any, event: Event, triggers: Iterable[str]) -> None:  # noqa: ANN401  # execute
    names = tuple(triggers)
    if not names:
        return
    now = time.time()
    body = _checked(event)
    row = run("INSERT INTO events (body, taken) VALUES (?, ?)", (body, now))
    for name in names:
        run(
            "INSERT INTO deliveries (event, trigger, due) VALUES (?, ?, ?)",
            (row.lastrowid, name, now),
        )


def _forget(run: Any, owed: Owed) -> None:  # noqa: ANN401  # as above
    """Delete a delivery, and its event with the last one."""
    row = run("SELECT event FROM deliveries WHERE number = ?", (owed.number,))
    ((event,),) = row.fetchall()
    run("DELETE FROM deliveries WHERE number = ?", (owed.number,))
    run(
        "DELETE FROM events WHERE number = ? "
        "AND NOT EXISTS (SELECT 1 FROM deliveries WHERE event = ?)",
        (event, event),
    )


def _dead_letter(*columns: Any) -> DeadLetter:  # noqa: ANN401  # a row
    fields = (*columns[:-1], msgspec.json.decode(columns[-1]))
    return DeadLetter(*fields)


def _body(event: Event) -> bytes:
    return msgspec.json.encode(events.as_dict(event))


def _checked(event: Event) -> bytes:
    """Return the event as it is stored, if it can be read and delivered.

    Raises `Refused`: what would be stuck here is not taken.
    """
    body = _body(event)
    _event(body)
    _, sent = events.encode(event)
    if len(sent) > events.EVENT_BYTES_MAX:  # wider than it came: spaces, escapes
        raise TooLarge(f"an event is sent with at most {events.EVENT_BYTES_MAX} bytes")
    return body


def _event(body: bytes) -> Event:
    # Taken within the limit as it came, it may be over it in this form.
    return events.decode(_STRUCTURED, body, bytes_max=_BODY_BYTES_MAX)


def _without_errors(event: Event) -> Event:
    kept = {k: v for k, v in event.extensions.items() if not k.startswith(ERROR)}
    return replace(event, extensions=kept)
