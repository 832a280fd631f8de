"""What goes wrong between an agent and the store. `StoreFleet.run` turns all of it into `FleetView.problem`."""

from __future__ import annotations


class StoreError(Exception):
    """Base of everything that goes wrong at this boundary. All of it ends in another attempt."""


class StoreUnreachableError(StoreError):
    """No answer, or none in time. What was asked may have happened, and may yet happen."""

    def __init__(self, endpoint: str, problem: str) -> None:
        super().__init__(f"{endpoint}: {problem}")
        self.endpoint = endpoint
        self.problem = problem


class StoreRefusedError(StoreError):
    """The store answered with an error, or with something that is no answer."""

    def __init__(self, endpoint: str, problem: str, status: int = 0) -> None:
        super().__init__(f"{endpoint}: {problem}" + (f" (HTTP {status})" if status else ""))
        self.endpoint = endpoint
        self.problem = problem
        self.status = status


class LeaseEndedError(StoreError):
    """The lease is over, and with it the own record."""

    def __init__(self, lease: int) -> None:
        super().__init__(f"lease {lease:x} has ended")
        self.lease = lease


class WatchEndedError(StoreError):
    """The watch ended, was cancelled, or went silent; the view has to be read anew."""
