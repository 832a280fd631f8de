"""Path attributes for every state of the announce ladder: what is written, and what follows from it.

Each state starts from the one above it: communities are kept, and the route becomes less attractive by default.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from popctl.config import defaults
from popctl.model.pop import Announce
from popctl.model.route import GRACEFUL_SHUTDOWN, Attributes, Community

if TYPE_CHECKING:
    from popctl.config import schema

STATES = {
    "normal": Announce.NORMAL,
    "depreferred": Announce.DEPREFERRED,
    "graceful_shutdown": Announce.GRACEFUL_SHUTDOWN,
}
"""Keys of `attributes`, mildest first."""


def ladder(neighbor: schema.Neighbor, *, internal: bool) -> dict[Announce, Attributes]:
    """Return the attributes for every state but WITHDRAWN. `internal` is iBGP: LOCAL_PREF instead of prepending."""
    written = neighbor.attributes
    normal = _overlay(Attributes(), written.normal)
    depreferred = _overlay(_less_attractive(normal, internal=internal), written.depreferred)
    shutdown = _overlay(
        Attributes(
            med=depreferred.med,
            prepend=depreferred.prepend,
            local_preference=0 if internal else None,  # what RFC 8326 has the receiver set
            communities=depreferred.communities,
            large_communities=depreferred.large_communities,
        ),
        written.graceful_shutdown,
        always=(GRACEFUL_SHUTDOWN,),
    )
    return {Announce.NORMAL: normal, Announce.DEPREFERRED: depreferred, Announce.GRACEFUL_SHUTDOWN: shutdown}


def _less_attractive(normal: Attributes, *, internal: bool) -> Attributes:
    preference = defaults.IBGP_LOCAL_PREFERENCE if normal.local_preference is None else normal.local_preference
    return Attributes(
        med=min((normal.med or 0) + defaults.DEPREFERRED_MED_STEP, 0xFFFFFFFF),
        prepend=0 if internal else normal.prepend + defaults.DEPREFERRED_PREPEND,
        local_preference=preference // 2 if internal else None,
        communities=normal.communities,
        large_communities=normal.large_communities,
    )


def _overlay(base: Attributes, over: schema.StateAttributes, always: tuple[Community, ...] = ()) -> Attributes:
    communities = base.communities if over.communities is None else over.communities
    large = base.large_communities if over.large_communities is None else over.large_communities
    return Attributes(
        med=base.med if over.med is None else over.med,
        prepend=base.prepend if over.prepend is None else over.prepend,
        local_preference=base.local_preference if over.local_preference is None else over.local_preference,
        communities=tuple(sorted({*communities, *always})),
        large_communities=tuple(sorted({*large})),
    )
