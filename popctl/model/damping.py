"""Flap damping as values: figures of routers that damp flaps, and what they keep of us."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple, TypeAlias

from popctl.model.instant import Instant
from popctl.model.route import RouteKey


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """Penalties and decay. Defaults: what vendors have in common (RFC 7196 section 3)."""

    withdraw: float = 1000.0
    attributes: float = 500.0
    announce: float = 0.0
    """Coming back after a withdraw; one vendor charges 1000."""
    half_life_s: float = 900.0
    ceiling: float = 12000.0
    """Where real ledgers stop: a suppress time of an hour at a reuse threshold of 750."""
    limit: float = 1500.0
    """What changes for load must stay below."""


class Penalty(NamedTuple):
    """A ledger's entry: so much at that time, less since."""

    value: float = 0.0
    at: Instant = 0.0


Ledger: TypeAlias = Mapping[RouteKey, Penalty]
"""One entry per prefix and session, as a neighbour keeps it. Absent means no penalty."""
