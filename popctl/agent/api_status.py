"""What the API tells: the World, its last decision and the speaker's proofs, turned into the values of the wire.

Reads only; call from the event loop's thread.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from popctl.agent.api_backends import BackendReporter
from popctl.agent.api_load import landing_status, load_status
from popctl.agent.api_recent import LastSeen
from popctl.agent.loop import Loop
from popctl.agent.sa_watch import SaWatch
from popctl.core import duty, lifecycle, members, orders
from popctl.model.desired import Actual, ServiceDecision
from popctl.model.instant import NEVER, Instant
from popctl.model.observation import Intent, IntentKind
from popctl.model.pop import Announce, Pop, Service
from popctl.model.reason import Reason
from popctl.model.route import Family, Prefix, Route, RouteKey, RouteTable, route_table
from popctl.model.view import Memory, Phase, View
from popctl.wire import agent_api as wire
from popctl.wire.agent_api import RouteState
from popctl.wire.agent_order import EVERY_SERVICE
from popctl.wire.fleet_api import FleetStatus, fleet_status
from popctl.wire.load_api import LoadStatus
from popctl.wire.preview_api import ServicePreview, WithdrawPreview

_NO_ROUTES = route_table()


@dataclass(frozen=True, slots=True, kw_only=True)
class Build:
    """What runs here: told to whoever asks, used for nothing."""

    version: str
    config_digest: str


class Reporter:
    """Answers for one agent."""

    def __init__(
        self,
        pop: Pop,
        loop: Loop,
        last_seen: LastSeen,
        clock: Callable[[], Instant],
        build: Build,
        watch: SaWatch | None = None,
    ) -> None:
        self._pop = pop
        self._loop = loop
        self._clock = clock
        self._build = build
        self._backends = BackendReporter(pop, loop, last_seen, watch or SaWatch(pop, clock))
        self._started_at = clock()

    def status(self) -> wire.Status:
        """Return everything about the PoP."""
        view, now, pop = self._loop.world.view(), self._clock(), self._pop
        return wire.Status(
            pop=wire.PopIdentity(
                id=pop.id, name=pop.name, location=pop.location, asn=pop.asn, router_id=str(pop.router_id)
            ),
            version=self._build.version,
            uptime_s=now - self._started_at,
            config_digest=self._build.config_digest,
            connected=view.actual.connected,
            exabgp_problem=view.actual.problem,
            inherited=view.actual.inherited,
            state_corrupt=view.state_corrupt,
            stopping=view.stopping_since is not None,
            turned_s=now - self._loop.turned_at,
            sessions=self._sessions(view.actual),
            services=tuple(self._service(service, view, now) for service in pop.services),
            backends=tuple(self._backends.backend(backend, view, now) for backend in pop.backends.values()),
            intents=tuple(self._intent(intent, view, now) for intent in view.intents),
            balancer=self._backends.balancer(view, now),
            load=self._load(view, now),
        )

    def fleet(self) -> FleetStatus | None:
        """Return the fleet as it is known here; None without one."""
        if self._pop.fleet is None:
            return None
        fleet, view = self._pop.fleet, self._loop.world.view().fleet
        return fleet_status(fleet.name, self._pop.name, fleet.floor, view, self._clock())

    def preview(self, target: str) -> WithdrawPreview:
        """Return what would follow if `target`, a service or all, were withdrawn now; nothing for an unknown one."""
        named = [one for one in self._pop.services if target in (EVERY_SERVICE, one.name)]
        moved = self._pop.load is None or any(_moved_by_load(service, self._pop) for service in named)
        return WithdrawPreview(
            services=tuple(self._preview(service) for service in named),
            landing=landing_status(self._pop, self._loop.world.view(), self._clock()) if moved else None,
        )

    def _preview(self, service: Service) -> ServicePreview:
        view, now = self._loop.world.view(), self._clock()
        left, verdict = duty.forecast(service, self._pop, view, now)
        decision = self._decision(service)
        return ServicePreview(
            name=service.name,
            announce=decision.announce,
            healthy=decision.healthy,
            sessions=orders.sessions(service, self._pop, view, now).count,
            pops_left=left,
            verdict=verdict,
            held=verdict not in (Reason.SINGLE_POP, Reason.PERMITTED, Reason.NOT_ANNOUNCED),
        )

    def why(self, prefix: Prefix) -> wire.Why | None:
        """Return the chain behind `prefix`, a service's prefix or a part of one; None when no service has it."""
        found = self._service_of(prefix)
        if found is None:
            return None
        service, of_service = found
        view, now = self._loop.world.view(), self._clock()
        names = {self._pop.backends[backend].name for backend in service.backends}
        return wire.Why(
            prefix=str(of_service),
            service=self._service(service, view, now, only=of_service),
            memory=self._memory(view.memory.get(service.name, Memory()), now),
            intents=tuple(
                self._intent(intent, view, now)
                for intent in view.intents
                if (intent.target == service.name if intent.kind is IntentKind.WITHDRAW else intent.target in names)
            ),
            backends=tuple(
                self._backends.backend(self._pop.backends[backend], view, now) for backend in service.backends
            ),
            sessions=self._sessions(view.actual),
            connected=view.actual.connected,
            exabgp_problem=view.actual.problem,
            balancer=self._backends.balancer(view, now) if of_service in members.balanced(self._pop) else None,
            load=self._load(view, now) if _moved_by_load(service, self._pop) else None,
        )

    def services(self, names: frozenset[str]) -> tuple[wire.ServiceStatus, ...]:
        """Return the services of these names."""
        view, now = self._loop.world.view(), self._clock()
        return tuple(self._service(service, view, now) for service in self._pop.services if service.name in names)

    def intents(self) -> wire.Intents:
        """Return the orders that decisions go by."""
        view, now = self._loop.world.view(), self._clock()
        return wire.Intents(
            intents=tuple(self._intent(intent, view, now) for intent in view.intents), state_corrupt=view.state_corrupt
        )

    def check(self, turned_within_s: float) -> wire.Check:
        """Return whether the agent does its work."""
        actual = self._loop.world.view().actual
        turned_s = self._clock() - self._loop.turned_at
        turning = turned_s <= turned_within_s
        return wire.Check(
            healthy=turning and actual.connected,
            turning=turning,
            connected=actual.connected,
            exabgp_problem=actual.problem,
            turned_s=turned_s,
        )

    def _load(self, view: View, now: Instant) -> LoadStatus | None:
        found = self._loop.decision.desired.load if self._loop.decision else None
        return load_status(self._pop, view, found, now)

    def _service_of(self, prefix: Prefix) -> tuple[Service, Prefix] | None:
        for service in self._pop.services:
            for candidate in service.prefixes:
                if _covers(candidate, prefix):
                    return service, candidate
        return None

    def _sessions(self, actual: Actual) -> tuple[wire.SessionStatus, ...]:
        return tuple(
            wire.SessionStatus(
                neighbor=str(neighbor.address),
                asn=neighbor.asn,
                established=actual.sessions.get(neighbor.address, False),
            )
            for neighbor in self._pop.neighbors
        )

    def _service(self, service: Service, view: View, now: Instant, only: Prefix | None = None) -> wire.ServiceStatus:
        decision = self._decision(service)
        return wire.ServiceStatus(
            name=service.name,
            announce=decision.announce,
            reason=decision.reason,
            healthy=decision.healthy,
            unknown=decision.unknown,
            needed=decision.needed,
            until_s=None if decision.until is None else max(decision.until - now, 0.0),
            routes=tuple(self._routes(service, view.actual, only)),
        )

    def _decision(self, service: Service) -> ServiceDecision:
        decided = self._loop.decision.desired.services if self._loop.decision else ()
        for decision in decided:
            if decision.service == service.name:
                return decision
        return ServiceDecision(
            service=service.name,
            announce=Announce.WITHDRAWN,
            reason=Reason.NOT_YET_KNOWN,
            healthy=0,
            unknown=len(service.backends),
            needed=service.minimum_healthy,
        )

    def _routes(self, service: Service, actual: Actual, only: Prefix | None) -> Iterator[wire.RouteStatus]:
        desired: RouteTable = self._loop.decision.desired.routes if self._loop.decision else _NO_ROUTES
        for neighbor in self._pop.neighbors:
            for prefix in service.prefixes:
                if Family.of(prefix) not in neighbor.families or (only is not None and prefix != only):
                    continue
                key = RouteKey(neighbor.address, prefix)
                yield wire.RouteStatus(
                    neighbor=str(neighbor.address),
                    prefix=str(prefix),
                    wanted=key in desired,
                    carried=key in actual.routes,
                    state=route_state(key, desired.get(key), actual),
                )

    def _intent(self, intent: Intent, view: View, now: Instant) -> wire.IntentStatus:
        service = next((one for one in self._pop.services if one.name == intent.target), None)
        planned = service is not None and intent.kind is IntentKind.WITHDRAW
        work = view.memory.get(intent.target, Memory()).work if planned else None
        return wire.IntentStatus(
            kind=intent.kind,
            target=intent.target,
            reason=intent.reason,
            owner=intent.owner,
            created_unix_s=intent.created_unix_s,
            drain_left_s=max(intent.drain_until - now, 0.0),
            then=intent.then,
            expires_in_s=None if intent.expires == NEVER else max(intent.expires - now, 0.0),
            stage=work.stage if work else "",
            sessions_left=orders.sessions(service, self._pop, view, now).count if planned and service else None,
            forced=intent.forced,
            refuse_new=intent.refuse_new,
        )

    def _memory(self, memory: Memory, now: Instant) -> wire.MemoryStatus:
        timing = self._pop.timing
        warming = memory.phase is Phase.WARMING
        return wire.MemoryStatus(
            phase=memory.phase,
            # The first phase begins with the agent; it carries no time of its own.
            since_s=now - max(memory.since, self._started_at),
            warm_up_left_s=max(memory.since + timing.warm_up_s - now, 0.0) if warming else 0.0,
            hold_down_left_s=max(lifecycle.hold_down_until(memory, timing) - now, 0.0),
            unknown_for_s=None if memory.unknown_since is None else now - memory.unknown_since,
            flaps=len(memory.flaps),
        )


def route_state(key: RouteKey, wanted: Route | None, actual: Actual) -> RouteState:
    """Tell how far `wanted` (None: withdrawn) has come at the neighbour."""
    if not (actual.connected and actual.inherited):
        return RouteState.UNKNOWN
    if key in actual.failed:
        return RouteState.FAILED
    if key in actual.pending:
        return RouteState.PENDING
    carried = actual.routes.get(key)
    if actual.sessions.get(key.neighbor, False):
        return RouteState.PROVEN if carried == wanted else RouteState.PENDING
    replayed = wanted is None and carried is not None
    return RouteState.PENDING if replayed else RouteState.SESSION_DOWN


def _moved_by_load(service: Service, pop: Pop) -> bool:
    return pop.load is not None and service.name in pop.load.services


def _covers(whole: Prefix, part: Prefix) -> bool:
    if whole.version != part.version:
        return False
    return int(whole.network_address) <= int(part.network_address) and (
        int(part.broadcast_address) <= int(whole.broadcast_address)
    )
