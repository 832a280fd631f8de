"""From what is wanted to balancer tables, and what makes wanted tables impossible."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise

from popctl.model.balancer import Affinity, BalancedService, HashKey, Problem, Tables


def problems(tables: Tables) -> tuple[Problem, ...]:
    """Say why these tables cannot be put in force; empty when they can."""
    found = [p for service in tables.services for p in _service_problems(service, tables)]
    vips = Counter(vip for service in tables.services for vip in service.vips)
    found += [
        Problem(key="services", text=f"VIP {vip} is in more than one service", remedy="leave it in one of them")
        for vip, times in vips.items()
        if times > 1
    ]
    return tuple(found)


def warnings(service: BalancedService) -> tuple[Problem, ...]:
    """Say what the chosen hash key breaks."""
    key = f"services.{service.name}.balancer.key"
    match service.key:
        case HashKey.SPI:
            return ()
        case HashKey.SOURCE_IP:
            text = "clients behind one CGNAT address all meet on one backend, and one that changes its address moves"
        case HashKey.SOURCE_IP_PORT:
            text = "unlabelled IKE breaks on its move from UDP 500 to 4500 and on every NAT rebind"
        case HashKey.FIVE_TUPLE:
            text = "unlabelled ESP goes to another backend than its IKE, and every NAT rebind breaks"
    return (Problem(key=key, text=text, remedy="label the backends and use spi"),)


def differences(ours: Tables, theirs: Tables) -> tuple[Problem, ...]:
    """Say where two balancers of one PoP would answer differently; empty when a packet may meet either."""
    found = []
    mine, other = ({service.name: service for service in tables.services} for tables in (ours, theirs))
    for name in sorted(mine.keys() ^ other.keys()):
        where = "here" if name in mine else "there"
        found.append(Problem(key=f"services.{name}", text=f"is balanced only {where}", remedy=_COPY))
    for name in sorted(mine.keys() & other.keys()):
        a, b = mine[name], other[name]
        # What is drawn from the secret is compared and never shown.
        unequal = [field for field in BalancedService.__slots__ if getattr(a, field) != getattr(b, field)]
        if unequal:
            text = f"differs in {', '.join(sorted(unequal))}"
            if {"rows", "seed"} & set(unequal):
                text += " (rows and seed follow from backends, weights and balancer.secret_file)"
            found.append(Problem(key=f"services.{name}", text=text, remedy=_COPY))
    return tuple(found)


_COPY = "copy one to the other before either is loaded"


def _service_problems(service: BalancedService, tables: Tables) -> list[Problem]:
    at = f"services.{service.name}"
    members = set(service.rows.row(0)) if service.rows.count else set()
    labelled = set(service.labels.ike.values())
    found = []
    if service.key is HashKey.SPI:
        found += [
            Problem(
                key=f"{at}.balancer.key",
                text=f"backend {_name(tables, b)} has no label, so new SAs cannot be spread by SPI",
                remedy="give it an id of the plan, or use source-ip",
            )
            for b in sorted(members - labelled)
        ]
    for backend in sorted(members | labelled):
        forward = tables.backends.get(backend)
        for version in sorted({vip.version for vip in service.vips}):
            gateway = forward and (forward.ipv4 if version == 4 else forward.ipv6)  # noqa: PLR2004 - IP version
            if gateway is None:
                found.append(
                    Problem(
                        key=f"backends.{_name(tables, backend)}",
                        text=f"has no IPv{version} address, but {service.name} has an IPv{version} VIP",
                        remedy="set its address on the balancer's link",
                    )
                )
    slices = sorted(service.labels.esp)
    found += _affinity_problems(f"{at}.balancer.affinity", service.affinity)
    found += [
        Problem(key=f"{at}.spi", text=f"ESP slices {a} and {b} overlap", remedy="let the SPI plan give them out")
        for a, b in pairwise(slices)
        if b.first <= a.last
    ]
    return found


def _affinity_problems(at: str, affinity: Affinity | None) -> list[Problem]:
    """Say what the kernel would take for no limit: clients would be remembered for ever, or without number."""
    if affinity is None:
        return []
    found = []
    if affinity.timeout_s < 1 or affinity.timeout_s % 1:
        text = f"a memory of {affinity.timeout_s:g} s: the kernel counts whole seconds, and takes 0 for ever"
        found.append(Problem(key=f"{at}.timeout_s", text=text, remedy="use whole seconds, 1 or more"))
    if affinity.size < 1 or affinity.size % 1:
        text = f"room for {affinity.size:g} clients"
        found.append(Problem(key=f"{at}.size", text=text, remedy="use a whole number, 1 or more"))
    return found


def _name(tables: Tables, backend: int) -> str:
    forward = tables.backends.get(backend)
    return forward.name if forward else str(backend)
