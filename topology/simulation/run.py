"""The loop: a virtual clock, the events of a scenario, and one controller against one world."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import replace
from hashlib import blake2b
from typing import TYPE_CHECKING, Final

import numpy as np

from topology.controllers import Seen
from topology.scenario import EventKind
from topology.simulation.curves import UNIT
from topology.simulation.faults import Faults
from topology.simulation.health import FleetHealth, Standing, Trouble
from topology.simulation.oracle import Frozen, Oracle
from topology.simulation.record import Done, HealthAct, Run, Tick
from topology.simulation.streams import Streams

if TYPE_CHECKING:
    from collections.abc import Callable

    from topology.controllers import Act, Controller, Flags, Floats
    from topology.simulation.world import Served, World

_CHECK_EVERY: Final = 240
"""Ticks between two comparisons of the incremental state with one from nothing."""
_STALE_TICKS: Final = 2.5
"""A reading or a view that is older counts for nothing."""


class Simulation:
    """One run, tick by tick."""

    def __init__(self, world: World, controller: Controller) -> None:
        self.world = world
        self.controller = controller
        self.scenario = world.scenario
        self.result = Run(controller=controller.name, scenario=world.scenario, outside=world.routing.demand.outside)
        names = [pop.name for pop in world.fleet.pops]
        self._names = names
        self.result.pops = tuple(names)
        self._noise = [
            Streams(self.scenario.seed, f"noise {what}", names) for what in ("sessions", "bits", "handshakes")
        ]
        self._losses = Streams(self.scenario.seed, "loss", names)
        self._sessions: list[list[int]] = [[] for _ in names]
        for index, session in enumerate(world.fleet.sessions):
            self._sessions[session.pop].append(index)
        self._faults = Faults(self.scenario, self._sessions, world)
        self.result.faults = self._faults.told(names)
        self._heard = np.full(len(names), -np.inf)
        """When each PoP last had a reading,"""
        self._in_touch = np.full(len(names), -np.inf)
        """and the store."""
        self._health = FleetHealth(fleet=world.fleet, stale_after_s=10 * self.scenario.tick_s)
        self._standing: dict[int, Standing] = {}
        """Of PoPs that health keeps from telling what their level says."""
        self._log = blake2b(digest_size=16)

    def run(self, watch: Callable[[], None] | None = None, *, judged: bool = False) -> Run:
        """Run to the end. To be `judged` a run needs to know what would have been (`topology.simulation.oracle`)."""
        oracle = Oracle(self) if judged else None
        for number in range(self.scenario.ticks):
            if oracle is not None:
                oracle.before(number, number * self.scenario.tick_s)
            self.tick(number)
            if watch is not None:
                watch()
        if oracle is not None:
            oracle.close(self.scenario.ticks)
        result = self.result
        result.exact = result.exact and self.world.routing.exact()
        result.suppressions = self.world.suppressions
        result.highest_penalty = getattr(self.controller, "highest_penalty", None)
        result.blocked = dict(sorted(getattr(self.controller, "blocked", {}).items()))
        self._log.update(self.world.routing.where.pop.tobytes())
        result.digest = self._log.hexdigest()
        return result

    def frozen(self) -> Simulation:
        """Return a copy from here on, in which the controller stays as it is and nothing is recorded yet."""
        world = self.world
        kept = (
            *self._noise,
            self._losses,
            self._faults.targets,
            self._names,
            self._sessions,
            self.scenario,
            *world.values(),
        )
        memo: dict[int, object] = {id(one): one for one in kept}
        memo[id(self.controller)] = Frozen(self.controller)
        memo[id(self.result)] = Run(controller=Frozen.name, scenario=self.scenario)
        memo[id(self._log)] = self._log.copy()
        return deepcopy(self, memo)

    def tick(self, number: int) -> None:
        """Play one tick."""
        now = number * self.scenario.tick_s
        self._faults.befall(now, self.world)
        served = self.world.serve(now)
        if number % _CHECK_EVERY == _CHECK_EVERY - 1:
            self.result.exact = self.result.exact and self.world.routing.exact()
        self._heal(now)
        seen = self._read(number, now, served)
        self._heard[seen.metered] = now
        self._in_touch[seen.connected] = now
        acts = self.controller.turn(seen)
        for act in acts:
            self._do(act, seen)
        self._note(now, served, len(acts))

    def _heal(self, now: float) -> None:
        """Let health decide; the same for every controller, so that they differ in load alone."""
        troubles: dict[int, Trouble] = {}
        cut: set[int] = set()
        for event, pops in self._faults.active():
            if event.kind is EventKind.BACKEND_FAILURE:
                troubles.update({pop: Trouble.DEAD for pop in pops if self.world.alive[pop] == 0})
            elif event.kind is EventKind.PROBE_FAILURE:
                troubles.update({pop: Trouble.LYING for pop in pops if pop not in troubles})
            elif event.kind is EventKind.PARTITION:
                cut.update(pops)
        for pop, standing in sorted(self._health.turn(troubles, frozenset(cut), now).items()):
            self._standing[pop] = standing
            self._log.update(f"{now:.3f} {self._names[pop]} {standing}\n".encode())
            self.result.health.append(HealthAct(at_s=now, pop=self._names[pop], standing=str(standing)))
            self.world.upsets += 1
            self._tell(pop, self.controller.levels[pop], now)

    def _tell(self, pop: int, level: int, now: float) -> None:
        """Tell a PoP's upstreams what its level says, as far as health lets it."""
        standing = self._standing.get(pop, Standing.IN)
        for index, route in zip(self._sessions[pop], self.controller.routes(pop, level), strict=True):
            if standing is Standing.OUT:
                self.world.tell(index, None, now)
            elif standing is Standing.HELD and route is not None:
                least = self.world.fleet.sessions[index].announcement
                more = least.prepend + self.scenario.book.prepend
                self.world.tell(index, replace(route, prepend=max(route.prepend, more)), now)
            else:
                self.world.tell(index, route, now)

    def _read(self, number: int, now: float, served: Served) -> Seen:
        """Return what the meters say of what is true."""
        world, telemetry = self.world, self.scenario.telemetry
        noise = [1.0 + telemetry.noise * (2.0 * stream.uniform(number) - 1.0) for stream in self._noise]
        connected = (served.offered - served.waiting) / UNIT
        alive = world.alive / UNIT
        limit_bits = np.array([pop.capacity.bit_s for pop in world.fleet.pops], dtype=np.float64) * alive
        sessions = connected * noise[0]
        bit_s = np.minimum(connected * world.profile.bit_s_per_session * noise[1], limit_bits)
        handshakes_s = served.handshakes_s / UNIT * noise[2]
        lost, cut = self._deaf()
        metered = (self._losses.uniform(number) >= np.maximum(lost, telemetry.loss)) & (alive > 0)
        room = np.maximum(world.room * alive, 1e-9)
        rate = np.maximum(world.handshakes_s * alive, 1e-9)
        tightness = np.maximum(sessions / room, handshakes_s / rate)
        return Seen(
            now_s=now,
            sessions=sessions,
            bit_s=bit_s,
            handshakes_s=handshakes_s,
            metered=metered,
            connected=~cut & (alive > 0),
            alive=alive,
            tightness=np.where(metered, tightness, 0.0),
            room=world.room,
        )

    def _deaf(self) -> tuple[Floats, Flags]:
        """Return the share of readings that each PoP loses, and which PoPs are without the store."""
        lost = np.zeros(len(self._names))
        cut = np.zeros(len(self._names), dtype=bool)
        for event, pops in self._faults.active():
            if event.kind is EventKind.TELEMETRY_LOSS:
                lost[list(pops)] = np.maximum(lost[list(pops)], event.share)
            elif event.kind is EventKind.PARTITION:
                cut[list(pops)] = True
        return lost, cut

    def _do(self, act: Act, seen: Seen) -> None:
        self._tell(act.pop, act.after, seen.now_s)
        knew_at = min(self._heard[act.pop], self._in_touch[act.pop])
        self.result.stale_acts += bool(seen.now_s > knew_at + _STALE_TICKS * self.scenario.tick_s)
        done = Done(
            at_s=seen.now_s,
            pop=self._names[act.pop],
            before=act.before,
            after=act.after,
            reason=act.reason,
            touched=act.touched,
            planned_room=act.planned_room,
        )
        self.result.acts.append(done)
        self._log.update(f"{done.at_s:.3f} {done.pop} {done.before} {done.after} {done.reason}\n".encode())

    def _note(self, now: float, served: Served, acts: int) -> None:
        world = self.world
        announcing = sorted(world.announcing)
        limits = (world.room * world.alive // UNIT)[announcing]
        loads = served.offered / np.maximum(world.room * UNIT, 1)
        self._log.update(served.offered.tobytes())
        self.result.utilisation.append([round(float(one), 4) for one in loads])
        self.result.ticks.append(
            Tick(
                at_s=now,
                demand=served.total // UNIT,
                lost=served.lost_total // UNIT,
                unreached=served.unreached // UNIT,
                waiting=int(served.waiting.sum()) // UNIT,
                moved=served.moved // UNIT,
                overloaded=int((served.offered > world.room * world.alive).sum()),
                hottest=round(float(loads.max(initial=0.0)), 4),
                announced_capacity=int(limits.sum()),
                largest_announced=int(limits.max(initial=0)),
                announced_pops=len(announcing),
                storm_pops=int((served.storm > 0).sum()),
                acts=acts,
                conserved=served.conserved,
            )
        )
