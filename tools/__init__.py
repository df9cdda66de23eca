"""Programs for those who work on Guise; nothing that serves imports them."""
