"""The same question asked of BGPy (bgpy-pkg), an object-per-AS simulator: an independent second opinion."""

from __future__ import annotations

import time
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable

    from topology.links import AsLinks


def build(links: AsLinks) -> Any:  # noqa: ANN401 - BGPy is not installed everywhere
    """Return BGPy's AS graph."""
    from bgpy.as_graphs import ASGraph, ASGraphInfo  # noqa: PLC0415 - optional
    from bgpy.as_graphs.base.links import CustomerProviderLink, PeerLink  # noqa: PLC0415

    transit, peering = links.asns[links.transit].tolist(), links.asns[links.peering].tolist()
    linked = {asn for pair in (*transit, *peering) for asn in pair}
    info = ASGraphInfo(
        customer_provider_links=frozenset(
            CustomerProviderLink(customer_asn=customer, provider_asn=provider) for provider, customer in transit
        ),
        peer_links=frozenset(PeerLink(left, right) for left, right in peering),
        unlinked_asns=frozenset(set(links.asns.tolist()) - linked),
    )
    return ASGraph(info, store_customer_cone_size=False)


def propagate(graph: Any, upstreams: Iterable[int]) -> tuple[dict[int, tuple[int, int]], float]:  # noqa: ANN401
    """Announce one prefix at some ASes; return AS -> (where the path ends, path length), and seconds it took."""
    from bgpy.simulation_engine import BGP, Announcement, SimulationEngine  # noqa: PLC0415 - optional

    prefix = "192.0.2.0/24"
    seeds = tuple(Announcement(prefix=prefix, as_path=(asn,), seed_asn=asn) for asn in upstreams)
    scenario = SimpleNamespace(get_policy_cls=lambda _: BGP, announcements=seeds)
    engine = SimulationEngine(graph)
    engine.setup(scenario)
    start = time.perf_counter()
    engine.run(0, scenario)
    took_s = time.perf_counter() - start
    routes = ((asys.asn, asys.policy.local_rib.get(prefix)) for asys in graph)
    return {asn: (route.as_path[-1], len(route.as_path)) for asn, route in routes if route is not None}, took_s
