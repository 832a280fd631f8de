"""What happens in a simulated day: values only. `topology.scenario_file` reads them from TOML."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path


class EventKind(StrEnum):
    """What can befall PoPs, or what is said about them."""

    POP_FAILURE = "pop-failure"
    """The PoP is gone: it serves nobody at once, and its BGP sessions end with the hold timer."""
    BACKEND_FAILURE = "backend-failure"
    """A share of the backends is gone; with all of them gone health wants to withdraw."""
    UPSTREAM_FAILURE = "upstream-failure"
    """The sessions with one upstream are down."""
    PROBE_FAILURE = "probe-failure"
    """The probes call every backend dead, although all of them serve."""
    TELEMETRY_LOSS = "telemetry-loss"
    """A share of the meter's readings is lost."""
    PARTITION = "partition"
    """The store cannot be reached: the view stands still, nothing is published, no permit is granted."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """One event, from `at_s` until `until_s` of virtual time."""

    kind: EventKind
    at_s: float
    until_s: float
    pops: tuple[str, ...] = ()
    """By name; empty with a `largest` or an `upstream`."""
    largest: int = 0
    """That many PoPs with the most sessions, instead of names."""
    region: str | None = None
    """All PoPs of a region, instead of names."""
    share: float = 1.0
    upstream: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Diurnal:
    """Demand follows the sun: a cosine with its peak at 20 h local solar time of each region."""

    amplitude: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Crowd:
    """One region asks for more."""

    region: str
    from_s: float
    until_s: float
    rise: float
    """1.2 is +120 %."""
    ramp_s: float = 0.0
    """How long it takes to rise, and to fall after the end."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Internet:
    """The AS graph: a file, or a synthetic one of this size."""

    ases: int = 60_006
    peerings_per_as: float | None = None
    file: Path | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Sites:
    """The fleet: a file, or a made one with half as much again capacity as it needs."""

    pops: int = 20
    upstreams: int = 3
    users: int = 1_000_000
    """Spread over all ASes where no file says where they are."""
    file: Path | None = None
    demand: Path | None = None
    """Sessions per AS, in place of `users`."""
    measured: Path | None = None
    """Sessions as they were seen at the PoPs of the file; they win over the model and the demand of their ASes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Network:
    """How slowly, and how grudgingly, routers follow."""

    announce_s: tuple[float, float] = (5.0, 30.0)
    """A change of attributes, or a new announcement, is everywhere after so long: a uniform draw per session."""
    withdraw_s: tuple[float, float] = (15.0, 90.0)
    hold_time_s: float = 90.0
    """How long a dead PoP is still believed in."""
    damping_share: float = 0.1
    """Of the upstreams; these damp flaps (RFC 2439)."""
    damping_suppress: float = 2000.0
    damping_reuse: float = 750.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Telemetry:
    """What the PoPs see of themselves and of each other."""

    noise: float = 0.02
    """Readings are wrong by up to this share, either way."""
    loss: float = 0.0
    """Of all readings."""
    store_delay_s: float = 1.0
    """How long a PoP's word takes to the others."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Book:
    """The playbook that the what-if gate reads."""

    refresh_s: float = 300.0
    """It is made anew so often, from the sessions and levels of that moment; 0: once, before the start."""
    error: float = 0.05
    """Error band of its rows."""
    prepend: int = 3
    """What "depreferred" adds to the path."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Scenario:
    """All of it."""

    name: str
    seed: int
    duration_s: float
    tick_s: float
    internet: Internet
    sites: Sites
    network: Network = Network()
    telemetry: Telemetry = Telemetry()
    book: Book = Book()
    diurnal: Diurnal | None = None
    crowds: tuple[Crowd, ...] = ()
    events: tuple[Event, ...] = ()
    file: Path | None = field(default=None, compare=False)
    """Where it was read from, for problems that show later."""

    @property
    def ticks(self) -> int:
        """How many times the PoPs look and decide."""
        return int(self.duration_s // self.tick_s)
