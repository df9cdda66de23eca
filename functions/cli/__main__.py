"""`python -m functions.cli` is `guise`."""

from functions.cli import main

main()
