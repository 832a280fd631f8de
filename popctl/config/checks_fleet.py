"""What must hold for the fleet and for meters: times that fit together, an address, TLS where it is promised."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Final

from popctl.config.checks_routing import problem
from popctl.config.errors import Problem

if TYPE_CHECKING:
    from popctl.config.shape import Parts

_LEASE_EXTRA_S: Final = 2.0
"""etcd that has come back begins every lease anew, with an election time-out (1 s) on top, and looks twice a second for
those that have ended."""


def transport(parts: Parts) -> Iterator[Problem]:
    """All members are reached with TLS, or none is; certificates are there for those that are."""
    if parts.fleet is None:
        return
    for index, url in enumerate(parts.fleet.etcd):
        secure = url.startswith("https://")
        if secure and parts.fleet.tls is None and "fleet" not in parts.broken:
            yield problem(("fleet", "etcd", index), url, "needs certificates", "add fleet.tls")
        if not secure and parts.fleet.tls is not None:
            yield problem(("fleet", "etcd", index), url, "would be asked without TLS", "write https://, or drop tls")


def times(parts: Parts) -> Iterator[Problem]:
    """The view cannot go stale, nor the lease end, between two writes of a PoP that is well.

    Nor is a PoP believed after an outage of the store that has not spoken since.
    """
    if parts.fleet is None:
        return
    fleet = parts.fleet
    if fleet.floor.view_age_bound <= fleet.refresh:
        what = f"is not above fleet.refresh, {fleet.refresh:g} s: every view would be too old now and then"
        yield problem(("fleet", "floor", "view_age_bound"), f"{fleet.floor.view_age_bound:g} s", what, "raise it")
    if fleet.quiet > fleet.refresh:
        yield problem(
            ("fleet", "quiet"), f"{fleet.quiet:g} s", f"is above fleet.refresh, {fleet.refresh:g} s", "lower it"
        )
    if fleet.lease <= 2 * fleet.request:
        what = f"is not above twice fleet.request, {fleet.request:g} s: one lost answer would end it"
        yield problem(("fleet", "lease"), f"{fleet.lease:g} s", what, "raise it")
    if fleet.floor.settle < fleet.lease + _LEASE_EXTRA_S:
        what = f"is under fleet.lease, {fleet.lease:g} s, and {_LEASE_EXTRA_S:g} s: who is still away would be believed"
        yield problem(("fleet", "floor", "settle"), f"{fleet.floor.settle:g} s", what, "raise it")


def meters(parts: Parts) -> Iterator[Problem]:
    """A meter has one address, and every file that mutual TLS needs."""
    for part in parts.backends:
        meter = part.value.meter
        if meter is None:
            continue
        path = (*part.path, "meter")
        if (meter.socket is None) == (meter.host is None):
            what = "needs either `socket` or `host`"
            yield problem(path, "both" if meter.socket else "neither", what, "write one of the two")
        elif meter.host is not None:
            for key in ("port", "ca", "certificate", "key"):
                if getattr(meter, key) is None:
                    yield problem((*path, key), "nothing", "is required with `host`", "add it: only TLS is spoken")


CHECKS = (transport, times, meters)
