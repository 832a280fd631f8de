"""From a PoP to the files that ExaBGP and the relay run on. Pure: text in memory; who writes it gives the modes.

Secrets appear in `exabgp.conf` alone.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from string import Template
from typing import TYPE_CHECKING

from popctl.model.md5_key import MD5_KEY_MOST, md5_key_flaw

if TYPE_CHECKING:
    from popctl.model.pop import Neighbor, Pop

CONF, SETTINGS, ENVIRONMENT, RELAY = "exabgp.conf", "exabgp.ini", "exabgp.env", "relay.json"
MODES: Mapping[str, int] = {CONF: 0o600, SETTINGS: 0o644, ENVIRONMENT: 0o644, RELAY: 0o644}

_TTL_MOST = 255


class RenderError(ValueError):
    """A PoP that cannot be said in ExaBGP's configuration."""

    def __init__(self, where: str, problem: str) -> None:
        super().__init__(f"{where}: {problem}")
        self.where = where
        self.problem = problem


@dataclass(frozen=True, slots=True, kw_only=True)
class Installation:
    """Where things are on the host that ExaBGP runs on."""

    directory: Path
    """Where the rendered files go."""
    relay: Path
    """The folder `relay`, which Python runs."""
    template: Path
    """`exabgp.conf.tmpl`."""
    python: Path
    """The interpreter for the relay; 3.11 or newer, no packages needed."""
    user: str = "popctl"
    """The relay accepts agents of the user that ExaBGP runs as, and root."""


def shared_files() -> Path:
    """Return the directory that holds `relay` and `exabgp.conf.tmpl`: of the checkout, or of the installation.

    Raises:
        RenderError: neither is there.
    """
    # The checkout first: an editable installation may leave an older copy in its prefix.
    places = (Path(__file__).parents[2] / "exabgp", Path(sys.prefix, "share", "popctl"), Path("/usr/share/popctl"))
    for place in places:
        if (place / "relay" / "__main__.py").is_file():
            return place
    raise RenderError("relay/__main__.py", f"in none of {', '.join(map(str, places))}")


def render(pop: Pop, installation: Installation) -> Mapping[str, str]:
    """Return file name -> text. `MODES` has the mode of each.

    Raises:
        RenderError: see there.
        OSError: the template cannot be read.
    """
    template = Template(installation.template.read_text(encoding="ascii"))
    relay_json = installation.directory / RELAY
    run = " ".join(map(_word, (installation.python, "-I", installation.relay, relay_json)))
    neighbors = "\n".join("\n".join(_neighbor(pop, neighbor)) for neighbor in pop.neighbors)
    return {
        CONF: template.substitute(run=run, neighbors=neighbors),
        SETTINGS: _settings(pop, installation),
        ENVIRONMENT: f"EXABGP_ENVFILE={_word(installation.directory / SETTINGS)}\n",
        RELAY: _relay(pop),
    }


def _neighbor(pop: Pop, neighbor: Neighbor) -> Iterator[str]:
    yield ""
    yield f"neighbor {neighbor.address} {{"
    yield f"  local-address {neighbor.local_address};"
    yield f"  router-id {pop.router_id};"
    yield f"  local-as {pop.asn};"
    yield f"  peer-as {neighbor.asn};"
    yield f"  hold-time {neighbor.hold_time_s};"
    yield from (f"  {line}" for line in _transport(neighbor))
    yield "  group-updates true;"
    yield "  auto-flush true;"
    yield "  adj-rib-in false;"
    yield "  adj-rib-out true;"
    yield "  manual-eor false;"
    families = " ".join(f"{family};" for family in sorted(neighbor.families))
    yield f"  family {{ {families} }}"
    yield "  capability { asn4 enable; route-refresh enable; graceful-restart disable; }"
    # Without a name: names of api sections are unique in the whole file.
    yield "  api { processes [ popctl ]; neighbor-changes; send { parsed; update; } }"
    yield "}"


def _transport(neighbor: Neighbor) -> Iterator[str]:
    where = f"neighbor {neighbor.address}"
    if neighbor.md5 is not None:
        yield f'md5-password "{_password(neighbor.md5.reveal(), where)}";'
    if neighbor.ttl_security_hops is not None:
        if neighbor.passive:
            raise RenderError(where, "ExaBGP does not check the TTL of sessions that the neighbour opens")
        if not 1 <= neighbor.ttl_security_hops < _TTL_MOST:
            raise RenderError(where, f"{neighbor.ttl_security_hops} hops is not between 1 and 254")
        yield f"incoming-ttl {_TTL_MOST + 1 - neighbor.ttl_security_hops};"
        yield f"outgoing-ttl {_TTL_MOST};"
    if neighbor.passive:
        yield "passive true;"
    elif neighbor.port != 179:  # noqa: PLR2004 - BGP's own port is ExaBGP's default
        yield f"connect {neighbor.port};"


def _password(text: str, where: str) -> str:
    if md5_key_flaw(text):
        raise RenderError(where, f"an MD5 key is 1 to {MD5_KEY_MOST} printable ASCII characters without quotes and \\")
    return text


def _word(path: object) -> str:
    """ExaBGP splits `run` at blanks and knows no quoting."""
    text = str(path)
    if not (text.isascii() and text.isprintable()) or set(text) & set(" ;{}[]#\"'\\,"):
        raise RenderError(text, "not usable as one word in ExaBGP's configuration")
    return text


def _settings(pop: Pop, installation: Installation) -> str:
    passive = [neighbor for neighbor in pop.neighbors if neighbor.passive]
    ports = {neighbor.port for neighbor in passive}
    if len(ports) > 1:
        raise RenderError("neighbors", f"ExaBGP listens on one port for all passive sessions, not on {sorted(ports)}")
    bind = " ".join(sorted({str(neighbor.local_address) for neighbor in passive}))
    sections = {
        "api": {
            "ack": "true",
            "chunk": "1",
            "cli": "false",
            "encoder": "json",
            "respawn": "true",
            "show-routes-format": "'v2'",
            "terminate": "false",
        },
        "daemon": {"daemonize": "false", "drop": "true", "user": f"'{_word(installation.user)}'"},
        "log": {"destination": "'stdout'", "level": "INFO", "statistics": "false"},
        "tcp": {"attempts": "0", "bind": f"'{bind}'", "port": str(ports.pop() if ports else 179)},
    }
    lines: list[str] = ["# Written by popctl. A file, because the dash in show-routes-format fits no shell variable."]
    for section, options in sections.items():
        lines += ["", f"[exabgp.{section}]", *(f"{name} = {value}" for name, value in options.items())]
    return "\n".join(lines) + "\n"


def _relay(pop: Pop) -> str:
    allow = pop.allowlist
    lists = {
        "neighbors": (neighbor.address for neighbor in pop.neighbors),
        "prefixes": allow.prefixes,
        "next_hops": allow.next_hops,
        "communities": allow.communities,
        "large_communities": allow.large_communities,
    }
    data = {
        "socket": str(pop.paths.relay_socket),
        "lease_s": pop.lease.duration_s,
        "on_expiry": "hold" if pop.lease.on_expiry_hold else "withdraw",
        "asn": pop.asn,
        "allow": {name: sorted(map(str, values)) for name, values in lists.items()},
    }
    return json.dumps(data, indent=2) + "\n"
