"""What a new configuration means for a running agent: what a reload takes over, and what it costs beyond that.

A reload is a new image of the process, which reads everything anew. What it cannot reach is ExaBGP, and whatever others
hold of the old configuration: routers its routes, clients its SAs, operators their orders.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from popctl.config.errors import Problem

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

    from popctl.model.pop import Neighbor, Pop
    from popctl.model.route import Address, Prefix

_MOVED: Final = {
    "pop.id": "SAs and the fleet know this PoP by the old one",
    "pop.name": "fleet, metrics and operators know this PoP by the old one",
    "paths.api_socket": "whoever asks the agent must look there from now on",
    "paths.state_file": "orders, the audit file and the record of ids stay beside the old one unless they were copied",
}
_OF_RELAY: Final = (
    "the relay reads it at its start only: until `popctl check --write` and a restart of ExaBGP, which resets every "
    "session, it works by what it was started with"
)
_RELAY_SOCKET: Final = "the relay listens there only once ExaBGP is restarted with it: without, the lease ends"


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """The difference of two configurations, by what it costs. Equal configurations give an empty one."""

    moved: tuple[str, ...]
    """Keys that a reload takes over, although others go on looking for the agent, or its files, by the old value."""
    speaker_restart: tuple[str, ...]
    """Keys that the relay reads at its start only, which ends with ExaBGP and so resets every session."""
    sessions: tuple[Address, ...]
    """Neighbours that come, go, or change in what is configured in ExaBGP; they need its restart as well."""
    dropped_prefixes: tuple[Prefix, ...]
    """Prefixes of the old configuration that no service of the new one has."""
    dropped_services: tuple[str, ...]
    """Orders of operators (withdraw) may refer to them."""
    dropped_backends: tuple[str, ...]
    """Names that are gone; orders of operators (drain) may refer to them."""
    moved_ids: tuple[int, ...]
    """Backend ids that are gone or now mean another address: live SAs carry them and would lose their backend."""

    def costs(self) -> Iterator[str]:
        """Yield what a reload costs, or does not reach, one line for each: the key and what follows."""
        yield from (f"{key}: {_MOVED[key]}" for key in self.moved)
        for key in self.speaker_restart:
            yield f"{key}: {_RELAY_SOCKET if key == 'paths.relay_socket' else _OF_RELAY}"
        yield from (f"neighbors, {address}: {_OF_RELAY}" for address in self.sessions)
        yield from (f"services, {prefix}: is in no service any more" for prefix in self.dropped_prefixes)
        yield from (f"services.{name}: is gone; orders for it mean nothing" for name in self.dropped_services)
        yield from (f"backends, {name}: is gone; a drain of it means nothing" for name in self.dropped_backends)
        yield from (f"backends, id {number}: live SAs that carry it lose their backend" for number in self.moved_ids)

    def orphans(self, announced: Collection[Prefix]) -> tuple[Problem, ...]:
        """Return a problem for each announced prefix that nobody would answer for.

        The next agent would withdraw it at once: without a drain, and without asking the fleet.
        """
        return tuple(
            Problem(
                path="services",
                found=f"no service with {prefix}",
                problem="it is announced, and would be withdrawn without a drain and without the guard's leave",
                remedy="popctl withdraw its service first; or leave it in",
            )
            for prefix in self.dropped_prefixes
            if prefix in announced
        )


def diff(old: Pop, new: Pop) -> Change:
    """Return what changes from `old` to `new`, in the order of `old`, then of `new`."""
    kept_prefixes = {prefix for service in new.services for prefix in service.prefixes}
    kept_services = {service.name for service in new.services}
    kept_backends = {backend.name for backend in new.backends.values()}
    return Change(
        moved=_moved(old, new),
        speaker_restart=_speaker_restart(old, new),
        sessions=_sessions(old, new),
        dropped_prefixes=tuple(
            prefix for service in old.services for prefix in service.prefixes if prefix not in kept_prefixes
        ),
        dropped_services=tuple(service.name for service in old.services if service.name not in kept_services),
        dropped_backends=tuple(b.name for b in old.backends.values() if b.name not in kept_backends),
        moved_ids=tuple(
            number
            for number, backend in old.backends.items()
            if number not in new.backends or new.backends[number].address != backend.address
        ),
    )


def _moved(old: Pop, new: Pop) -> tuple[str, ...]:
    pairs = {
        "pop.id": (old.id, new.id),
        "pop.name": (old.name, new.name),
        "paths.api_socket": (old.paths.api_socket, new.paths.api_socket),
        "paths.state_file": (old.paths.state_file, new.paths.state_file),
    }
    return tuple(key for key, (before, after) in pairs.items() if before != after)


def _speaker_restart(old: Pop, new: Pop) -> tuple[str, ...]:
    pairs = {
        "pop.asn": (old.asn, new.asn),
        "pop.router_id": (old.router_id, new.router_id),
        "allowlist": (old.allowlist, new.allowlist),
        "lease": (old.lease, new.lease),
        "paths.relay_socket": (old.paths.relay_socket, new.paths.relay_socket),
    }
    return tuple(key for key, (before, after) in pairs.items() if before != after)


def _sessions(old: Pop, new: Pop) -> tuple[Address, ...]:
    before = {neighbor.address: _session(neighbor) for neighbor in old.neighbors}
    after = {neighbor.address: _session(neighbor) for neighbor in new.neighbors}
    return tuple(address for address in before | after if before.get(address) != after.get(address))


def _session(neighbor: Neighbor) -> tuple[object, ...]:
    """Return what ExaBGP is configured with. Next hops and attributes go with every route instead."""
    return (
        neighbor.local_address,
        neighbor.asn,
        neighbor.hold_time_s,
        neighbor.families,
        neighbor.md5,
        neighbor.ttl_security_hops,
        neighbor.port,
        neighbor.passive,
    )
