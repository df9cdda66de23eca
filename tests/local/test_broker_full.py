"""A broker whose file can take nothing: it waits, and does what it could not."""

from __future__ import annotations

import sqlite3
import time
from contextlib import closing
from typing import TYPE_CHECKING, Any

from functions.local import manifests
from functions.local.broker import Broker
from functions.local.queue import Queue
from functions.problems import Unavailable
from tests.local.rig import until
from tests.local.subscriber import HOME, event, trigger

if TYPE_CHECKING:
    from pathlib import Path


class FullQueue(Queue):
    """A queue that can bury nothing while its disk is full."""

    full = True
    tries = 0

    def bury(self, *args: Any, **names: Any) -> None:
        """Give a delivery up, or raise `Unavailable`."""
        self.tries += 1
        if self.full:
            raise Unavailable(internal="database or disk is full")
        super().bury(*args, **names)


def test_what_cannot_be_buried_now_is_no_busy_loop(tmp_path: Path) -> None:
    """An event that cannot be read: one try a second, and then a dead letter."""
    path = tmp_path / "broker.db"
    with closing(FullQueue(path)) as queue:
        queue.put(event(), [f"{HOME}/all"])
        with closing(sqlite3.connect(path)) as database, database:
            database.execute("UPDATE events SET body = '{\"id\":1}'")
        broker = Broker(
            queue,
            brokers=[manifests.Broker(HOME, "default")],
            triggers=[trigger()],
            address=lambda _: "http://127.0.0.1:9",
        )
        broker.start()
        try:
            until(lambda: queue.tries > 0)
            time.sleep(0.5)
            assert queue.tries == 1
            queue.full = False
            until(lambda: queue.dead_count() == 1)
        finally:
            broker.stop()
