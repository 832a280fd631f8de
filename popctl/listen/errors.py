"""The one error of this boundary."""

from __future__ import annotations

from popctl.model.listen import Endpoint


class ListenError(Exception):
    """The endpoint cannot be used."""

    def __init__(self, endpoint: Endpoint, problem: str) -> None:
        super().__init__(endpoint, problem)
        self.endpoint = endpoint
        self.problem = problem

    def __str__(self) -> str:
        return f"cannot listen at {self.endpoint}: {self.problem}"
