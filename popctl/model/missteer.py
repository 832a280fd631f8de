"""Mis-steers as values: what backends could not use, and where a client's SAs are."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TypeAlias

from popctl.model.instant import Instant


class RefusalKind(StrEnum):
    """Which of a backend's counters.

    A packet that it counts was steered wrong, or is of a client that outlived a restart of the backend.
    """

    IKE = "ike"
    """strongSwan's `invalid-spi`: IKE for an SA that it does not have."""
    ESP = "esp"
    """XfrmInNoStates of /proc/net/xfrm_stat: ESP for an SA that the kernel does not have."""


@dataclass(frozen=True, slots=True, order=True, kw_only=True)
class ClientAt:
    """One client with a child SA, as one backend sees it, from list-sas of VICI."""

    address: str
    port: int
    received: bool
    """It has a child SA that received something."""
    answered: bool
    """It has a child SA that sent something: who holds the L2TP tunnel answers, who does not only ever receives."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """Who last answered a client."""

    backend: int
    at: Instant


Client: TypeAlias = tuple[str, int]
"""Address and port."""


@dataclass(frozen=True, slots=True, kw_only=True)
class History:
    """Which backend answered which client, bounded: a means of alarm, not a state that counts."""

    clients: Mapping[Client, Seen] = field(default_factory=dict)
    suspects: frozenset[tuple[Client, int]] = frozenset()
    """Clients that this backend received from and did not answer, at the last look at it."""
    told: frozenset[Client] = frozenset()


@dataclass(frozen=True, slots=True, order=True, kw_only=True)
class Split:
    """A client to whom one backend never answers, while another one that works did."""

    address: str
    port: int
    before: int
    """Backend."""
    now: int
    """Backend."""
