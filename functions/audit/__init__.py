"""The audit function: nothing is swapped before its log has it."""
