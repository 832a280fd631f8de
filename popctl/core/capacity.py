"""Steering by load: which level of its ladder a service stands on, by enter and leave watermarks, dwell and the gate.

Rules. One step at a time, and nothing after a step until it is verified. Up the ladder only when hot without a break
and when the gate accepts; down again later, and only when the gate sees plenty of room. What is not known never starts
anything. A step that did not do what its row says is taken back once, unless that would be worse, and the row is not
believed for a while. The
announcement changes no faster than flap damping allows.

`choose` is a pure function and idempotent: asked again at the same time with its own state it says the same.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from popctl.core import damping, gate
from popctl.core.load import tightness as tightness_of
from popctl.model.capacity import Distrust, Expectation, GatePolicy, LoadPolicy, LoadState, Pending
from popctl.model.capacity import Policies as Policies  # noqa: PLC0414 - marks the re-export
from popctl.model.instant import NEVER, Instant
from popctl.model.load import FleetLoad, Resource, Tightness
from popctl.model.playbook import Level
from popctl.model.reason import Reason


@dataclass(frozen=True, slots=True, kw_only=True)
class Inputs:
    """What a choice rests on."""

    tightness: Tightness
    """Of the backends that serve, together."""
    case: gate.Case
    """In its fleet view the own PoP stands as it is known here, not as the store echoes it."""
    penalties: Mapping[int, damping.Penalty] = field(default_factory=dict)
    """The worst one per upstream of the service, by AS number; has every upstream."""
    permitted: bool = True
    """The fleet grants a step up the ladder now."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """Where the service stands, why, and when to look again for time alone."""

    level: int
    rungs: Level
    reason: Reason | None
    """Why it stands there, or why it cannot stand where it should; None: load has no say."""
    until: Instant
    state: LoadState
    granted: Choice | None = None
    """A step is wanted that only the fleet's permit is missing for: what is chosen as soon as it is there."""


@dataclass(frozen=True, slots=True)
class _Answer:
    """The state after a look, and what keeps it there."""

    state: LoadState
    blocked: Reason | None = None
    until: Instant = NEVER
    granted: _Answer | None = None


def choose(state: LoadState, inputs: Inputs, policies: Policies, now: Instant) -> Choice:
    """Return the level of one service of one PoP."""
    if state.level >= len(inputs.case.ladder):
        # A new configuration has fewer levels: the mildest change is to its last one.
        state = replace(state, level=len(inputs.case.ladder) - 1, since=now, pending=None)
    state = _feel(state, inputs.tightness, policies.load, now)
    answer = _Answer(state)
    if state.pending is not None:
        answer = _verify(state, state.pending, inputs, policies, now)
    if answer.state.pending is None:
        answer = _move(answer.state, inputs, policies, now)
    return _choice(answer, inputs.case.ladder)


def _choice(answer: _Answer, ladder: tuple[Level, ...]) -> Choice:
    found = answer.state
    return Choice(
        level=found.level,
        rungs=ladder[found.level],
        reason=answer.blocked or found.reason,
        until=answer.until,
        state=found,
        granted=None if answer.granted is None else _choice(answer.granted, ladder),
    )


def _feel(state: LoadState, tightness: Tightness, policy: LoadPolicy, now: Instant) -> LoadState:
    """Keep the time since when it is hot. A lower bound above the watermark is heat; one below says nothing."""
    hot = tightness.at_least >= policy.hot
    if hot == (state.hot_since is not None):
        return state
    return replace(state, hot_since=now if hot else None)


def _move(state: LoadState, inputs: Inputs, policies: Policies, now: Instant) -> _Answer:
    """Look for the next step of a service whose last one is verified."""
    if state.hot_since is not None:
        hot_at = state.hot_since + policies.load.hot_for_s
        if now < hot_at:
            return _Answer(state, None if state.level else Reason.HOT, hot_at)
        return _shed(state, inputs, policies, now)
    if state.level == 0:
        # Whatever was going on is over.
        return _Answer(replace(state, reason=None) if state.reason else state)
    return _restore(state, inputs, policies, now)


