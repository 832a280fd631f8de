"""The shape of what concerns load: what a backend can carry, and how load moves announcements."""

from typing import Literal

from pydantic import Field

from popctl.config import defaults
from popctl.config.fields import Age, Amount, AsnKey, Duration, Label, Name, Points, Positive, Seconds, Share
from popctl.config.locators import AbsolutePath
from popctl.config.schema_probes import Section

Rung = Literal["normal", "depreferred", "graceful-shutdown", "withdrawn"]


class Capacity(Section):
    """What one backend, or the PoP, can carry. What is left out has no limit."""

    sessions: Amount | None = Field(default=None, description="Users that are connected.")
    handshakes_s: Amount | None = Field(
        default=None, description="IKE exchanges with Diffie-Hellman per second: first contacts and rekeys of IKE SAs."
    )
    bit_s: Amount | None = Field(default=None, description="Bits per second in the busier direction of its links.")
    packet_s: Amount | None = Field(default=None, description="Packets per second, both directions together.")
    cpu_cores: Amount | None = Field(default=None, description="Cores that may be kept busy.")
    addresses: Amount | None = Field(default=None, description="Leases of its address pools.")


class Level(Section):
    """One level of the ladder: a rung of the announce ladder for every upstream."""

    name: Label = Field(description="One of its own in the ladder; the playbook has the same.")
    others: Rung = Field(default="normal", description="Rung for every upstream that `upstreams` does not name.")
    upstreams: dict[AsnKey, Rung] = Field(default={}, description="Rung by AS number of the neighbour.")


class Gate(Section):
    """What the what-if gate demands of a step. Shares are of capacity."""

    saturation: Share = Field(default=defaults.GATE.saturation, description="Above it a PoP counts as overloaded.")
    watermark: Share = Field(default=defaults.GATE.watermark, description="No step may take a PoP past it.")
    restore_below: Share = Field(
        default=defaults.GATE.restore_below, description="A PoP takes load back only if it ends at this or less."
    )
    minimum_gain: Share = Field(
        default=defaults.GATE.minimum_gain, description="Share of the own excess by which a step must lower overload."
    )
    reserve_ratio: Positive = Field(
        default=defaults.GATE.reserve_ratio, description="Announced capacity by demand after a withdraw for load."
    )
    moved_sessions_max: Amount | None = Field(
        default=None, description="How many sessions one step may move; null: any number."
    )
    view_stale_after: Age = Field(
        default=defaults.GATE_VIEW_STALE_AFTER_S,
        description="Older figures of a PoP, or an older view, count for nothing.",
    )
    fresh_share: Share = Field(
        default=defaults.GATE.fresh_share,
        description="Of the announcing PoPs; with fewer fresh ones all is stale.",
    )


class Verification(Section):
    """What is done about a step that did not do what was predicted."""

    useful_share: Share = Field(
        default=defaults.LOAD.useful_share,
        description="A step that moved less of what was predicted, and left the PoP hot, is taken back.",
    )
    surprise: Positive = Field(
        default=defaults.LOAD.surprise, description="So many times the predicted sessions are a surprise."
    )
    patience_dwells: Positive = Field(
        default=defaults.LOAD.patience_dwells, description="How many dwells a step waits for figures that verify it."
    )
    backoff: Age = Field(default=defaults.LOAD.backoff_s, description="How long a wrong row is not believed; doubles.")
    backoff_max: Age = Field(default=defaults.LOAD.backoff_max_s, description="At most so long.")


class FlapDamping(Section):
    """What routers that damp flaps (RFC 2439) are taken to do; what is done for load stays below `limit`."""

    withdraw: Positive = Field(default=defaults.FLAPS.withdraw, description="Penalty of a withdraw.")
    attributes: Positive = Field(default=defaults.FLAPS.attributes, description="Penalty of a change of attributes.")
    announce: Points = Field(default=defaults.FLAPS.announce, description="Penalty of an announce after a withdraw.")
    half_life: Age = Field(default=defaults.FLAPS.half_life_s, description="A penalty is half of it after this.")
    ceiling: Positive = Field(default=defaults.FLAPS.ceiling, description="A penalty never gets above it.")
    limit: Positive = Field(
        default=defaults.FLAPS.limit,
        description="Changes for load keep the penalty below it.",
    )


class Load(Section):
    """How load moves announcements."""

    services: list[Name] | None = Field(
        default=None, min_length=1, description="Services that move together with the PoP's load; null: all."
    )
    ladder: list[Level] | None = Field(
        default=None,
        min_length=1,
        description="Levels, mildest first; null: normal, depreferred, graceful-shutdown, withdrawn everywhere.",
    )
    playbook: AbsolutePath | None = Field(
        default=None, description="Where load lands after each step (docs/capacity.md); null: only `floor` is allowed."
    )
    playbook_max_age: Age = Field(
        default=defaults.GATE.playbook_max_age_s, description="An older playbook says nothing."
    )
    floor: int = Field(
        default=defaults.LOAD.floor,
        ge=0,
        le=31,
        description="Highest level that may be reached while the gate cannot judge; never one that withdraws.",
    )
    hot: Share = Field(default=defaults.LOAD.hot, description="Share of capacity from which a PoP is hot.")
    overloaded: Share = Field(
        default=defaults.LOAD.overloaded, description="The same for steps that no gate has judged."
    )
    hot_for: Duration = Field(default=defaults.LOAD.hot_for_s, description="Hot without a break before a step.")
    dwell: Age = Field(
        default=defaults.LOAD.dwell_s, description="Between a step and anything that follows: convergence, measurement."
    )
    restore_dwells: Positive = Field(
        default=defaults.LOAD.restore_dwells, description="A step is taken back after so many dwells at the earliest."
    )
    smoothing: Seconds = Field(
        default=defaults.LOAD_TIMING.smoothing_s, description="Time constant of the average that decisions go by."
    )
    peak_half_life: Seconds = Field(
        default=defaults.LOAD_TIMING.peak_half_life_s, description="A peak is forgotten by half after this."
    )
    stale_after: Seconds = Field(
        default=defaults.LOAD_TIMING.stale_after_s,
        description="What a meter did not tell for so long is unknown; twice the interval of `popctl meter`.",
    )
    gate: Gate = Field(default=Gate(), description="What the what-if gate demands of a step.")
    verification: Verification = Field(
        default=Verification(), description="What is done about a step that did not do what was predicted."
    )
    flap_damping: FlapDamping = Field(
        default=FlapDamping(), description="What routers that damp flaps are taken to do."
    )
