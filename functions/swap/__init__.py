"""Swap a face: a door anyone may knock at, and a worker that has the models."""
