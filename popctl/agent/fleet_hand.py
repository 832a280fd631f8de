"""The fleet's part of the agent: the hand of the store, made only where a fleet is configured."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from uuid import uuid4

from popctl.agent.events import Event, FleetChanged
from popctl.fleet.fleet import Fleet
from popctl.fleet.single import SingleFleet
from popctl.model.balancer import Labelling
from popctl.model.fleet import FleetWish
from popctl.model.floor import FleetSettings
from popctl.model.instant import Instant
from popctl.model.pop import Pop


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """Which agent speaks for the PoP."""

    config_digest: str
    incarnation: str
    """Another one with every process image: two agents that run as one PoP are told apart by it."""
    labelling: Labelling | None = None
    """What labels say of the PoP."""


class FleetHand:
    """Takes the loop's wishes, signs them, and puts views into its queue."""

    def __init__(self, fleet: Fleet, identity: Identity, put: Callable[[Event], None]) -> None:
        self._fleet = fleet
        self._identity = identity
        self._put = put

    def set(self, wish: FleetWish) -> None:
        """Make `wish` the wanted state; returns at once."""
        identity = self._identity
        report = replace(
            wish.report,
            config_digest=identity.config_digest,
            incarnation=identity.incarnation,
            labelling=identity.labelling,
        )
        self._fleet.set(replace(wish, report=report))

    async def run(self) -> None:
        """Work until cancelled."""
        await self._fleet.run(lambda view: self._put(FleetChanged(view)))

    async def release(self) -> None:
        """Leave the fleet in good order, after `run` has ended for good."""
        await self._fleet.release()


def fleet_hand(
    pop: Pop,
    config_digest: str,
    put: Callable[[Event], None],
    *,
    clock: Callable[[], Instant],
    alive: Callable[[], bool],
) -> FleetHand:
    """Return the hand of the PoP's fleet, or one that has nobody to speak to."""
    identity = Identity(config_digest=config_digest, incarnation=uuid4().hex, labelling=pop.labelling)
    if pop.fleet is None:
        return FleetHand(SingleFleet(), identity, put)
    return FleetHand(_etcd(pop.name, pop.fleet, identity.incarnation, clock, alive), identity, put)


def _etcd(
    pop: str, settings: FleetSettings, incarnation: str, clock: Callable[[], Instant], alive: Callable[[], bool]
) -> Fleet:
    # A PoP without a fleet holds no HTTP client in its memory for it.
    from popctl.fleet.client import StoreFleet, Timeouts  # noqa: PLC0415
    from popctl.fleet.etcd import EtcdLine, EtcdSettings, TlsFiles  # noqa: PLC0415 - same
    from popctl.fleet.target import Pace  # noqa: PLC0415 - same

    tls = settings.tls
    line = EtcdLine(
        pop,
        EtcdSettings(
            fleet=settings.name,
            endpoints=settings.endpoints,
            tls=None if tls is None else TlsFiles(ca=tls.authority, certificate=tls.certificate, key=tls.key),
            lease_ttl_s=settings.lease_ttl_s,
            request_s=settings.request_s,
        ),
        clock,
    )
    return StoreFleet(
        pop,
        incarnation,
        line,
        settings.floor,
        pace=Pace(quiet_s=settings.quiet_s, refresh_s=settings.refresh_s),
        timeouts=Timeouts(lease_ttl_s=settings.lease_ttl_s, request_s=settings.request_s),
        clock=clock,
        alive=alive,
    )