def _shed(state: LoadState, inputs: Inputs, policies: Policies, now: Instant) -> _Answer:
    after = state.level + 1
    if after >= len(inputs.case.ladder):
        return _Answer(state)
    blind = gate.blind(inputs.case, policies.gate, now)
    if blind is not None:
        overloaded = inputs.tightness.at_least >= policies.load.overloaded
        if after > policies.load.floor or not overloaded:
            return _Answer(state, blind)
        return _go(state, after, (), Reason.SHED_UNGATED, inputs, policies, now)
    return _gated(state, after, inputs, policies, now)


def _restore(state: LoadState, inputs: Inputs, policies: Policies, now: Instant) -> _Answer:
    if not inputs.tightness.exact:
        return _Answer(state, inputs.tightness.missing)
    due = state.since + _restore_wait_s(state, policies.load)
    if now < due:
        return _Answer(state, None, due)
    blind = gate.blind(inputs.case, policies.gate, now)
    if blind is None:
        return _gated(state, state.level - 1, inputs, policies, now)
    if state.level > policies.load.floor:
        return _Answer(state, blind)
    if inputs.tightness.at_least > policies.gate.restore_below:
        return _Answer(state, Reason.NOT_COOL_ENOUGH)
    return _go(state, state.level - 1, (), Reason.RECOVERED, inputs, policies, now)


def _restore_wait_s(state: LoadState, policy: LoadPolicy) -> float:
    wait_s = policy.dwell_s * policy.restore_dwells
    if not state.ungated:
        return wait_s
    # Without a prediction, trying again is the only way to learn; each failure makes it rarer.
    return max(wait_s, min(wait_s * 2.0 ** (len(state.ungated) - 1), policy.backoff_max_s))


def _gated(state: LoadState, after: int, inputs: Inputs, policies: Policies, now: Instant) -> _Answer:
    """Take a step if its row is believed and the gate, which is not blind, accepts."""
    for one in state.distrusted:
        if (one.before, one.after) == (state.level, after) and now < one.until:
            return _Answer(state, Reason.ROW_NOT_BELIEVED, one.until)
    verdict = gate.examine(inputs.case, state.level, after, policies.gate, now)
    if not verdict.accepted:
        return _Answer(state, verdict.reason)
    return _go(state, after, verdict.expected, verdict.reason, inputs, policies, now)


def _go(
    state: LoadState,
    after: int,
    expected: tuple[Expectation, ...],
    reason: Reason,
    inputs: Inputs,
    policies: Policies,
    now: Instant,
) -> _Answer:
    """Step, if flap damping and the fleet's permit allow it."""
    stepped = _step(state, after, expected, reason, policies.load, now)
    return _unless_barred(state, stepped, inputs, policies.damping, now)


def _unless_barred(
    state: LoadState, stepped: _Answer, inputs: Inputs, figures: damping.Figures, now: Instant
) -> _Answer:
    """Return the step, or what bars it: flap damping, or a permit that is not there."""
    after = stepped.state.level
    allowed_at = _allowed_from(state.level, after, inputs, figures, now)
    if allowed_at > now:
        return _Answer(state, Reason.FLAP_DAMPING, allowed_at)
    if after > state.level and not inputs.permitted:
        return _Answer(state, Reason.NO_PERMIT, granted=stepped)
    return stepped


def _step(
    state: LoadState,
    after: int,
    expected: tuple[Expectation, ...],
    reason: Reason,
    policy: LoadPolicy,
    now: Instant,
) -> _Answer:
    pending = Pending(before=state.level, after=after, at=now, expected=expected)
    ungated = tuple(at for at in state.ungated if at > now - 4 * policy.backoff_max_s)
    if reason is Reason.SHED_UNGATED:
        ungated = (*ungated, now)
    moved = replace(state, level=after, since=now, reason=reason, pending=pending, ungated=ungated)
    return _Answer(moved, None, now + policy.dwell_s)


def _allowed_from(before: int, after: int, inputs: Inputs, figures: damping.Figures, now: Instant) -> Instant:
    old, new = inputs.case.ladder[before], inputs.case.ladder[after]
    return max(
        (
            damping.allowed_from(penalty, damping.cost(old.rung(asn), new.rung(asn), figures), now, figures)
            for asn, penalty in inputs.penalties.items()
        ),
        default=now,
    )


