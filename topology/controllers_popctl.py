"""popctl's own control by load in a simulation: every PoP runs `popctl.core`, as its agent would.

What is simulated here is only what lies around the core: meters, the store that carries everybody's figures with a
delay, its token for steps up the ladder, and the playbook that a planner makes anew from time to time.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from popctl.core import capacity, damping, gate, load
from popctl.model.capacity import CALM, GatePolicy, LoadPolicy
from popctl.model.load import NOTHING_KNOWN, BackendLoad, FleetLoad, LoadSample, LoadTiming, PopLoad, Resource
from popctl.model.playbook import Playbook
from popctl.model.reason import Reason
from topology.controllers import Act
from topology.simulation.ladder import told
from topology.simulation.ladder_plan import LadderPlanner
from topology.simulation.rows import Band, Rows
from topology.simulation.streams import Streams

if TYPE_CHECKING:
    from collections.abc import Mapping

    from popctl.core.capacity import Choice
    from popctl.model.load import Amounts, Tightness
    from topology.announce import Announcement
    from topology.controllers import Seen
    from topology.fleet import Fleet
    from topology.simulation.world import World

_FLEET: Final = "simulated"
_TOKEN_SHARE: Final = 0.01
"""Of the PoPs may step up per minute, and one at least."""
_MINUTE_S: Final = 60.0


def policies_for(tick_s: float) -> capacity.Policies:
    """Return the defaults, slowed down where the simulated meter looks less often than every five seconds."""
    load_policy, gate_policy = LoadPolicy(), GatePolicy()
    return capacity.Policies(
        load=replace(load_policy, hot_for_s=max(load_policy.hot_for_s, 2 * tick_s)),
        gate=replace(gate_policy, view_stale_after_s=max(gate_policy.view_stale_after_s, 2.5 * tick_s)),
    )


@dataclass(slots=True)
class _Store:
    """What the store holds, and what each side has of it."""

    pops: dict[str, PopLoad]
    """As everybody sees it who is connected."""
    late: deque[tuple[float, str, PopLoad]]
    """Words on their way: from when on they are seen."""
    frozen: dict[int, Mapping[str, PopLoad]]
    """What PoPs saw when the store became unreachable."""
    lost_at: dict[int, float]

    def arrive(self, now_s: float) -> None:
        """Let the words be seen that have had their time."""
        while self.late and self.late[0][0] <= now_s:
            _, name, one = self.late.popleft()
            self.pops[name] = one


class Popctl:
    """A fleet of PoPs that each run `popctl.core.capacity`."""

    name = "popctl"

    def __init__(self, fleet: Fleet, world: World, policies: capacity.Policies | None = None) -> None:
        self.fleet = fleet
        self._world = world
        scenario = world.scenario
        self._scenario = scenario
        self._tick_s = scenario.tick_s
        self._policies = policies or policies_for(scenario.tick_s)
        stale_s = max(LoadTiming().stale_after_s, 2.5 * scenario.tick_s)
        self._timing = LoadTiming(stale_after_s=stale_s)
        self._names = [pop.name for pop in fleet.pops]
        count = len(self._names)
        self._sessions = [[one for one in fleet.sessions if one.pop == pop] for pop in range(count)]
        planner = LadderPlanner(world.routing, world.profile, scenario.book.prepend, scenario.book.error)
        self._ladders = [planner.ladder(pop) for pop in range(count)]
        self._all_ladders = dict(zip(self._names, self._ladders, strict=True))
        self._states = [CALM] * count
        self._ledgers: list[dict[int, damping.Penalty]] = [
            {one.upstream: damping.NONE for one in sessions} for sessions in self._sessions
        ]
        self._full: list[Amounts] = [
            {
                Resource.SESSIONS: float(pop.capacity.sessions),
                Resource.HANDSHAKES: float(pop.capacity.handshakes_s),
                Resource.BITS: float(pop.capacity.bit_s),
            }
            for pop in fleet.pops
        ]
        self._meters = [load.UNHEARD] * count
        self._store = _Store({}, deque(), {}, {})
        self._shared = FleetLoad(fleet=_FLEET, pops=self._store.pops, at=0.0)
        self._offsets = Streams(scenario.seed, "offset", self._names).uniform(0) * min(5.0, 0.5 * self._tick_s)
        self._order: list[int] = sorted(range(count), key=lambda pop: (float(self._offsets[pop]), pop))
        self.rows: Rows | None = None
        self.playbook: Playbook | None = None
        self._made_at = 0.0
        self._upsets = 0
        self._tokens = 0.0
        self.highest_penalty = 0.0
        self.blocked: dict[str, int] = {}
        """How often each reason kept a hot PoP from a step."""

    @property
    def levels(self) -> list[int]:
        """Where every PoP stands on its ladder."""
        return [state.level for state in self._states]

    def routes(self, pop: int, level: int) -> tuple[Announcement | None, ...]:
        """Return what the sessions of a PoP carry on a level."""
        return told(self._ladders[pop][level], self._sessions[pop], self._scenario.book.prepend)

    def turn(self, seen: Seen) -> list[Act]:
        """Let every PoP read its meter, publish, and choose."""
        self._plan_anew(seen.now_s)
        # One view for all who are connected: it shows the store as it is whenever somebody looks.
        self._shared = FleetLoad(fleet=_FLEET, pops=self._store.pops, at=seen.now_s)
        full = max(1.0, _TOKEN_SHARE * len(self._names))
        self._tokens = min(full, self._tokens + full * self._tick_s / _MINUTE_S)
        tight = [self._listen(pop, seen) for pop in range(len(self._names))]
        self._store.arrive(seen.now_s)
        acts = []
        for pop in self._order:
            if not seen.alive[pop]:
                continue  # Where nothing serves there is no load to decide on, and perhaps no agent either.
            act = self._choose(pop, seen, tight[pop])
            if act is not None:
                acts.append(act)
        return acts

    def _plan_anew(self, now_s: float) -> None:
        refresh_s = self._scenario.book.refresh_s
        upset = self._upsets != self._world.upsets
        old = bool(refresh_s) and (upset or now_s >= self._made_at + refresh_s)
        if self.playbook is not None and not old:
            return
        self._upsets = self._world.upsets
        rows = Rows(
            routing=self._world.routing,
            plan=self._world.known_plan(),
            levels=self.levels,
            ladders=self._ladders,
            factors=self._world.factors,
            band=Band(certain=self._scenario.book.error, tied=self._scenario.book.error),
            prepend=self._scenario.book.prepend,
            down=self._world.unplugged,
            former=self.rows,
        )
        self.rows = rows
        self.playbook = Playbook(
            fleet=_FLEET,
            created_unix_s=now_s,
            ladders=self._all_ladders,
            steps=rows,
            reconnect_window_s=float(self._world.profile.reconnect_window_s),
        )
        self._made_at = now_s

    def _capacity(self, pop: int, alive: float) -> Amounts:
        if alive >= 1.0:
            return self._full[pop]
        return {resource: limit * alive for resource, limit in self._full[pop].items()}

    def _listen(self, pop: int, seen: Seen) -> tuple[PopLoad, Tightness]:
        """Read the meter of one PoP and publish what it says."""
        now = seen.now_s
        if seen.metered[pop]:
            used = {
                Resource.SESSIONS: float(seen.sessions[pop]),
                Resource.HANDSHAKES: float(seen.handshakes_s[pop]),
                Resource.BITS: float(seen.bit_s[pop]),
            }
            sample = LoadSample(backend=1, at=now, used=used)
            self._meters[pop] = load.fold(self._meters[pop], sample, self._timing)
        own, tight = self._own(pop, self._meters[pop], self._capacity(pop, float(seen.alive[pop])), now)
        if seen.connected[pop]:
            self._store.frozen.pop(pop, None)
            self._store.pops[self._names[pop]] = own
        elif pop not in self._store.frozen:
            self._store.frozen[pop] = dict(self._store.pops)
            self._store.lost_at[pop] = now - self._tick_s
            # Its record ends with its lease, which is shorter than any tick.
            self._store.pops.pop(self._names[pop], None)
        return own, tight

    def _own(self, pop: int, meter: BackendLoad, limits: Amounts, now: float) -> tuple[PopLoad, Tightness]:
        tracks = load.known(meter, self._timing, now)
        state = self._states[pop]
        used: dict[Resource, float] = {}
        peak: dict[Resource, float] = {}
        if tracks:
            for resource, track in tracks.items():
                used[resource] = track.smooth
                peak[resource] = track.peak
            tight = load.tightness(used, limits, {})
        else:
            tight = load.tightness(NOTHING_KNOWN, limits, dict.fromkeys(limits, Reason.STALE))
        own = PopLoad(
            level=state.level,
            announcing=pop in self._world.announcing,
            used=used,
            peak=peak,
            capacity=limits,
            at=now,
            settling=state.settling,
        )
        return own, tight

    def _view(self, pop: int, own: PopLoad, seen: Seen) -> FleetLoad:
        name = self._names[pop]
        if not seen.connected[pop]:
            frozen = {**self._store.frozen[pop], name: own}
            return FleetLoad(fleet=_FLEET, pops=frozen, at=self._store.lost_at[pop])
        return self._shared

    def _choose(self, pop: int, seen: Seen, listened: tuple[PopLoad, Tightness]) -> Act | None:
        """Let one PoP choose; tell the store what it does."""
        own, tight = listened
        # All look at their meters at the same moment and think one after the other: the store is a little late.
        moment = seen.now_s + float(self._offsets[pop])
        self._store.arrive(moment)
        before = self._states[pop]
        case = gate.Case(
            pop=self._names[pop],
            ladder=self._ladders[pop],
            playbook=self.playbook,
            playbook_age_s=moment - self._made_at,
            fleet=self._view(pop, own, seen),
        )
        inputs = capacity.Inputs(tightness=tight, case=case, penalties=self._ledgers[pop], permitted=False)
        choice = capacity.choose(before, inputs, self._policies, moment)
        if choice.granted is not None and seen.connected[pop] and self._tokens >= 1.0:
            choice = choice.granted
            if choice.level > before.level:
                self._tokens -= 1.0
        self._states[pop] = choice.state
        if choice.level == before.level:
            if choice.state.hot_since is not None and choice.reason is not None:
                self.blocked[choice.reason] = self.blocked.get(choice.reason, 0) + 1
            return None
        return self._stepped(pop, before.level, choice, own, moment)

    def _stepped(self, pop: int, before: int, choice: Choice, own: PopLoad, moment: float) -> Act:
        ladder, figures = self._ladders[pop], self._policies.damping
        for asn, penalty in self._ledgers[pop].items():
            cost = damping.cost(ladder[before].rung(asn), choice.rungs.rung(asn), figures)
            charged = damping.charge(penalty, cost, moment, figures)
            self._ledgers[pop][asn] = charged
            self.highest_penalty = max(self.highest_penalty, charged.value)
        word = replace(own, level=choice.level, announcing=not choice.rungs.withdrawn, settling=choice.state.settling)
        self._store.late.append((moment + self._scenario.telemetry.store_delay_s, self._names[pop], word))
        expected = choice.state.pending.expected if choice.state.pending is not None else ()
        return Act(
            pop,
            before,
            choice.level,
            str(choice.reason or choice.state.reason),
            tuple(one.pop for one in expected),
            max(
                (
                    one.sessions_after / max(1, int(self._world.room[self._names.index(one.pop)]))
                    for one in expected
                    if one.sessions_after > one.sessions_before
                ),
                default=0.0,
            ),
        )
