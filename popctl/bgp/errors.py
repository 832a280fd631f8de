"""What goes wrong between the agent and the relay. All but `RefusedRouteError` end in another attempt."""

from __future__ import annotations

from popctl.bgp.speaker import SpeakerError


class RelayRefusedError(SpeakerError):
    """The relay answered, and does not take this agent."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(f"the relay refuses: {reason}: {detail}")
        self.reason = reason
        self.detail = detail


class RelayGoneError(SpeakerError):
    """There is no connection to the relay: it ended, was silent for a whole lease, or is not for us to make."""


class ExaBgpMissingError(SpeakerError):
    """There is no ExaBGP that popctl can work with."""

    def __init__(self, program: str, problem: str) -> None:
        super().__init__(f"{program}: {problem}; popctl needs exabgp>=5.0.14,<6")
        self.program = program
        self.problem = problem