def _verify(state: LoadState, pending: Pending, inputs: Inputs, policies: Policies, now: Instant) -> _Answer:
    """Compare what a step did with what was predicted, once BGP has converged."""
    policy = policies.load
    due = pending.at + policy.dwell_s
    if now < due:
        return _Answer(state, None, due)
    done = replace(state, pending=None)
    if not pending.expected:
        return _Answer(done)
    unclear = _unclear(pending, inputs, policies.gate, now)
    last = due + policy.patience_dwells * policy.dwell_s
    if unclear is not None and now < last:
        return _Answer(state, unclear, last)
    if unclear is not None:
        return _Answer(_distrust(done, pending, policy, now))
    if _wrong(pending, inputs, policies):
        worse = gate.worse(inputs.case, pending.after, pending.before, policies.gate, now)
        if worse is not None:
            return _Answer(_distrust(done, pending, policy, now), worse)
        back = _step(_distrust(done, pending, policy, now), pending.before, (), Reason.ROLLED_BACK, policy, now)
        return _unless_barred(state, back, inputs, policies.damping, now)
    trusted = tuple(one for one in state.distrusted if (one.before, one.after) != (pending.before, pending.after))
    return _Answer(replace(done, distrusted=trusted))


def _unclear(pending: Pending, inputs: Inputs, policy: GatePolicy, now: Instant) -> Reason | None:
    """Return why a step cannot be verified now, if it cannot."""
    fleet = inputs.case.fleet
    if fleet is None or now > fleet.at + policy.view_stale_after_s:
        return Reason.FLEET_VIEW_STALE
    for one in pending.expected:
        pop = fleet.pops.get(one.pop)
        if pop is None or now > pop.at + policy.view_stale_after_s or Resource.SESSIONS not in pop.used:
            return Reason.RECEIVER_UNKNOWN
    return None


def _wrong(pending: Pending, inputs: Inputs, policies: Policies) -> bool:
    """Return whether a step was useless, or overloaded somebody with more than was predicted."""
    fleet = inputs.case.fleet
    if fleet is None:
        raise ValueError("_unclear() looks at it first")
    own = pending.expected[0]
    if pending.after > pending.before and inputs.tightness.at_least >= policies.load.hot:
        wanted = own.sessions_before - own.sessions_after
        if _moved(pending.expected, fleet) < policies.load.useful_share * wanted:
            return True
    return any(_surprised(one, fleet, policies) for one in pending.expected if one.sessions_after > one.sessions_before)


def _moved(expected: tuple[Expectation, ...], fleet: FleetLoad) -> float:
    """Return how many sessions a step seems to have moved: what the own PoP lost, or what the others gained.

    Demand that grows meanwhile hides the one, demand that falls the other.
    """
    gains = [fleet.pops[one.pop].used[Resource.SESSIONS] - one.sessions_before for one in expected]
    return max(-gains[0], sum(gains[1:]))


def _surprised(expected: Expectation, fleet: FleetLoad, policies: Policies) -> bool:
    pop = fleet.pops[expected.pop]
    if pop.used[Resource.SESSIONS] <= expected.sessions_after * policies.load.surprise:
        return False
    return tightness_of(pop.used, pop.capacity, {}).at_least > policies.gate.saturation


def _distrust(state: LoadState, pending: Pending, policy: LoadPolicy, now: Instant) -> LoadState:
    """Do not believe the row of this step for a while, longer each time."""
    pair = (pending.before, pending.after)
    times = 1 + next((one.times for one in state.distrusted if (one.before, one.after) == pair), 0)
    wait_s = min(policy.backoff_s * 2.0 ** min(times - 1, 64), policy.backoff_max_s)
    others = tuple(
        one for one in state.distrusted if (one.before, one.after) != pair and now < one.until + policy.backoff_max_s
    )
    mine = Distrust(before=pair[0], after=pair[1], until=now + wait_s, times=times)
    return replace(state, distrusted=(*others, mine))
