"""Decisions: pure functions of values and time. No I/O, no clock, no logging."""
