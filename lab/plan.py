"""A lab as values: what a topology file says after inheritance, with nothing left to look up.

Terms and meanings are containerlab's. Reading a file into these values is `lab.topology_file`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import NamedTuple

BRIDGE = "bridge"
LINUX = "linux"


class Stage(StrEnum):
    """What a node goes through, in this order."""

    CREATE = "create"
    CREATE_LINKS = "create-links"
    CONFIGURE = "configure"
    HEALTHY = "healthy"


class Milestone(NamedTuple):
    """A node has finished a stage."""

    node: str
    stage: Stage


@dataclass(frozen=True, slots=True, kw_only=True)
class Bind:
    """A file or directory of the host that shows in a node."""

    source: Path
    target: str
    read_only: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Healthcheck:
    """A command in the node that exits 0 when the node does its work."""

    argv: tuple[str, ...]
    interval_s: float
    """The longest wait between two tries; the first tries come sooner."""
    timeout_s: float
    retries: int
    start_period_s: float

    @property
    def patience_s(self) -> float:
        """How long a node may take until it counts as failed."""
        return self.start_period_s + self.retries * (self.interval_s + self.timeout_s)


@dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    """One node, with everything it inherits."""

    name: str
    kind: str
    group: str
    image: str
    hostname: str
    binds: tuple[Bind, ...]
    env: Mapping[str, str]
    sysctls: Mapping[str, str]
    labels: Mapping[str, str]
    exec: tuple[tuple[str, ...], ...]
    """Commands of the configure stage, in order; no shell."""
    cmd: tuple[str, ...]
    """What the node runs first; empty means that it only waits."""
    startup_delay_s: float
    healthcheck: Healthcheck | None
    waits: Mapping[Stage, tuple[Milestone, ...]]
    """Before the node enters a stage, these must be reached."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """One end of a link."""

    node: str
    interface: str
    mac: str = ""

    def __str__(self) -> str:
        return f"{self.node}:{self.interface}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Link:
    """A cable between two nodes."""

    a: Endpoint
    z: Endpoint
    mtu: int

    @property
    def ends(self) -> tuple[Endpoint, Endpoint]:
        """Both ends."""
        return self.a, self.z


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """A whole lab."""

    name: str
    prefix: str
    """As in the file: "" for none, `__lab-name` for the lab's name alone."""
    path: Path
    """The topology file."""
    nodes: Mapping[str, Node]
    links: tuple[Link, ...]

    def long_name(self, node: str) -> str:
        """Return what containerlab calls the container, and what the network namespace is called here."""
        if not self.prefix:
            return node
        return f"{self.name}-{node}" if self.prefix == "__lab-name" else f"{self.prefix}-{self.name}-{node}"

    def interfaces(self, node: str) -> Iterator[Endpoint]:
        """Return the link ends of a node."""
        return (end for link in self.links for end in link.ends if end.node == node)

    def group(self, name: str) -> tuple[str, ...]:
        """Return the names of the nodes of a group, in the order of the file."""
        return tuple(node.name for node in self.nodes.values() if node.group == name)
