"""The playbook: every single move of every PoP, answered in advance, for the live what-if gate to read.

JSON. `rows` are what the model says will happen if one PoP makes one move while all others stay as in `baseline`; a
measured outcome of a move replaces its row. Loads are sessions; `after` lists only the PoPs that change.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from topology.catchment import Source

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from topology.whatif import Answer, Study

VERSION: Final = 1
_PREPENDS: Final = (1, 2, 3)


@dataclass(frozen=True, slots=True, kw_only=True)
class Move:
    """One step on the announce ladder of one PoP."""

    pop: str
    kind: str
    """`withdraw` or `prepend`."""
    upstream: int | None = None
    """AS number; None is all of the PoP's upstreams."""
    times: int = 0


def count_moves(study: Study) -> int:
    """Return how many answers `moves` will give."""
    total = 0
    for pop in range(len(study.fleet.pops)):
        upstreams = len(_upstreams(study, pop))
        total += len(_PREPENDS) * (upstreams if upstreams > 1 else 0) + (len(_PREPENDS) + 1) * bool(upstreams)
    return total


def _upstreams(study: Study, pop: int) -> list[int]:
    """Return the upstreams that a PoP announces to in the baseline."""
    pairs = zip(study.fleet.sessions, study.plan, strict=True)
    return sorted({session.upstream for session, told in pairs if session.pop == pop and told is not None})


def moves(study: Study) -> Iterator[tuple[Move, Answer]]:
    """Answer every single move, mildest first within a PoP."""
    for pop, site in enumerate(study.fleet.pops):
        upstreams = _upstreams(study, pop)
        for times in _PREPENDS:
            for upstream in upstreams if len(upstreams) > 1 else ():
                move = Move(pop=site.name, kind="prepend", upstream=upstream, times=times)
                yield move, study.prepend(pop, times, upstream=upstream)
        for times in _PREPENDS if upstreams else ():
            yield Move(pop=site.name, kind="prepend", times=times), study.prepend(pop, times)
        if upstreams:
            yield Move(pop=site.name, kind="withdraw"), study.withdraw([pop])


def baseline(study: Study) -> dict[str, Any]:
    """Return what every PoP carries while all of them do as planned."""
    return {
        "unreached": study.unreached,
        "pops": {
            site.name: {
                "sessions": load.sessions,
                "certain": load.certain,
                "bit_s": load.bit_s,
                "handshakes_s": load.handshakes_s,
                "capacity": {
                    "sessions": site.capacity.sessions,
                    "bit_s": site.capacity.bit_s,
                    "handshakes_s": site.capacity.handshakes_s,
                },
            }
            for site, load in zip(study.fleet.pops, study.load, strict=True)
        },
    }


def playbook(study: Study, answers: Iterable[tuple[Move, Answer]]) -> dict[str, Any]:
    """Return the whole playbook, ready for JSON; `answers` are those of `moves`."""
    return {
        "version": VERSION,
        "limit": study.limit,
        "reconnect_window_s": study.profile.reconnect_window_s,
        "baseline": baseline(study),
        "rows": [_row(move, answer) for move, answer in answers],
    }


def _row(move: Move, answer: Answer) -> dict[str, Any]:
    return {
        "pop": move.pop,
        "kind": move.kind,
        "upstream": move.upstream,
        "times": move.times,
        "source": str(Source.SIMULATED),
        "safe": answer.safe,
        "findings": [{"danger": str(one.danger), "pop": one.pop} for one in answer.findings],
        "moved": answer.moved,
        "unreached": answer.unreached_after,
        "after": {
            change.pop: {"sessions": change.after.sessions, "handshakes_s": change.handshakes_s}
            for change in answer.pops
            if change.after != change.before or change.moved_in
        },
    }
