"""What is written about load -> the values of `popctl.model.capacity`."""

from __future__ import annotations

from dataclasses import replace
from types import MappingProxyType
from typing import TYPE_CHECKING

from popctl.config import defaults
from popctl.model.announce import Announce
from popctl.model.capacity import LoadSettings, Policies
from popctl.model.damping import Figures
from popctl.model.load import Amounts, LoadTiming, Resource
from popctl.model.playbook import DEFAULT_LADDER, Level

if TYPE_CHECKING:
    from collections.abc import Iterable

    from popctl.config import schema_capacity as schema


def amounts(written: schema.Capacity | None) -> Amounts | None:
    """Return what a backend can carry."""
    if written is None:
        return None
    found = {resource: getattr(written, resource.value) for resource in Resource}
    return MappingProxyType({resource: float(amount) for resource, amount in found.items() if amount is not None})


def ladder(written: Iterable[schema.Level] | None) -> tuple[Level, ...]:
    """Return the levels, or the default ones."""
    if written is None:
        return DEFAULT_LADDER
    return tuple(
        Level(
            name=one.name,
            others=Announce(one.others),
            upstreams=MappingProxyType({asn: Announce(rung) for asn, rung in one.upstreams.items()}),
        )
        for one in written
    )


def timing(written: schema.Load | None) -> LoadTiming:
    """Return how samples become a load: the same in a PoP that load does not steer."""
    if written is None:
        return defaults.LOAD_TIMING
    return LoadTiming(
        smoothing_s=written.smoothing,
        peak_half_life_s=written.peak_half_life,
        stale_after_s=written.stale_after,
        # Once in an interval of the meter, which is half of that.
        look_after_s=0.4 * written.stale_after,
    )


def settings(written: schema.Load, services: Iterable[str]) -> LoadSettings:
    """Return the section. `services` are the names of all."""
    return LoadSettings(
        services=frozenset(services if written.services is None else written.services),
        ladder=ladder(written.ladder),
        policies=_policies(written),
        playbook=written.playbook,
    )


def _policies(written: schema.Load) -> Policies:
    gate, wrong, flaps = written.gate, written.verification, written.flap_damping
    most = gate.moved_sessions_max
    return Policies(
        load=replace(
            defaults.LOAD,
            hot=written.hot,
            overloaded=written.overloaded,
            hot_for_s=written.hot_for,
            dwell_s=written.dwell,
            restore_dwells=written.restore_dwells,
            floor=written.floor,
            useful_share=wrong.useful_share,
            surprise=wrong.surprise,
            patience_dwells=wrong.patience_dwells,
            backoff_s=wrong.backoff,
            backoff_max_s=wrong.backoff_max,
        ),
        gate=replace(
            defaults.GATE,
            saturation=gate.saturation,
            watermark=gate.watermark,
            restore_below=gate.restore_below,
            minimum_gain=gate.minimum_gain,
            reserve_ratio=gate.reserve_ratio,
            moved_sessions_max=defaults.GATE.moved_sessions_max if most is None else most,
            view_stale_after_s=gate.view_stale_after,
            fresh_share=gate.fresh_share,
            playbook_max_age_s=written.playbook_max_age,
        ),
        damping=Figures(
            withdraw=flaps.withdraw,
            attributes=flaps.attributes,
            announce=flaps.announce,
            half_life_s=flaps.half_life,
            ceiling=flaps.ceiling,
            limit=flaps.limit,
        ),
    )
