"""`guise audit …`: `commands` name the options, the others do the work."""
