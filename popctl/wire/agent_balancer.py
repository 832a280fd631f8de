"""What the operator API tells of the balancer and of drains. Part of `popctl.wire.agent_api`."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class DrainStatus:
    """How far the drain of one backend has come."""

    deadline_left_s: float | None
    """None: it has none."""
    then: str
    """A `DrainEnd`: what the deadline means."""
    sas_left: int | None
    """Established IKE SAs; None: charon is not asked (`backends[].vici`), or has not answered yet."""
    oldest_s: float | None
    empty_in_s: float | None
    """Estimate from how fast it went so far; None while nothing has gone."""
    problem: str
    """Why charon does not tell; empty when it does, or is not asked."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PlaceStatus:
    """Where the balancer has one backend."""

    place: str
    """A `Place`: what is wanted."""
    reason: str
    in_kernel: bool
    """The kernel was seen to agree."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BalancerStatus:
    """What the kernel was last seen to hold of the balancer."""

    in_force: bool
    writes: int
    elements_changed: int
    drift_repairs: int
    problem: str
    mis_steered: int | None = None
    """Packets that backends could not use, since the agent's start; None: no backend tells."""
    split_clients: int = 0
    """Clients that send to a backend that never answers them, since the agent's start."""
    mis_steer_alarms: tuple[str, ...] = ()
    """For people: what is wrong, or was in the last ten minutes."""
