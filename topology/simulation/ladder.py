"""What a PoP tells its upstreams on each level of its ladder, and the ladder of a PoP that nothing is planned for.

Graceful shutdown is the lowest local preference (RFC 8326) besides the prepends, because `popctl.config` keeps those.

The plain ladder: depreferred at one upstream after the other, then withdrawn from one after the other.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from popctl.model.playbook import NORMAL, Level
from popctl.model.pop import Announce
from topology.announce import LocalPref
from topology.keys import MOST_PREPENDS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from topology.announce import Announcement
    from topology.fleet import Session


def plain_ladder(upstreams: Sequence[int]) -> tuple[Level, ...]:
    """Return the ladder of a PoP; `upstreams` in the order in which they are to be turned away."""
    levels = [NORMAL]
    for count in range(1, len(upstreams)):
        some = dict.fromkeys(upstreams[:count], Announce.DEPREFERRED)
        levels.append(Level(name=f"depreferred at {count}", upstreams=some))
    levels.append(Level(name="depreferred", others=Announce.DEPREFERRED))
    for count in range(1, len(upstreams)):
        some = dict.fromkeys(upstreams[:count], Announce.WITHDRAWN)
        levels.append(Level(name=f"withdrawn from {count}", others=Announce.DEPREFERRED, upstreams=some))
    levels.append(Level(name="withdrawn", others=Announce.WITHDRAWN))
    return tuple(levels)


def told(level: Level, sessions: Sequence[Session], prepend: int) -> tuple[Announcement | None, ...]:
    """Return what each of a PoP's sessions carries on a level."""
    return tuple(_told(level.rung(session.upstream), session.announcement, prepend) for session in sessions)


def _told(rung: Announce, normal: Announcement, prepend: int) -> Announcement | None:
    match rung:
        case Announce.WITHDRAWN:
            return None
        case Announce.NORMAL:
            return normal
        case Announce.DEPREFERRED:
            return replace(normal, prepend=min(normal.prepend + prepend, MOST_PREPENDS))
        case Announce.GRACEFUL_SHUTDOWN:
            more = min(normal.prepend + prepend, MOST_PREPENDS)
            return replace(normal, prepend=more, local_pref=LocalPref.BACKUP)
