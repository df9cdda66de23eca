"""`guise bill …`: `commands` name the options, the others do the work."""
