"""`guise keys …`: `commands` names the options, `making` does it."""
