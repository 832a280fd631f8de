"""The load of the fleet, out of what its PoPs published: the input of the what-if gate."""

from __future__ import annotations

from popctl.model.fleet import FleetView
from popctl.model.load import FleetLoad


def fleet_load(fleet: str, view: FleetView) -> FleetLoad:
    """Return the load of all PoPs that told it; one that did not is absent, and so unknown."""
    known = {name: load for name, member in view.members.items() if (load := member.load) is not None}
    silent = view.members.keys() - known.keys() if len(known) < len(view.members) else ()
    return FleetLoad(fleet=fleet, pops=known, at=view.current_at, silent=frozenset(silent))
