"""What a new configuration means for a running agent: what it can take over live, and what it cannot."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Collection

    from popctl.model.pop import Neighbor, Pop
    from popctl.model.route import Address, Prefix


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """The difference of two configurations, by what it costs. Equal configurations give an empty one."""

    agent_restart: tuple[str, ...]
    """Keys that the agent reads at its start only: who it is and where it meets the host."""
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

    @property
    def live(self) -> bool:
        """Whether the running agent can take the new configuration over, nothing restarted and nothing orphaned."""
        return not (
            self.agent_restart
            or self.speaker_restart
            or self.sessions
            or self.dropped_prefixes
            or self.dropped_services
            or self.dropped_backends
            or self.moved_ids
        )

    def orphans(self, announced: Collection[Prefix]) -> tuple[Prefix, ...]:
        """Return the announced prefixes that nobody would answer for: withdraw them before the change."""
        return tuple(prefix for prefix in self.dropped_prefixes if prefix in announced)


def diff(old: Pop, new: Pop) -> Change:
    """Return what changes from `old` to `new`, in the order of `old`, then of `new`."""
    kept_prefixes = {prefix for service in new.services for prefix in service.prefixes}
    kept_services = {service.name for service in new.services}
    kept_backends = {backend.name for backend in new.backends.values()}
    return Change(
        agent_restart=_agent_restart(old, new),
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


def _agent_restart(old: Pop, new: Pop) -> tuple[str, ...]:
    pairs = {
        "pop.id": (old.id, new.id),
        "pop.name": (old.name, new.name),
        "paths.relay_socket": (old.paths.relay_socket, new.paths.relay_socket),
        "paths.api_socket": (old.paths.api_socket, new.paths.api_socket),
        "api": (old.remote_api, new.remote_api),
        "paths.state_file": (old.paths.state_file, new.paths.state_file),
        "paths.journal": (old.paths.journal, new.paths.journal),
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
