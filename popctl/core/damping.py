"""Flap damping seen from the other side: what our own changes cost us at routers that damp flaps.

A router that runs route-flap damping (RFC 2439) adds a penalty for each change of a route, lets it decay with a
half-life, and hides the route while the penalty is above its suppress threshold: up to an hour during which a PoP is
not there. RFC 7196 advises operators to raise that threshold to 6000; the defaults of vendors are 2000 and 3000. So the
modelled penalty of everything that is done for load stays below 1500. What health or an operator wants is charged, but
never refused: a dead PoP that stays announced is worse than one that is hidden.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

from popctl.model.damping import Figures as Figures  # noqa: PLC0414 - marks the re-export
from popctl.model.damping import Ledger as Ledger  # noqa: PLC0414 - same
from popctl.model.damping import Penalty as Penalty  # noqa: PLC0414 - same
from popctl.model.instant import Instant
from popctl.model.pop import Announce
from popctl.model.route import RouteKey, RouteTable

NONE = Penalty()


def value(penalty: Penalty, now: Instant, figures: Figures) -> float:
    """Return what is left of a penalty."""
    return float(penalty.value * 0.5 ** (max(now - penalty.at, 0.0) / figures.half_life_s))


def charge(penalty: Penalty, amount: float, now: Instant, figures: Figures) -> Penalty:
    """Return the penalty after one more change."""
    if not amount:
        return penalty
    return Penalty(min(value(penalty, now, figures) + amount, figures.ceiling), now)


def cost(before: Announce, after: Announce, figures: Figures) -> float:
    """Return what a change of the rung costs at one neighbour."""
    if before is after:
        return 0.0
    if after is Announce.WITHDRAWN:
        return figures.withdraw
    return figures.announce if before is Announce.WITHDRAWN else figures.attributes


def allowed_from(penalty: Penalty, amount: float, now: Instant, figures: Figures) -> Instant:
    """Return when a change of this cost keeps the penalty below the limit: `now` if it does already, maybe `NEVER`."""
    left = figures.limit - amount
    worth = value(penalty, now, figures)
    if not amount or worth < left:
        return now
    if left <= 0:
        return math.inf
    # One part in 10^9 more, so that rounding cannot leave the penalty exactly at the limit.
    return now + figures.half_life_s * math.log2(worth / left) * (1 + 1e-9) + 1e-6


def charge_routes(ledger: Ledger, before: RouteTable, after: RouteTable, now: Instant, figures: Figures) -> Ledger:
    """Charge every difference of two tables, and forget what has decayed to nothing."""
    charged = {key: penalty for key, penalty in ledger.items() if value(penalty, now, figures) >= 1.0}
    for key in before.keys() | after.keys():
        if before.get(key) == after.get(key):
            continue
        amount = figures.withdraw if key not in after else figures.attributes if key in before else figures.announce
        charged[key] = charge(charged.get(key, NONE), amount, now, figures)
    return charged


def worst(ledger: Ledger, asn_of: Mapping[RouteKey, int], now: Instant, figures: Figures) -> Mapping[int, Penalty]:
    """Return the worst penalty per upstream, by AS number: the routes of `asn_of` are what one service tells it."""
    found: dict[int, Penalty] = {}
    for key, asn in asn_of.items():
        penalty = ledger.get(key, NONE)
        if asn not in found or value(penalty, now, figures) > value(found[asn], now, figures):
            found[asn] = penalty
    return found
