"""How many sessions a PoP has room for: where its tightest resource ends."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from topology.demand import Profile
    from topology.flat import Longs
    from topology.fleet import Fleet


def rooms(fleet: Fleet, profile: Profile) -> Longs:
    """Return how many settled sessions every PoP can serve with all its backends.

    Each takes a session, its share of the bits, and a handshake from time to time.
    """
    return np.array(
        [
            min(
                pop.capacity.sessions,
                pop.capacity.bit_s // profile.bit_s_per_session,
                pop.capacity.handshakes_s * profile.handshake_interval_s,
            )
            for pop in fleet.pops
        ],
        dtype=np.int64,
    )
