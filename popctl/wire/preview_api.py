"""What `GET /v1/preview/withdraw/{service}` answers: what would follow if the order were given now."""

from __future__ import annotations

from dataclasses import dataclass

from popctl.wire.load_api import LandingStatus


@dataclass(frozen=True, slots=True, kw_only=True)
class ServicePreview:
    """One service."""

    name: str
    announce: str
    """Where it stands now."""
    healthy: int
    sessions: float | None
    """Live ones, as the meters tell; null: some backend does not."""
    pops_left: int | None
    """Others that would go on serving; null: no fleet."""
    verdict: str
    """A `Reason`: `single-pop`, `permitted`, `not-announced`, or what the guard would hold it for."""
    held: bool
    """Without force it would be held at the lowest preference."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WithdrawPreview:
    """All services that the order names."""

    services: tuple[ServicePreview, ...]
    landing: LandingStatus | None = None
    """Where the load of the whole PoP would land; or why that is not known; null: no fleet, or load steers
    other services."""
