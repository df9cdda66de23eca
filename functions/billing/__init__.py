"""The billing function: usage counted once, and what it costs."""
