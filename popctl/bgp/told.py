"""When two routes are the same to a peer, although one of them leaves to ExaBGP what the other spells out."""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import Enum
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from popctl.model.route import Route

_DEFAULT_LOCAL_PREFERENCE = 100
"""What ExaBGP puts into an iBGP UPDATE that names none (RFC 4271 section 5.1.5 requires the attribute)."""


class Unknown(Enum):
    """The session began before anybody watched it: the peer may have been told this prefix, or not."""

    UNKNOWN = "unknown"


UNKNOWN = Unknown.UNKNOWN
Told: TypeAlias = "Route | Unknown | None"
"""What a peer was told last about a prefix; None: nothing, or that it is gone."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Link:
    """What decides which defaults ExaBGP fills in."""

    local_asn: int
    peer_asn: int

    def on_wire(self, route: Route) -> Route:
        """Return `route` as the peer hears it. Doing it twice changes nothing."""
        if self.local_asn == self.peer_asn:
            if route.local_preference is None:
                return replace(route, local_preference=_DEFAULT_LOCAL_PREFERENCE)
            return route
        return replace(route, as_path=route.as_path or (self.local_asn,), local_preference=None)

    def same(self, one: Told, other: Told) -> bool:
        """Whether a peer could not tell the two apart. Nothing is the same as unknown."""
        if isinstance(one, Unknown) or isinstance(other, Unknown):
            return False
        if one is None or other is None:
            return one is other
        return self.on_wire(one) == self.on_wire(other)
