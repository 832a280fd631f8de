"""What must be remembered of services over a restart of the agent."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from popctl.model.announce import Announce
from popctl.model.instant import Instant


@dataclass(frozen=True, slots=True, kw_only=True)
class ServicePast:
    """What one service has been through. All else is told anew by probes, ExaBGP, orders and the fleet."""

    flaps: tuple[Instant, ...] = ()
    """When it fell, newest last: the hold-down counts them."""
    bad_since: Instant | None = None
    """Since when health has wanted it out; None: it was good."""
    lowered: Announce = Announce.NORMAL
    """How far it had been taken from routers without leaving."""


@dataclass(frozen=True, slots=True)
class Past:
    """The past of services by name; one that is absent has been through nothing."""

    services: Mapping[str, ServicePast] = field(default_factory=dict)
