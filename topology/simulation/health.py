"""Health in a simulation: for PoPs whose probes fail, `popctl.core.decide` and the guard say what is announced.

PoPs that nothing is said about are taken to be healthy and are not asked. The store grants a permit when the floor
allows it, as `popctl.fleet` does; it counts PoPs that are bad or have left as gone.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from enum import StrEnum
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path
from typing import TYPE_CHECKING, Final

from popctl.core import decide, guard
from popctl.model.desired import Actual
from popctl.model.fleet import (
    FleetView,
    FloorPolicy,
    Member,
    Permit,
    PermitState,
    PopReport,
    Record,
    ServiceReport,
    Stance,
)
from popctl.model.pop import Allowlist, Announce, Backend, Lease, Paths, Pop, Service, Timing
from popctl.model.probe import Cadence, ProbeKey, ProbeSpec, Tcp, Thresholds
from popctl.model.reason import Reason
from popctl.model.route import Route, RouteKey
from popctl.model.view import Health, Memory, Phase, Verdict, View

if TYPE_CHECKING:
    from collections.abc import Mapping

    from popctl.model.instant import Instant
    from topology.fleet import Fleet

_SERVICE: Final = "vpn"
_PREFIX: Final = IPv4Network("198.51.100.0/24")
_NEIGHBOR: Final = IPv4Address("192.0.2.1")
_PROBE: Final = "ike"
_CARRIED: Final = {RouteKey(_NEIGHBOR, _PREFIX): Route(prefix=_PREFIX, next_hop=_NEIGHBOR)}
_IN: Final = Memory(phase=Phase.IN)


class Trouble(StrEnum):
    """What the probes of a PoP say."""

    DEAD = "dead"
    """All backends refuse, because nothing listens."""
    LYING = "lying"
    """All probes time out, although the backends serve."""


class Standing(StrEnum):
    """What health makes of a PoP."""

    IN = "in"
    HELD = "held"
    """Health wants to leave and the guard refuses: lowest preference, and an alarm."""
    OUT = "out"


@dataclass(slots=True)
class _State:
    memory: Memory = _IN
    standing: Standing = Standing.IN
    bad_since: Instant = 0.0
    bad: bool = False


@dataclass(slots=True)
class FleetHealth:
    """The health side of all PoPs. Only those in trouble, or just out of it, are looked at."""

    fleet: Fleet
    stale_after_s: float
    policy: FloorPolicy = field(default_factory=FloorPolicy)
    _states: dict[int, _State] = field(default_factory=dict)

    def turn(self, troubles: Mapping[int, Trouble], cut: frozenset[int], now: Instant) -> dict[int, Standing]:
        """Let every PoP that is concerned decide; return those whose standing changed.

        Args:
            troubles: what probes say, by PoP; the others' probes pass.
            cut: PoPs without the store.
            now: virtual time, in seconds.
        """
        for pop in troubles:
            state = self._states.setdefault(pop, _State())
            if not state.bad:
                state.bad, state.bad_since = True, now
        for pop in self._states.keys() - troubles.keys():
            self._states[pop].bad = False
        changed: dict[int, Standing] = {}
        for pop in sorted(self._states):
            before = self._states[pop].standing
            self._decide(pop, troubles, cut, now)
            if self._states[pop].standing is not before:
                changed[pop] = self._states[pop].standing
        calm = [pop for pop, state in self._states.items() if state.standing is Standing.IN and not state.bad]
        for pop in calm:
            del self._states[pop]
        return changed

    def _decide(self, pop: int, troubles: Mapping[int, Trouble], cut: frozenset[int], now: Instant) -> None:
        state = self._states[pop]
        certain = troubles.get(pop) is Trouble.DEAD
        verdict = Verdict.DOWN if state.bad else Verdict.UP
        reason = Reason.REFUSED if certain else Reason.TIMED_OUT if state.bad else Reason.ANSWERED
        record = Health(verdict=verdict, leaning=verdict, streak=9, heard_at=now, reason=reason)
        carried = state.standing is not Standing.OUT
        view = View(
            health={ProbeKey(1, _PROBE): record},
            actual=Actual(connected=True, inherited=True, routes=_CARRIED if carried else {}),
            memory={_SERVICE: state.memory},
        )
        decision = decide.decide(_pop(pop, self.fleet, self.stale_after_s), view, now)
        state.memory = decision.memory[_SERVICE]
        if decision.desired.services[0].announce is not Announce.WITHDRAWN:
            state.standing = Standing.IN
        elif carried and state.bad:
            ruling = self._judge(pop, troubles, certain=certain, connected=pop not in cut, now=now)
            state.standing = Standing.OUT if ruling.permission is guard.Permission.ALLOW else Standing.HELD

    def _judge(
        self, pop: int, troubles: Mapping[int, Trouble], *, certain: bool, connected: bool, now: Instant
    ) -> guard.Ruling:
        site, state = self.fleet.pops[pop], self._states[pop]
        members = {one.name: self._member(index, troubles, now) for index, one in enumerate(self.fleet.pops)}
        refusal = guard.floor_refusal(self.policy, _SERVICE, site.name, site.region, members)
        granted = Permit(
            service=_SERVICE,
            state=PermitState.HELD if refusal is None else PermitState.REFUSED,
            since=now,
            reason=refusal,
        )
        view = FleetView(
            members=members,
            permits={_SERVICE: granted} if connected else {},
            connected=connected,
            current_at=now if connected else state.bad_since - 1.0,
            settled_at=0.0,
        )
        wanted = guard.Withdrawal(
            pop=site.name,
            region=site.region,
            service=_SERVICE,
            cause=guard.Cause.HEALTH,
            carried=True,
            bad_since=state.bad_since,
            stage=_PROBE,
            certain=certain,
        )
        return guard.judge(wanted, self.policy, view, now)

    def _member(self, pop: int, troubles: Mapping[int, Trouble], now: Instant) -> Member:
        state = self._states.get(pop)
        out = state is not None and state.standing is Standing.OUT
        bad = state is not None and state.bad
        site = self.fleet.pops[pop]
        report = ServiceReport(
            service=_SERVICE,
            announce=Announce.WITHDRAWN if out else Announce.NORMAL,
            announced=() if out else (_PREFIX,),
            healthy=0 if bad else 1,
            needed=1,
            good=not bad,
            reason=str(Reason.TOO_FEW_BACKENDS if bad else Reason.HEALTHY),
            bad_since=state.bad_since if state is not None and bad else None,
            stage=_PROBE if bad else "",
            certain=troubles.get(pop) is Trouble.DEAD,
        )
        record = Record(
            report=PopReport(pop=site.name, region=site.region, services={_SERVICE: report}),
            stances={_SERVICE: Stance.PERMIT if out else Stance.DUTY},
        )
        return Member(record=record, heard_at=now, created=1, modified=1)


def _pop(index: int, fleet: Fleet, stale_after_s: float) -> Pop:
    """Return the least that the core can decide for: one service, one backend, one probe."""
    spec = ProbeSpec(
        name=_PROBE,
        method=Tcp(port=500),
        cadence=Cadence(interval_s=2.0, jitter=0.0, timeout_s=1.0, retry_s=1.0),
        thresholds=Thresholds(rise=3, fall=3, fall_refused=1, stale_after_s=stale_after_s),
    )
    backend = Backend(id=1, name="b1", address=IPv4Address("192.0.2.20"), weight=1, probes=(spec,))
    return replace(_TEMPLATE, name=fleet.pops[index].name, backends={1: backend})


_NOWHERE: Final = Path("/nonexistent")
_TEMPLATE: Final = Pop(
    id=1,
    name="-",
    location="-",
    asn=64512,
    router_id=IPv4Address("192.0.2.10"),
    neighbors=(),
    services=(Service(name=_SERVICE, prefixes=(_PREFIX,), backends=(1,), minimum_healthy=1),),
    backends={},
    allowlist=Allowlist(
        prefixes=frozenset({_PREFIX}), next_hops=frozenset(), communities=frozenset(), large_communities=frozenset()
    ),
    timing=Timing(
        warm_up_s=30.0,
        unknown_hold_s=60.0,
        hold_down_s=60.0,
        hold_down_max_s=900.0,
        flap_window_s=900.0,
        stop_drain_s=30.0,
    ),
    lease=Lease(duration_s=15.0),
    paths=Paths(relay_socket=_NOWHERE, api_socket=_NOWHERE, state_file=_NOWHERE, journal=None),
)
