"""The load of the fleet, out of what its PoPs published: the input of the what-if gate."""

from __future__ import annotations

from popctl.model.fleet import FleetView
from popctl.model.load import FleetLoad, PopLoad


def fleet_load(fleet: str, view: FleetView) -> FleetLoad:
    """Return the load of all PoPs that told it; one that did not is absent, and so unknown."""
    known: dict[str, PopLoad] = {}
    silent = []
    for name, member in view.members.items():
        load = member.record.report.load
        if load is None:
            silent.append(name)
        else:
            known[name] = load
    return FleetLoad(fleet=fleet, pops=known, at=view.current_at, silent=frozenset(silent))
