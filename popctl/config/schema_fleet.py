"""The shape of what concerns the fleet: where the store is, and what must be left when a PoP withdraws."""

from pydantic import Field

from popctl.config import defaults
from popctl.config.fields import Name, Positive, Seconds, Share
from popctl.config.locators import AbsolutePath, StoreUrl
from popctl.config.schema_probes import Count, Section


class FleetTls(Section):
    """Files of the mutual TLS with the store."""

    ca: AbsolutePath = Field(description="Certificate of the authority that signed the store's certificates.")
    certificate: AbsolutePath = Field(description="Own certificate.")
    key: AbsolutePath = Field(description="File with its key (PEM, not encrypted); no access for other users.")


class Floor(Section):
    """What must be left of a service when a PoP withdraws. The same in all PoPs of a fleet."""

    minimum_announcing: Count = Field(default=defaults.MINIMUM_ANNOUNCING, description="PoPs that announce and serve.")
    minimum_per_region: dict[Name, Count] = Field(default={}, description="The same by region.")
    minimum_capacity_ratio: Positive | None = Field(
        default=None, description="Capacity of those left by the demand on all; null: not looked at."
    )
    common_cause_share: Share = Field(
        default=defaults.COMMON_CAUSE_SHARE,
        description="More of the fleet than this turned bad within the window: the cause is shared, nobody withdraws.",
    )
    common_cause_window: Seconds = Field(default=defaults.COMMON_CAUSE_WINDOW_S, description="The window.")
    view_age_bound: Seconds = Field(
        default=defaults.VIEW_AGE_BOUND_S, description="An older view says nothing about the others."
    )
    settle: Seconds = Field(
        default=defaults.SETTLE_S,
        description="After an outage of the store the others get this long to speak; 2 s above `lease` at least.",
    )
    permit_wait: Seconds = Field(
        default=defaults.PERMIT_WAIT_S, description="A withdraw waits this long before it is held meanwhile."
    )
    permit_valid: Seconds = Field(
        default=defaults.PERMIT_VALID_S, description="A granted permit is good this long without the store."
    )
    standing_share: Share = Field(
        default=defaults.STANDING_SHARE,
        description="Of the PoPs that can be spared, how many may leave without the store when they are certain.",
    )


class Fleet(Section):
    """The fleet that this PoP is in."""

    name: Name = Field(description="Name of the fleet, the same in all its PoPs: its place in the store.")
    region: Name = Field(description="Region of this PoP, for the floor.")
    etcd: list[StoreUrl] = Field(min_length=1, description="Client URLs of etcd's members; one after another is tried.")
    tls: FleetTls | None = Field(default=None, description="Mutual TLS with the store; null: none.")
    floor: Floor = Field(default=Floor(), description="What must be left when a PoP withdraws.")
    lease: Seconds = Field(default=defaults.FLEET_LEASE_S, description="A PoP that falls silent is gone after this.")
    request: Seconds = Field(default=defaults.FLEET_REQUEST_S, description="How long etcd may take for an answer.")
    quiet: Seconds = Field(
        default=defaults.FLEET_QUIET_S, description="Between two writes, unless a rung, a stance or health changes."
    )
    refresh: Seconds = Field(default=defaults.FLEET_REFRESH_S, description="A write at least this often.")
