"""What was tried of the images, told as it goes."""

from __future__ import annotations

import sys
from dataclasses import dataclass, field


@dataclass(slots=True)
class Tally:
    """The rules that were broken, each told when it was tried."""

    failed: list[str] = field(default_factory=list)

    def check(self, rule: str, held: object, told: object = "") -> None:
        """Tell whether a rule is held, and what was seen."""
        if not held:
            self.failed.append(rule)
        self._say("ok" if held else "FAILED", rule, told)

    def skip(self, rule: str, why: str) -> None:
        """Tell what is not tried, and why."""
        self._say("skipped", rule, why)

    def _say(self, how: str, rule: str, told: object) -> None:
        sys.stdout.write(f"{how:8}{rule}{f': {told}' if told != '' else ''}\n")
        sys.stdout.flush()
