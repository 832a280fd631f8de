"""A picture of PoPs and their catchment shares, before and after a change. Needs matplotlib (`popctl[topology]`)."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from matplotlib.figure import Figure

from topology.picture import save

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from topology.fleet import Fleet
    from topology.whatif import Answer

_LARGEST_CIRCLE = 2400.0
"""Area, in square points, of the circle of a PoP that has all sessions."""
_COLOURS = {"idle": "#9aa0a6", "fine": "#1a73e8", "hot": "#f9ab00", "over": "#d93025"}
_HOT = 0.85


def draw(fleet: Fleet, answer: Answer, path: Path) -> None:
    """Draw two maps, before and after, into a file whose suffix names the format (`.svg`, `.png`)."""
    figure = Figure(figsize=(14, 4.6), layout="constrained")
    before = [(change.before.sessions, change.utilisation_before) for change in answer.pops]
    after = [(change.after.sessions, change.utilisation_after) for change in answer.pops]
    for axes, title, state in zip(figure.subplots(1, 2), ("before", answer.question), (before, after), strict=True):
        axes.set_title(title)
        axes.set_xlim(-180, 180)
        axes.set_ylim(-60, 80)
        axes.set_xlabel("longitude, degrees")
        axes.set_ylabel("latitude, degrees")
        axes.grid(color="#e0e0e0")
        axes.set_axisbelow(True)
        total = max(1, sum(sessions for sessions, _ in state))
        for (x, y), pop, (sessions, utilisation) in zip(places(fleet), fleet.pops, state, strict=True):
            share = sessions / total
            axes.scatter([x], [y], s=[12 + _LARGEST_CIRCLE * share], color=colour(utilisation), alpha=0.7)
            axes.annotate(f"{pop.name} {share:.0%}", (x, y), ha="center", va="center", fontsize=7)
    save(figure, path)


def colour(utilisation: float) -> str:
    """Return the colour of a PoP by the share of its tightest resource."""
    if utilisation == 0:
        return _COLOURS["idle"]
    return _COLOURS["over" if utilisation > 1 else "hot" if utilisation > _HOT else "fine"]


def places(fleet: Fleet) -> Sequence[tuple[float, float]]:
    """Return (longitude, latitude) per PoP; those of a region without places of their own stand in a ring around it."""
    ring: dict[str, int] = {}
    found = []
    for pop in fleet.pops:
        home = pop.place or fleet.regions.get(pop.region)
        x, y = (0.0, 0.0) if home is None else (home.longitude_deg, home.latitude_deg)
        if pop.place is None:
            turn = ring[pop.region] = ring.get(pop.region, -1) + 1
            x, y = x + 14 * math.cos(turn * 2.4), y + 9 * math.sin(turn * 2.4)
        found.append((x, y))
    return found
