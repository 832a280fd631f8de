"""Mis-steers as values: what backends could not use, and where a client's SAs are."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

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
    """One client as a backend sees it, from list-sas of VICI."""

    backend: int
    address: str
    port: int
    esp_in: bool
    """It has a child SA that received something."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """Where a client's data was last received."""

    backend: int
    at: Instant


@dataclass(frozen=True, slots=True, kw_only=True)
class History:
    """Which backend received data of which client, bounded: it is a means of alarm, not a state that counts."""

    clients: Mapping[tuple[str, int], Seen] = field(default_factory=dict)
    split: frozenset[tuple[str, int]] = frozenset()
    """Told already."""


@dataclass(frozen=True, slots=True, order=True, kw_only=True)
class Split:
    """A client whose SAs came up on a backend that has no history of it, while another one that works has."""

    address: str
    port: int
    before: int
    """Backend."""
    now: int
    """Backend."""
