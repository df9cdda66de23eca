"""`guise jobs …`: `commands` names the options, `work` does it."""
