"""What every probe looks like from outside: a target and a deadline in, one result out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, TypeAlias

from popctl.model.observation import Outcome

if TYPE_CHECKING:
    from popctl.model.instant import Instant
    from popctl.model.probe import Method, ProbeKey
    from popctl.model.reason import Reason
    from popctl.model.route import Address


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """Whom to ask, and what."""

    key: ProbeKey
    method: Method
    address: Address
    source: Address | None = None
    """Local address to ask from; None leaves the choice to the kernel."""


@dataclass(frozen=True, slots=True)
class Result:
    """How one run ended. An `Observation` is this plus who and when."""

    outcome: Outcome
    reason: Reason
    detail: str = ""
    """For people only."""
    rtt_s: float | None = None
    """From the first byte sent to the verdict; None when there was no answer."""


def failed(reason: Reason, detail: str = "") -> Result:
    """Return a FAIL: the backend is at fault."""
    return Result(Outcome.FAIL, reason, detail)


def unknown(reason: Reason, detail: str = "") -> Result:
    """Return an UNKNOWN: we are at fault, and nothing is known about the backend."""
    return Result(Outcome.UNKNOWN, reason, detail)


class Prober(Protocol):
    """One way to ask a backend."""

    async def run(self, target: Target, *, deadline: Instant) -> Result:
        """Ask once and return what came of it.

        It may raise anything and may outlive `deadline`: `run_probe` turns both into a result. Cancellation closes
        whatever was opened.
        """


Probers: TypeAlias = Mapping[type, Prober]
"""The prober of each `Method` class."""
