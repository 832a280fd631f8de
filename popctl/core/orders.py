"""What overrides health: a corrupt state file, orders of operators, the stop of the agent. Strongest first."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from popctl.core import load, maintenance
from popctl.model.instant import NEVER, Instant
from popctl.model.load import Resource
from popctl.model.maintenance import Maintenance, Progress, Sessions, Stage
from popctl.model.observation import Intent, IntentKind
from popctl.model.pop import Announce, Pop, Service
from popctl.model.reason import Reason
from popctl.model.view import Memory, View


@dataclass(frozen=True, slots=True)
class Order:
    """A rung of the ladder, and until when time alone keeps it there."""

    announce: Announce
    reason: Reason
    until: Instant = NEVER
    forced: bool = False
    refuse_new: bool = False
    """The balancer takes no new SA for the service meanwhile."""


@dataclass(frozen=True, slots=True)
class Ordered:
    """What is ordered of one service now, and what has to be remembered of it."""

    order: Order | None
    progress: Progress | None = None


def of_service(service: Service, pop: Pop, view: View, memory: Memory, now: Instant) -> Ordered:
    """Return what overrides health for a service."""
    if view.state_corrupt and not pop.start_without_state:
        return Ordered(Order(Announce.WITHDRAWN, Reason.STATE_FILE_CORRUPT))
    intent = next((one for one in view.intents if _withdraws(one, service)), None)
    progress = None if intent is None else _progress(intent, service, pop, view, memory, now)
    orders = [*_planned(intent, progress, pop), *_stop(pop, view, now)]
    withdrawn = [order for order in orders if order.announce is Announce.WITHDRAWN]
    return Ordered(next(iter(withdrawn or orders), None), progress)


def _withdraws(intent: Intent, service: Service) -> bool:
    return intent.kind is IntentKind.WITHDRAW and intent.target == service.name


def _work(intent: Intent) -> Maintenance:
    began = intent.drain_until - intent.drain_s
    return Maintenance(began=began, drain_until=intent.drain_until, expires=intent.expires)


def _progress(intent: Intent, service: Service, pop: Pop, view: View, memory: Memory, now: Instant) -> Progress:
    before = memory.work or Progress(since=now)
    if now < intent.expires and before.stage is Stage.OVER:
        # Another order, or a later end of the same: it begins anew.
        before = Progress(since=now)
    left = sessions(service, pop, view, now)
    return maintenance.advance(_work(intent), before, left, pop.timing.convergence_s, now)


def sessions(service: Service, pop: Pop, view: View, now: Instant) -> Sessions:
    """Return the live sessions of a service as last counted; unknown unless all of its backends tell.

    Not the average that steers by load: that would miss a session that has just begun, and be late for the last one.
    """
    total = 0.0
    for number in service.backends:
        known = load.known(view.loads.get(number, load.UNHEARD), pop.load_timing, now)
        if Resource.SESSIONS not in known:
            return Sessions(count=None)
        total += known[Resource.SESSIONS].latest
    return Sessions(count=total)


def _planned(intent: Intent | None, progress: Progress | None, pop: Pop) -> Iterator[Order]:
    if intent is None or progress is None:
        return
    standing = maintenance.standing(_work(intent), progress, pop.timing.convergence_s)
    if standing is None:
        return
    yield Order(
        standing.announce,
        standing.reason,
        standing.until,
        forced=intent.forced,
        refuse_new=intent.refuse_new,
    )


def _stop(pop: Pop, view: View, now: Instant) -> Iterator[Order]:
    if view.stopping_since is None:
        return
    drained_at = view.stopping_since + pop.timing.stop_drain_s
    if now < drained_at:
        yield Order(Announce.GRACEFUL_SHUTDOWN, Reason.STOPPING, drained_at)
    else:
        yield Order(Announce.WITHDRAWN, Reason.STOPPING)
