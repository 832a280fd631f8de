"""Parts without a problem -> the `Pop` value."""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING

from popctl.config import capacity
from popctl.config.attributes import ladder
from popctl.config.probes import of_backend
from popctl.config.tables import bare_tables, forward, plans
from popctl.model import floor
from popctl.model import pop as model
from popctl.model.listen import RemoteApi, Role, TlsEndpoint
from popctl.model.meter import MeterAddress, TlsMeter, UnixMeter
from popctl.model.route import GRACEFUL_SHUTDOWN, Family

if TYPE_CHECKING:
    from popctl.config import schema, schema_api, schema_fleet
    from popctl.config.secret_files import Secrets
    from popctl.config.shape import Parts, Placed

_FAMILIES: dict[str, Family] = {"ipv4": Family.IPV4_UNICAST, "ipv6": Family.IPV6_UNICAST}


def build(parts: Parts, secrets: Secrets) -> model.Pop:
    """Return the value. Every section must be there: absent ones are a bug of the caller."""
    if not (parts.pop and parts.allowlist and parts.timing and parts.lease and parts.paths):
        raise AssertionError("a section is absent and no problem was reported")
    if not (parts.state and parts.balancer):
        raise AssertionError("a section is absent and no problem was reported")
    backends = {part.value.id: _backend(parts, part, secrets) for part in parts.backends}
    ids = {backend.name: backend.id for backend in backends.values()}
    return model.Pop(
        id=parts.pop.id,
        name=parts.pop.name,
        location=parts.pop.location,
        asn=parts.pop.asn,
        router_id=parts.pop.router_id,
        neighbors=tuple(_neighbor(part.value, parts.pop.asn, secrets) for part in parts.neighbors),
        services=tuple(_service(part, ids) for part in parts.services),
        backends=MappingProxyType(backends),
        allowlist=_allowlist(parts.allowlist),
        timing=_timing(parts.timing),
        lease=model.Lease(duration_s=parts.lease.duration, on_expiry_hold=parts.lease.on_expiry == "hold"),
        paths=model.Paths(
            relay_socket=parts.paths.relay_socket,
            api_socket=parts.paths.api_socket,
            state_file=parts.paths.state_file,
            journal=parts.paths.journal,
        ),
        spi_plans=plans(parts.spi_plan),
        tables=bare_tables(parts),
        row_key=secrets[parts.balancer.secret_file] if parts.balancer.secret_file else None,
        longest_sa_s=parts.balancer.longest_sa,
        fleet=None if parts.fleet is None else _fleet(parts.fleet),
        capacity=capacity.amounts(parts.pop.capacity),
        load_timing=capacity.timing(parts.load),
        load=None if parts.load is None else capacity.settings(parts.load, (part.key for part in parts.services)),
        remote_api=None if parts.api is None else _remote_api(parts.api),
        start_without_state=parts.state.on_corrupt == "serve",
    )


def _neighbor(written: schema.Neighbor, own_asn: int, secrets: Secrets) -> model.Neighbor:
    hops = {"ipv4": written.next_hops.ipv4, "ipv6": written.next_hops.ipv6}
    return model.Neighbor(
        address=written.address,
        local_address=written.local_address,
        asn=written.asn,
        hold_time_s=written.hold_time,
        families=frozenset(_FAMILIES[name] for name in written.families),
        next_hops=MappingProxyType({_FAMILIES[name]: hop for name, hop in hops.items() if hop is not None}),
        attributes=MappingProxyType(ladder(written, internal=written.asn == own_asn)),
        md5=secrets[written.md5_file] if written.md5_file else None,
        ttl_security_hops=written.ttl_security,
        port=written.port,
        passive=written.passive,
    )


def _service(part: Placed[schema.Service], ids: dict[str, int]) -> model.Service:
    names = part.value.backends
    return model.Service(
        name=part.key,
        prefixes=tuple(part.value.prefixes),
        backends=tuple(ids.values() if names is None else (ids[name] for name in names)),
        minimum_healthy=part.value.minimum_healthy,
        drain_keeps=part.value.drain_keeps,
    )


def _backend(parts: Parts, part: Placed[schema.Backend], secrets: Secrets) -> model.Backend:
    return model.Backend(
        id=part.value.id,
        name=part.value.name,
        address=part.value.address,
        weight=part.value.weight,
        probes=tuple(probe.spec for probe in of_backend(parts, part, secrets)),
        forward=forward(part.value),
        vici=part.value.vici,
        meter=_meter(part.value.meter),
        capacity=capacity.amounts(part.value.capacity),
    )


def _meter(written: schema.Meter | None) -> MeterAddress | None:
    if written is None:
        return None
    if written.socket is not None:
        return UnixMeter(path=written.socket)
    if not (written.host and written.port and written.ca and written.certificate and written.key):
        raise AssertionError("a meter without an address, and no problem was reported")
    return TlsMeter(
        host=written.host,
        port=written.port,
        certificate=written.certificate,
        key=written.key,
        authority=written.ca,
    )


def _allowlist(written: schema.Allowlist) -> model.Allowlist:
    return model.Allowlist(
        prefixes=frozenset(written.prefixes),
        next_hops=frozenset(written.next_hops),
        # The last step before every orderly withdraw cannot be forgotten in a list.
        communities=frozenset(written.communities) | {GRACEFUL_SHUTDOWN},
        large_communities=frozenset(written.large_communities),
    )


def _timing(written: schema.Timing) -> model.Timing:
    return model.Timing(
        warm_up_s=written.warm_up,
        unknown_hold_s=written.unknown_hold,
        hold_down_s=written.hold_down,
        hold_down_max_s=written.hold_down_max,
        flap_window_s=written.flap_window,
        stop_drain_s=written.stop_drain,
        convergence_s=written.convergence,
    )


def _remote_api(written: schema_api.Api) -> RemoteApi:
    endpoint = TlsEndpoint(
        address=written.address,
        port=written.port,
        certificate=written.certificate,
        key=written.key,
        authority=written.client_ca,
    )
    roles = dict.fromkeys(written.read, Role.READ) | dict.fromkeys(written.operate, Role.OPERATE)
    return RemoteApi(endpoint=endpoint, roles=MappingProxyType(roles))


def _fleet(written: schema_fleet.Fleet) -> floor.FleetSettings:
    bounds, tls = written.floor, written.tls
    return floor.FleetSettings(
        name=written.name,
        region=written.region,
        endpoints=tuple(written.etcd),
        tls=None if tls is None else floor.FleetTls(authority=tls.ca, certificate=tls.certificate, key=tls.key),
        floor=floor.FloorPolicy(
            minimum_announcing=bounds.minimum_announcing,
            minimum_per_region=MappingProxyType(dict(bounds.minimum_per_region)),
            minimum_capacity_ratio=bounds.minimum_capacity_ratio,
            common_cause_share=bounds.common_cause_share,
            common_cause_window_s=bounds.common_cause_window,
            view_age_bound_s=bounds.view_age_bound,
            settle_s=bounds.settle,
            permit_wait_s=bounds.permit_wait,
            permit_valid_s=bounds.permit_valid,
            standing_share=bounds.standing_share,
        ),
        lease_ttl_s=written.lease,
        request_s=written.request,
        quiet_s=written.quiet,
        refresh_s=written.refresh,
    )
