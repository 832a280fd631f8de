"""The truth about mis-steers: what backends say they could not use, and the form that no counter of theirs shows."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusals:
    """Counters of one backend since it started."""

    invalid_ike_spi: int
    """strongSwan's `invalid-spi`: IKE for an SA it does not have."""
    no_esp_state: int
    """XfrmInNoStates of /proc/net/xfrm_stat: ESP for an SA it does not have."""


@dataclass(frozen=True, slots=True, order=True, kw_only=True)
class ClientAt:
    """One client as a backend sees it, from list-sas of VICI."""

    backend: int
    address: str
    port: int
    answered: bool
    """It has a child SA that sent something: who holds the L2TP tunnel answers, who does not only ever receives."""


def mis_steers(before: Mapping[int, Refusals], now: Mapping[int, Refusals]) -> dict[int, int]:
    """Return new refusals by backend; a backend that restarted counts from zero, one never seen counts nothing."""
    found = {}
    for backend, current in now.items():
        past = before.get(backend)
        if past is not None:
            found[backend] = _grown(past.invalid_ike_spi, current.invalid_ike_spi) + _grown(
                past.no_esp_state, current.no_esp_state
            )
    return found


def split_clients(seen: Iterable[ClientAt]) -> tuple[tuple[str, int, tuple[int, ...]], ...]:
    """Return clients with a quick mode on a backend that never answered them while another one did.

    That is the silent mis-steer of an IKEv1 re-authentication: no counter moves, data stop at the next quick mode. A
    client that connects anew looks the same until it got its first answer, so one look is no proof; two are.
    """
    by_client: dict[tuple[str, int], dict[int, bool]] = defaultdict(dict)
    for one in seen:
        known = by_client[one.address, one.port]
        known[one.backend] = known.get(one.backend, False) or one.answered
    return tuple(
        (address, port, tuple(sorted(backends)))
        for (address, port), backends in sorted(by_client.items())
        if len(backends) > 1 and any(backends.values()) and not all(backends.values())
    )


def _grown(past: int, current: int) -> int:
    return current - past if current >= past else current
