"""Where all that a PoP carries would land if it were withdrawn: the what-if of an operator's order. Decides nothing."""

from __future__ import annotations

from dataclasses import dataclass, replace

from popctl.core import gate
from popctl.core.load import tightness
from popctl.model.capacity import GatePolicy
from popctl.model.instant import Instant
from popctl.model.load import PopLoad, Resource
from popctl.model.playbook import StepKey
from popctl.model.reason import Reason


@dataclass(frozen=True, slots=True, kw_only=True)
class Receiver:
    """One other PoP whose load would change."""

    pop: str
    sessions_before: float
    sessions_after: float
    """As a pessimist expects it: with the error band of the playbook's rows."""
    full_after: float
    """Peak by capacity of its tightest resource; 1.0 is full."""
    over: bool
    """Past the watermark that no step for load may take it to."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Landing:
    """What the playbook says of the whole way down, one step after another."""

    receivers: tuple[Receiver, ...]
    unreached: float
    """Sessions that would reach no PoP."""


def landing(case: gate.Case, level: int, policy: GatePolicy, now: Instant) -> Landing | Reason:
    """Return where the load goes when the PoP leaves from `level`, or why that cannot be told."""
    reason = gate.blind(case, policy, now)
    if reason is not None or case.playbook is None or case.fleet is None:
        return reason or Reason.NO_PLAYBOOK
    if not case.ladder[-1].withdrawn:
        return Reason.NO_PLAYBOOK_STEP
    pops = dict(case.fleet.pops)
    unreached = 0.0
    for before in range(level, len(case.ladder) - 1):
        step = gate.row(case.playbook, StepKey(case.pop, before, before + 1), pops)
        if step is None:
            return Reason.NO_PLAYBOOK_STEP
        if any(name not in pops or Resource.SESSIONS not in pops[name].used for name in step.touched):
            return Reason.RECEIVER_UNKNOWN
        for flow in step.flows:
            if flow.target is None:
                unreached += flow.share * pops[flow.source].used[Resource.SESSIONS]
        for name, after in gate.predict(step, pops).items():
            pops[name] = replace(pops[name], used=after.used, peak=after.peak)
    changed = sorted(name for name, after in pops.items() if name != case.pop and after is not case.fleet.pops[name])
    return Landing(
        receivers=tuple(_receiver(name, case.fleet.pops[name], pops[name], policy) for name in changed),
        unreached=unreached,
    )


def _receiver(name: str, before: PopLoad, after: PopLoad, policy: GatePolicy) -> Receiver:
    full = tightness(after.peak, after.capacity, {}).at_least
    return Receiver(
        pop=name,
        sessions_before=before.used[Resource.SESSIONS],
        sessions_after=after.used[Resource.SESSIONS],
        full_after=full,
        over=full > policy.watermark,
    )
