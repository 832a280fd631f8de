"""The order of moves: what to do so that the world becomes what is desired. Does nothing itself."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

from popctl.model.desired import Actual, Desired
from popctl.model.route import RouteTable


@dataclass(frozen=True, slots=True)
class SetRoutes:
    """Hand the whole table to the speaker."""

    routes: RouteTable


Step: TypeAlias = SetRoutes


def plan(desired: Desired, actual: Actual, ordered: RouteTable | None) -> tuple[Step, ...]:
    """Return the steps, in order. `ordered` is the table the speaker was last given, None before the first.

    Before the inherited routes were read nothing moves: an empty table would withdraw what a restart must keep.
    A table that was ordered once is not ordered again; the speaker itself retries until it is proven.
    """
    if not actual.inherited and ordered is None:
        return ()
    if ordered is not None and desired.routes == ordered:
        return ()
    return (SetRoutes(desired.routes),)
