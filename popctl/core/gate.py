"""The what-if gate: would this step make the fleet's overload smaller, and harm nobody?

The potential of a fleet, Phi, counts the sessions that must go somewhere else before every PoP fits under its
saturation again, and those that reach no PoP. A step that sheds is accepted only if Phi falls by a fixed minimum at
least; a step that restores, only if Phi does not rise. So every accepted step makes the pair (Phi, sum of all levels)
smaller in lexicographic order, by a fixed amount in its first part or by 1 in its second: under constant demand and a
right playbook there is an end to it, and nothing can go round in a circle.

Every prediction is a pessimist's: receivers get more by the row's error band than it says, sources lose less.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from popctl.core import reserve
from popctl.core.load import fullness
from popctl.model.capacity import Expectation, GatePolicy
from popctl.model.instant import Instant
from popctl.model.load import Amounts, FleetLoad, PopLoad, Resource
from popctl.model.playbook import CLOCKS_DIFFER_S, Flow, Level, Playbook, Step, StepKey
from popctl.model.reason import Reason

_ALL = 1.0 - 1e-6
"""A source whose shares add up to this loses everything, whatever the error band says."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """What the gate judges by."""

    pop: str
    """Who asks."""
    ladder: tuple[Level, ...]
    """As configured in this PoP."""
    playbook: Playbook | None
    playbook_age_s: float
    fleet: FleetLoad | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """May the step be taken, why, and what would come of it."""

    accepted: bool
    reason: Reason
    about: str = ""
    """The PoP that decided it, if one did."""
    phi_before: float = 0.0
    """Of the PoPs that the step touches, in sessions."""
    phi_after: float = 0.0
    expected: tuple[Expectation, ...] = ()


@dataclass(frozen=True, slots=True)
class _Predicted:
    """One touched PoP after the step."""

    used: Amounts
    peak: Amounts
    gained_sessions: float


def blind(case: Case, policy: GatePolicy, now: Instant) -> Reason | None:
    """Return why the gate can judge nothing at all, if it cannot."""
    book, fleet = case.playbook, case.fleet
    if book is None:
        return Reason.NO_PLAYBOOK
    if case.playbook_age_s > policy.playbook_max_age_s:
        return Reason.PLAYBOOK_TOO_OLD
    if case.playbook_age_s < -CLOCKS_DIFFER_S:
        return Reason.PLAYBOOK_FROM_FUTURE
    if fleet is None or now > fleet.at + policy.view_stale_after_s:
        return Reason.FLEET_VIEW_STALE
    if (
        book.fleet != fleet.fleet
        or book.ladders.get(case.pop) != case.ladder
        or not fleet.pops.keys() <= book.ladders.keys()
    ):
        return Reason.PLAYBOOK_FOREIGN
    oldest = now - policy.view_stale_after_s
    if not fleet.silent and not [pop for pop in fleet.pops.values() if pop.at < oldest]:
        return None  # what is so almost always needs no counting
    heard = [pop.at for pop in fleet.pops.values() if pop.announcing]
    fresh = [at for at in heard if at >= oldest]
    members = len(heard) + len(fleet.silent)
    return Reason.FLEET_VIEW_STALE if len(fresh) < policy.fresh_share * members else None


def judge(case: Case, before: int, after: int, policy: GatePolicy, now: Instant) -> Verdict:
    """Judge one step of the PoP that asks."""
    reason = blind(case, policy, now)
    if reason is not None:
        return Verdict(accepted=False, reason=reason)
    return examine(case, before, after, policy, now)


def examine(case: Case, before: int, after: int, policy: GatePolicy, now: Instant) -> Verdict:
    """Judge one step of a case that `blind` has nothing against."""
    if case.playbook is None or case.fleet is None:
        raise ValueError("blind() looks at both first")
    pops = case.fleet.pops
    step = row(case.playbook, StepKey(case.pop, before, after), pops)
    if step is None:
        return Verdict(accepted=False, reason=Reason.NO_PLAYBOOK_STEP)
    for name in sorted(step.touched):
        problem = _unfit(name, pops.get(name), case.pop, policy, now)
        if problem is not None:
            return Verdict(accepted=False, reason=problem, about=name)
    predicted = predict(step, pops)
    return _weigh(case, step, predicted, policy, now)


def worse(case: Case, before: int, after: int, policy: GatePolicy, now: Instant) -> Reason | None:
    """Return why a step that takes another one back would make things worse, if the playbook says that it would.

    Such a step is owed no gain and no room. But all who moved would move once more, perhaps to a PoP without handshakes
    to spare; and if something else has happened meanwhile, there may be less room where they came from. Phi must not
    rise, whatever for. Where the gate is blind nothing is known to be worse.
    """
    if case.playbook is None or case.fleet is None or blind(case, policy, now) is not None:
        return None
    pops = case.fleet.pops
    step = row(case.playbook, StepKey(case.pop, before, after), pops)
    if step is None or any(_unfit(name, pops.get(name), case.pop, policy, now) for name in step.touched):
        return None
    predicted = predict(step, pops)
    window_s = case.playbook.reconnect_window_s
    if any(one.gained_sessions > 0 and _storm(one, pops[name], window_s) for name, one in predicted.items()):
        return Reason.HANDSHAKE_STORM
    phi_before, phi_after = _potential(step, predicted, pops, policy)
    return Reason.NO_GAIN if phi_after > phi_before else None


def row(playbook: Playbook, key: StepKey, pops: Mapping[str, PopLoad]) -> Step | None:
    """Return the row of a step whose conditions hold: every PoP that it touches or names stands where it assumes."""
    for step in playbook.steps.get(key, ()):
        names = (step.touched | step.when.keys()) - {key.pop}
        if all(name in pops and pops[name].level == step.when.get(name, 0) for name in names):
            return step
    return None


def _unfit(name: str, pop: PopLoad | None, asking: str, policy: GatePolicy, now: Instant) -> Reason | None:
    """Return why a step may not touch a PoP, if it may not."""
    if pop is None or not reserve.fresh(pop, policy, now):
        return Reason.RECEIVER_UNKNOWN
    if Resource.SESSIONS not in pop.used or any(resource not in pop.used for resource in pop.capacity):
        return Reason.RECEIVER_UNKNOWN
    if name != asking and pop.settling:
        return Reason.NEIGHBOR_SETTLING
    return None


def predict(step: Step, pops: Mapping[str, PopLoad]) -> Mapping[str, _Predicted]:
    """Return every touched PoP as a pessimist expects it after the step."""
    leaving: dict[str, float] = {}
    arriving: dict[str | None, list[Flow]] = {}
    for flow in step.flows:
        leaving[flow.source] = leaving.get(flow.source, 0.0) + flow.share
        arriving.setdefault(flow.target, []).append(flow)
    found = {}
    for name in step.touched:
        pop = pops[name]
        gone = leaving.get(name, 0.0)
        kept = 0.0 if gone >= _ALL else 1.0 - gone * max(0.0, 1.0 - step.error)
        used = {resource: amount * kept for resource, amount in pop.used.items()}
        peak = {resource: max(amount, pop.used.get(resource, 0.0)) * kept for resource, amount in pop.peak.items()}
        gained = 0.0
        for flow in arriving.get(name, ()):
            part = flow.share * (1.0 + step.error)
            more = {resource: part * amount for resource, amount in pops[flow.source].used.items()}
            gained += more[Resource.SESSIONS]
            _add(used, more)
            _add(peak, more)
        found[name] = _Predicted(used, peak, gained)
    return found


def _add(amounts: dict[Resource, float], more: Amounts) -> None:
    for resource in amounts:
        if resource in more:
            amounts[resource] += more[resource]


def excess(used: Amounts, capacity: Amounts, saturation: float) -> float:
    """Return how many sessions must go before the tightest resource fits under the saturation."""
    part = 0.0
    for resource, limit in capacity.items():
        amount = used.get(resource, 0.0)
        if amount > saturation * limit:
            part = max(part, 1.0 - saturation * limit / amount)
    return part * used[Resource.SESSIONS]


def _weigh(case: Case, step: Step, predicted: Mapping[str, _Predicted], policy: GatePolicy, now: Instant) -> Verdict:
    fleet, book = case.fleet, case.playbook
    if fleet is None or book is None:
        raise ValueError("judge() looks at both first")
    pops = fleet.pops
    own = excess(pops[case.pop].used, pops[case.pop].capacity, policy.saturation)
    phi_before, phi_after = _potential(step, predicted, pops, policy)
    sheds = step.key.after > step.key.before
    reason, about = _harm(step, predicted, pops, policy, book.reconnect_window_s)
    if reason is None and sheds:
        reason = _without_gain(phi_before - phi_after, own, policy)
    elif reason is None and phi_after > phi_before:
        reason = Reason.NO_GAIN
    if reason is None and sheds and case.ladder[step.key.after].withdrawn:
        reason = None if reserve.stays(case.pop, fleet, policy, now) else Reason.RESERVE
    return Verdict(
        accepted=reason is None,
        reason=reason or (Reason.SHED_LOAD if sheds else Reason.RECOVERED),
        about=about,
        phi_before=phi_before,
        phi_after=phi_after,
        expected=_expectations(step, pops, predicted),
    )


def _potential(
    step: Step, predicted: Mapping[str, _Predicted], pops: Mapping[str, PopLoad], policy: GatePolicy
) -> tuple[float, float]:
    """Return Phi of the PoPs that a step touches, before and after it."""
    phi_before = sum(excess(pops[name].used, pops[name].capacity, policy.saturation) for name in predicted)
    unreached = sum(
        flow.share * (1.0 + step.error) * pops[flow.source].used[Resource.SESSIONS]
        for flow in step.flows
        if flow.target is None
    )
    over = (excess(after.used, pops[name].capacity, policy.saturation) for name, after in predicted.items())
    return phi_before, unreached + sum(over)


def _expectations(
    step: Step, pops: Mapping[str, PopLoad], predicted: Mapping[str, _Predicted]
) -> tuple[Expectation, ...]:
    """Return what is expected of every touched PoP, the one that steps first."""
    order = sorted(predicted, key=lambda name: (name != step.key.pop, name))
    return tuple(
        Expectation(
            pop=name,
            sessions_before=pops[name].used[Resource.SESSIONS],
            sessions_after=predicted[name].used[Resource.SESSIONS],
        )
        for name in order
    )


def _without_gain(gain: float, own_excess: float, policy: GatePolicy) -> Reason | None:
    wanted = max(policy.minimum_gain * own_excess, policy.minimum_gain_sessions)
    return None if gain >= wanted else Reason.NO_GAIN


def _harm(
    step: Step,
    predicted: Mapping[str, _Predicted],
    pops: Mapping[str, PopLoad],
    policy: GatePolicy,
    reconnect_window_s: float,
) -> tuple[Reason | None, str]:
    """Return whom the step would harm, and how; nothing and nobody if it harms no one."""
    moved = sum(flow.share * pops[flow.source].used[Resource.SESSIONS] for flow in step.flows)
    if moved > policy.moved_sessions_max:
        return Reason.MOVES_TOO_MUCH, ""
    for name, after in sorted(predicted.items()):
        if not after.gained_sessions:
            continue
        pop = pops[name]
        if not pop.announcing and name != step.key.pop:
            # The row says that load lands where nothing is announced: it is wrong.
            return Reason.NO_PLAYBOOK_STEP, name
        restored = name == step.key.pop
        bound = min(policy.watermark, policy.restore_below) if restored else policy.watermark
        if fullness(after.peak, pop.capacity)[0] > bound:
            return (Reason.NOT_COOL_ENOUGH if restored else Reason.NO_ROOM), name
        if _storm(after, pop, reconnect_window_s):
            return Reason.HANDSHAKE_STORM, name
    return None, ""


def _storm(after: _Predicted, pop: PopLoad, reconnect_window_s: float) -> bool:
    limit = pop.capacity.get(Resource.HANDSHAKES)
    if limit is None:
        return False
    return after.used[Resource.HANDSHAKES] + after.gained_sessions / reconnect_window_s > limit
