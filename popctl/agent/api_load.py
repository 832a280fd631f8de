"""What the API tells of steering by load: read from the World's view and the last decision."""

from __future__ import annotations

import math

from popctl.core import damping, load, load_step, pop_load
from popctl.core.health import backend_verdict
from popctl.core.landing import Landing, Receiver, landing
from popctl.model.capacity import LoadSettings
from popctl.model.desired import LoadDecision
from popctl.model.instant import Instant
from popctl.model.load import Share
from popctl.model.observation import IntentKind
from popctl.model.playbook import PlaybookInForce
from popctl.model.pop import Pop
from popctl.model.reason import Reason
from popctl.model.view import View
from popctl.wire.load_api import (
    ClassStatus,
    LandingStatus,
    LoadStatus,
    MeterStatus,
    PenaltyStatus,
    PlaybookStatus,
    ReceiverStatus,
    UsedStatus,
)


def load_status(pop: Pop, view: View, found: LoadDecision | None, now: Instant) -> LoadStatus | None:
    """Return where the PoP stands; None without steering by load, or before the first decision."""
    if pop.load is None or found is None:
        return None
    figures = pop.load.policies.damping
    kept = load_step.penalties(pop, view, now)
    return LoadStatus(
        level=found.level,
        name=found.name,
        levels=len(pop.load.ladder),
        reason="" if found.reason is None else found.reason.value,
        full=_finite(found.tightness.at_least),
        resource="" if found.tightness.resource is None else found.tightness.resource.value,
        missing="" if found.tightness.missing is None else found.tightness.missing.value,
        until_s=None if found.until is None else max(found.until - now, 0.0),
        settling=found.settling,
        penalties=tuple(
            PenaltyStatus(asn=asn, value=damping.value(penalty, now, figures), limit=figures.limit)
            for asn, penalty in sorted(kept.items())
        ),
        playbook=None if pop.load.playbook is None else _playbook(pop.load, view.playbook, now),
    )


def meter_status(backend: int, pop: Pop, view: View, now: Instant) -> MeterStatus:
    """Return what the meter of a backend said last, as far as it may still be believed."""
    one, timing = view.loads.get(backend, load.UNHEARD), pop.load_timing
    heard = load.heard(one, timing, now)
    classes = one.classes if heard else None
    return MeterStatus(
        heard_s=max(now - one.at, 0.0) if math.isfinite(one.at) else None,
        used=tuple(
            UsedStatus(resource=resource.value, used=track.smooth)
            for resource, track in load.known(one, timing, now).items()
        ),
        interactive=None if classes is None else _class(classes.interactive),
        bulk=None if classes is None else _class(classes.bulk),
        symptoms=one.symptoms if heard else (),
    )


def _class(share: Share) -> ClassStatus:
    return ClassStatus(sessions=share.sessions, bit_s=share.bit_s)


def landing_status(pop: Pop, view: View, now: Instant) -> LandingStatus | None:
    """Return where all that the PoP carries would land, or why that is not known; None where nobody could take it."""
    if pop.fleet is None:
        return None
    found: Landing | Reason = Reason.NO_PLAYBOOK
    if pop.load is not None and pop.load.playbook is not None:
        found = _landing(pop, pop.load, view, now)
    if isinstance(found, Landing):
        receivers = tuple(_receiver(one) for one in found.receivers)
        return LandingStatus(problem="", unreached=found.unreached, receivers=receivers)
    return LandingStatus(problem=found.value, unreached=0.0, receivers=())


def _landing(pop: Pop, settings: LoadSettings, view: View, now: Instant) -> Landing | Reason:
    draining = {intent.target for intent in view.intents if intent.kind is IntentKind.DRAIN}
    verdicts = {
        one.id: None if one.name in draining else backend_verdict(one, view.health, now)[0]
        for one in pop.backends.values()
    }
    weight = pop_load.weigh(pop, view, verdicts, now)
    if weight is None:
        return Reason.CAPACITY_UNKNOWN
    state = view.load_state
    case = load_step.case(pop, settings, view, load_step.fleet(pop, view, weight, state), now)
    return landing(case, state.level, settings.policies.gate, now)


def _receiver(one: Receiver) -> ReceiverStatus:
    return ReceiverStatus(
        pop=one.pop,
        sessions_before=one.sessions_before,
        sessions_after=one.sessions_after,
        full_after=_finite(one.full_after),
        over=one.over,
    )


def _playbook(settings: LoadSettings, found: PlaybookInForce | None, now: Instant) -> PlaybookStatus:
    book = None if found is None else found.playbook
    return PlaybookStatus(
        read=book is not None,
        fleet="" if book is None else book.fleet,
        age_s=None if book is None or found is None else max(now - found.created, 0.0),
        max_age_s=settings.policies.gate.playbook_max_age_s,
        problem="not read yet" if found is None else found.problem,
    )


def _finite(share: float) -> float | None:
    """JSON has no infinity, and that is what no capacity at all comes to."""
    return share if math.isfinite(share) else None
