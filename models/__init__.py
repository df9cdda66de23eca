"""Which model files we run, how they are made, and the proof that they are those."""
