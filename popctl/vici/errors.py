"""What goes wrong when a charon is asked."""

from __future__ import annotations


class ViciError(Exception):
    """A charon gave no answer in time, refused, or gave an answer that is none."""


class CommandRefusedError(Exception):
    """charon answered that it did not do it, and why."""
