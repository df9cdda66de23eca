"""The billing function: what was used, counted once and priced exactly."""
