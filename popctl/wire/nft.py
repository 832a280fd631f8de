"""The balancer's rule set: whole wanted tables in, nftables tables out. `popctl.core.steer` is the same in Python.

A packet's way: prerouting at -300, after defragmentation (-400), before connection tracking (-200). The VIP picks
the service's chain; port and SPIs pick the backend; the mark ends as `base | reason | slot`, by which `ip rule` routes.
Health and drain are two sets, `alive` and `draining`: one element each per change, whatever the number of rows.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from hashlib import blake2s
from typing import TYPE_CHECKING

from popctl.model.reason import Reason
from popctl.wire.nft_service import drop_counter, service_chains, service_sets
from popctl.wire.nft_text import Chain, NftSet, Rule, Table

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from popctl.model.balancer import BalancedService, Forward, Marks, Tables
    from popctl.wire.nft_text import Elements

TABLE = "popctl"
STEER_PRIORITY = -300
COPY_PRIORITY = -299
REASON_CODES = {
    Reason.NEW_SA: 1,
    Reason.AFFINITY: 2,
    Reason.IKE_LABEL: 3,
    Reason.ESP_SLICE: 4,
    Reason.SOURCE_HASH: 5,
    Reason.ICMP_QUOTE: 6,
    Reason.REPLICATED: 7,
}
"""Second byte of a mark."""
TALLIED = tuple(reason for reason in REASON_CODES if reason is not Reason.REPLICATED)
"""Counted per backend where they are steered; copies are counted where they are made."""
DROPS = (
    Reason.STRAY,
    Reason.UNLABELLED,
    Reason.KEEPALIVE,
    Reason.MALFORMED,
    Reason.UNPROTECTED_L2TP,
    Reason.NOT_SERVED,
    Reason.NO_BACKEND,
)
"""Counted per service."""
ALL_SLOT = 255
SLOT_MASK = 0xFF
ROUTE_MASK = 0xFFFF00FF
"""What `ip rule` compares: everything of a mark but the reason."""


def mark(marks: Marks, reason: Reason, backend: int) -> int:
    """Return the whole mark of a packet for `backend`."""
    return marks.base | REASON_CODES[reason] << 8 | (backend + 1)


def tally_counter(reason: Reason, backend: int) -> str:
    """Return the name of the counter of one backend and reason."""
    return f"to.{backend}.{reason}"


def static_tables(tables: Tables, rows: Mapping[str, Callable[[], Elements]]) -> tuple[Table, ...]:
    """Return everything but health: rule set of all services, and the tables that copy ICMP errors.

    `rows` gives each service's row map (row -> packed slots), by service name.
    """
    counters = [tally_counter(reason, b) for b in sorted(tables.backends) for reason in TALLIED]
    sets: list[NftSet] = [
        NftSet(name="tally", key="type mark", value="counter", elements=partial(_tally, tables)),
    ]
    chains = [_entry(tables), *_shared_chains(tables.marks)]
    for family in _families(tables):
        vips = _vips(tables, family)
        kind = "ipv4_addr" if family == 4 else "ipv6_addr"  # noqa: PLR2004 - IP version
        targets: Elements = {vip: f"goto {name}" for vip, name in vips.items()}
        sets.append(NftSet(name=f"vips{family}", key=f"type {kind}", value="verdict", elements=partial(dict, targets)))
        sets.append(NftSet(name=f"own{family}", key=f"type {kind}", elements=partial(dict.fromkeys, vips)))
    for service in tables.services:
        sets += service_sets(service, rows_name(service), rows[service.name])
        chains += service_chains(service, rows_name(service))
        counters += [drop_counter(service, reason) for reason in DROPS]
    main = Table(family="inet", name=TABLE, counters=tuple(counters), sets=tuple(sets), chains=tuple(chains))
    return (main, *(_copy_table(tables, family) for family in (4, 6)))


def health_sets(tables: Tables, rescue: Mapping[str, Elements]) -> tuple[NftSet, ...]:
    """Return the sets that health and drain change. `rescue`: row -> slot by service, for rows that ran out."""
    return (
        NftSet(name="alive", key="type mark", elements=partial(_slots, tables.alive)),
        NftSet(name="draining", key="type mark", elements=partial(_slots, tables.draining)),
        *(
            NftSet(
                name=f"{s.name}.rescue", key="type mark", value="mark", elements=partial(dict, rescue.get(s.name, {}))
            )
            for s in tables.services
        ),
    )


def with_health(static: tuple[Table, ...], health: tuple[NftSet, ...]) -> tuple[Table, ...]:
    """Return the whole wanted rule set."""
    main, *copies = static
    return (replace(main, sets=(*health, *main.sets)), *copies)


def rows_name(service: BalancedService) -> str:
    """Return the name of a service's row map: it holds the digest, so that equal rows are never loaded twice."""
    digest = blake2s(service.rows.order, digest_size=6, person=service.rows.width.to_bytes(2, "big")).hexdigest()
    return f"{service.name}.rows.{digest}"


