"""Ambient parts of the process: the clock, the log, and tasks that have an owner."""
