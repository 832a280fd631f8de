"""What the operator API tells of steering by load. Encoded and decoded by `agent_api`."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class ClassStatus:
    """Sessions of one class of traffic."""

    sessions: int
    bit_s: float
    """What they move together, in bits per second."""


@dataclass(frozen=True, slots=True, kw_only=True)
class UsedStatus:
    """One resource of a backend."""

    resource: str
    """A `Resource`."""
    used: float
    """Smoothed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MeterStatus:
    """What the meter of a backend said last."""

    heard_s: float | None
    """How long ago; null: never."""
    used: tuple[UsedStatus, ...]
    """What is not known is absent."""
    interactive: ClassStatus | None
    """null: not known, as `bulk`."""
    bulk: ClassStatus | None
    """Sessions that move 5 Mbit/s or more each, or what `popctl meter --bulk` says."""
    symptoms: tuple[str, ...]
    """Each a `Symptom` of overload that is there now."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PenaltyStatus:
    """What an upstream keeps of our changes, if it damps flaps (RFC 2439)."""

    asn: int
    value: float
    limit: float
    """Changes for load keep the penalty below it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PlaybookStatus:
    """What the gate judges by."""

    read: bool
    """There is a playbook in force; `problem` says whether it is the one of the file."""
    fleet: str
    age_s: float | None
    max_age_s: float
    problem: str
    """What is wrong with the file; empty when nothing is."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadStatus:
    """Where the PoP stands on its ladder of levels, and why."""

    level: int
    name: str
    """Of the level."""
    levels: int
    """How many there are."""
    reason: str
    """A `Reason`; empty: load has no say."""
    full: float | None
    """Used by capacity of the tightest resource, at least; null: more than can be told."""
    resource: str
    """The tightest one; empty: nothing is known."""
    missing: str
    """A `Reason`: why `full` may be too low; empty: it is exact."""
    until_s: float | None
    settling: bool
    """The last step is not verified yet."""
    penalties: tuple[PenaltyStatus, ...]
    playbook: PlaybookStatus | None
    """None: no file is configured."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReceiverStatus:
    """Another PoP whose load a withdraw would change."""

    pop: str
    sessions_before: float
    sessions_after: float
    full_after: float | None
    """Peak by capacity of its tightest resource; null: more than can be told."""
    over: bool
    """Past the watermark."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LandingStatus:
    """Where the load of the PoP would land if it were withdrawn."""

    problem: str
    """A `Reason` why that cannot be told; empty when it can."""
    unreached: float
    """Sessions that would reach no PoP."""
    receivers: tuple[ReceiverStatus, ...]
