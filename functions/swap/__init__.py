"""The swap function: a light door, a worker with the models, one story."""
