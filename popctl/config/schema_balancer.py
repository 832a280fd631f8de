"""The shape of what concerns the balancer: the SPI plan, how a service is spread, how packets get to a backend."""

from typing import Literal

from pydantic import Field

from popctl.config import defaults
from popctl.config.fields import Address, Duration, Label, WholeSeconds, Word
from popctl.config.locators import SecretFile
from popctl.config.schema_probes import Section


class SpiPlan(Section):
    """How PoP and backend are written into the SPIs that backends choose; the same in every PoP of a site."""

    site: Label = Field(description="Name of the site; enters the check bits of every label.")
    pop_bits: int = Field(default=defaults.POP_BITS, ge=1, le=24, description="Bits for the PoP id.")
    backend_bits: int = Field(default=defaults.BACKEND_BITS, ge=1, le=8, description="Bits for the backend id.")
    sa_bits: int = Field(default=defaults.SA_BITS, ge=4, le=28, description="Every backend owns 2**sa_bits ESP SPIs.")
    esp_base: Word = Field(default=0, description="First ESP SPI of the plan.")
    generation: int = Field(default=0, description="Of the layout, 0 to 6; a new layout takes the next one.")
    previous: "SpiPlan | None" = Field(
        default=None,
        description="The plan before this one, whole, while SAs that were made under it may live; null: there is none.",
    )


class Sizes(Section):
    """What the plan must have room for."""

    pops: int | None = Field(default=None, ge=1, description="PoPs of the site; null: as many as the id of this one.")
    backends_per_pop: int | None = Field(
        default=None, ge=1, description="Backends of the largest one; null: only the ids of this one must fit."
    )
    sas_per_backend: int | None = Field(
        default=None,
        ge=1,
        description="Concurrent SAs of one backend; null: the most `capacity.sessions` that is written, else 10000.",
    )


class Affinity(Section):
    """Soft memory of where a client went, for a client that comes back with a new SPI."""

    timeout: WholeSeconds = Field(default=defaults.AFFINITY_S, description="How long a silent client is remembered.")
    size: int = Field(default=defaults.AFFINITY_SIZE, ge=1, le=16777216, description="Clients per memory.")


class ServiceBalancer(Section):
    """How the edge host spreads a service over its backends."""

    vips: list[Address] = Field(min_length=1, description="Addresses inside the service's prefixes; backends own them.")
    key: Literal["spi", "source-ip", "source-ip-port", "5-tuple"] = Field(
        default=defaults.HASH_KEY, description="What new clients are spread by; all but `spi` break something."
    )
    unlabelled: Literal["source", "drop"] = Field(
        default="source", description="IKE and ESP without a label: by source address, or dropped."
    )
    plain_l2tp: bool = Field(default=False, description="Forward UDP 1701 that no IPsec protects.")
    other: Literal["source", "drop"] = Field(default="drop", description="Everything else that is sent to a VIP.")
    affinity: Affinity = Field(default=Affinity(), description="Memory of where clients went.")


class Balancer(Section):
    """Where the balancer lives on the edge host, and what its rows are drawn from."""

    secret_file: SecretFile | None = Field(
        default=None,
        description="Key of the hashes, the same on all balancers of the PoP, so that nobody can aim at one backend; "
        "null: derived from plan and PoP, which anybody can guess.",
    )
    mark_base: Word = Field(
        default=defaults.MARK_BASE,
        ge=0x10000,
        le=0xFFFF0000,
        description="Top 16 bits of its packet marks; the rest is 0.",
    )
    table_base: int = Field(
        default=defaults.TABLE_BASE,
        ge=256,
        le=0x7FFFFF00,
        description="Routing table of a backend: this plus its id plus 1.",
    )
    rule_priority: int = Field(
        default=defaults.RULE_PRIORITY, ge=1, le=32765, description="Priority of its `ip rule` entries."
    )
    icmp_copies_per_s: int = Field(
        default=defaults.ICMP_COPIES_PER_S,
        ge=1,
        le=100000,
        description="ICMP errors that no one backend can be named for go to all, at most so often.",
    )
    longest_sa: Duration = Field(
        default=defaults.LONGEST_SA_S,
        description="Longest that a client's SA may live: so long an id rests after its backend was taken out.",
    )


class Forward(Section):
    """How packets for a VIP get to one backend: through a neighbour on a link of the edge host."""

    ipv4: Address | None = Field(default=None, description="Next hop for IPv4; null: `address`, if that is IPv4.")
    ipv6: Address | None = Field(default=None, description="Next hop for IPv6; null: `address`, if that is IPv6.")