def row_maps(tables: Tables) -> frozenset[str]:
    """Return the names of all row maps: by far the most elements."""
    return frozenset(rows_name(service) for service in tables.services)


def _slots(backends: frozenset[int]) -> Elements:
    return {backend + 1: None for backend in sorted(backends)}


def _tally(tables: Tables) -> Elements:
    return {
        mark(tables.marks, reason, backend): tally_counter(reason, backend)
        for backend in sorted(tables.backends)
        for reason in TALLIED
    }


def _families(tables: Tables) -> list[int]:
    return sorted({vip.version for service in tables.services for vip in service.vips})


def _vips(tables: Tables, family: int) -> dict[str, str]:
    return {
        str(vip): f"{service.name}.v{family}"
        for service in tables.services
        for vip in service.vips
        if vip.version == family
    }


def _entry(tables: Tables) -> Chain:
    rules = []
    for family in _families(tables):
        ip = "ip" if family == 4 else "ip6"  # noqa: PLR2004 - IP version
        rules.append(Rule(f"vip{family}", f"{ip} daddr vmap @vips{family}"))
        # Replies that pass here (no direct return) must not make conntrack entries either.
        rules.append(Rule(f"reply{family}", f"{ip} saddr @own{family} notrack accept"))
    return Chain("prerouting", tuple(rules), hook=("prerouting", STEER_PRIORITY))


def _shared_chains(marks: Marks) -> tuple[Chain, ...]:
    stages = []
    for rank in range(4):
        usable = "meta mark & 0xff == @alive meta mark & 0xff != @draining"
        stages.append(Rule(f"rank-{rank}", f"{usable} meta mark set meta mark & 0xff return"))
        stages.append(Rule(f"next-{rank}", "meta mark set meta mark >> 8"))
    ends = [
        Chain(
            f"to.{reason}",
            (
                Rule(str(reason), f"meta mark set meta mark | {marks.base | code << 8:#x}"),
                Rule("tally", "counter name meta mark map @tally"),
                Rule("forward", "accept"),
            ),
        )
        for reason, code in ((r, REASON_CODES[r]) for r in TALLIED)
    ]
    everyone = marks.base | REASON_CODES[Reason.REPLICATED] << 8 | ALL_SLOT
    return (
        # Never reached: a `ct` expression anywhere in the table is what makes the kernel reassemble fragments at -400.
        Chain("reassembly", (Rule("reassembly", "ct state untracked return"),)),
        Chain("pick", tuple(stages)),
        *ends,
        Chain("to.replicated", (Rule("replicated", f"meta mark set {everyone:#x} accept"),)),
    )


def _copy_table(tables: Tables, family: int) -> Table:
    """Copy what is marked for everyone to every backend; `dup` exists only in the ip and ip6 families."""
    nft_family = "ip" if family == 4 else "ip6"  # noqa: PLR2004 - IP version
    marks = tables.marks
    everyone = marks.base | REASON_CODES[Reason.REPLICATED] << 8 | ALL_SLOT
    gateways = [(b, _gateway(f, family)) for b, f in sorted(tables.backends.items())]
    copies = [Rule(f"copy-{b}", f'counter name "to.{b}.replicated" dup to {gw}') for b, gw in gateways if gw]
    limit = f"meta mark {everyone:#x} limit rate {marks.replicate_per_s}/second goto copies"
    return Table(
        family=nft_family,
        name=TABLE,
        counters=(*(f"to.{b}.replicated" for b, gw in gateways if gw), "replicated.over-limit"),
        sets=(),
        chains=(
            Chain("copies", (*copies, Rule("original", "drop"))),
            Chain(
                "prerouting",
                (
                    Rule("copy", limit),
                    Rule("over-limit", f'meta mark {everyone:#x} counter name "replicated.over-limit" drop'),
                ),
                hook=("prerouting", COPY_PRIORITY),
            ),
        ),
    )


def _gateway(forward: Forward, family: int) -> str | None:
    address = forward.ipv4 if family == 4 else forward.ipv6  # noqa: PLR2004 - IP version
    return str(address) if address else None
