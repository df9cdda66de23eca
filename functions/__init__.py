"""Three small functions on one floor plan.

Read in this order: problems, tenant, events, settings, keys, storage, web; then
one function at a time: swap (begin with pipeline), audit, billing.  Importing
this package imports nothing.
"""

__version__ = "0.1.0"
