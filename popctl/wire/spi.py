"""The SPI plan's arithmetic: labels and slices of every backend, and what a label says.

Generates both sides of the agreement: what strongSwan is told to put into SPIs and what the balancer matches.
"""

from __future__ import annotations

from collections.abc import Iterable
from hashlib import blake2s
from typing import NamedTuple

from popctl.model.balancer import EspRange, LabelPrefix, Labels, SpiPlan
from popctl.wire.errors import WireError

LABEL_BITS = 32
"""The label is the upper half of the IKE SPI; the lower half stays random."""
GENERATION_BITS = 3
UNROUTABLE_GENERATION = 7
UNROUTABLE_LABEL = 0xFFFFFFFF
"""In no plan: a daemon told to use it is steered like one without labels."""
SPI_MASK = 0xFFFFFFFF_00000000
ESP_RESERVED = 0x100
"""RFC 4303 section 2.1: SPIs 1..255 are reserved by IANA, 0 is local use."""
ESP_SPACE = 1 << 32
REKEY_OVERLAP = 2
"""A rekeyed SA lives on beside its successor: seconds with IKEv2, until it expires with IKEv1."""


class Identity(NamedTuple):
    """What a label says."""

    pop: int
    backend: int


def id_bits(plan: SpiPlan) -> int:
    """Return how many bits tell one backend of the site from another."""
    return plan.pop_bits + plan.backend_bits


def check_bits(plan: SpiPlan) -> int:
    """Return how many bits of a label are left for the check."""
    return LABEL_BITS - GENERATION_BITS - id_bits(plan)


def prefix(plan: SpiPlan) -> int:
    """Return generation and check bits in place within the top 32 bits of an IKE SPI.

    The check is one value per plan, hashed from its layout: a random SPI passes for a label with odds of
    2**-(3 + check bits), and labels of a PoP with another layout are not misread but unlabelled.
    """
    text = f"{plan.site}/{plan.pop_bits}/{plan.backend_bits}/{plan.sa_bits}/{plan.esp_base}/{plan.generation}"
    bits = check_bits(plan)
    check = int.from_bytes(blake2s(text.encode(), digest_size=4).digest(), "big") >> (32 - bits) if bits > 0 else 0
    return (plan.generation << (bits + id_bits(plan))) | (check << id_bits(plan))


def prefix_mask(plan: SpiPlan) -> int:
    """Return which of the top 32 bits `prefix` covers."""
    return (0xFFFFFFFF << id_bits(plan)) & 0xFFFFFFFF


def has_room(plan: SpiPlan, identity: Identity) -> bool:
    """Whether the plan has a label for these ids."""
    return 0 <= identity.pop < 1 << plan.pop_bits and 0 <= identity.backend < 1 << plan.backend_bits


def label(plan: SpiPlan, identity: Identity) -> int:
    """Return the top 32 bits of every IKE SPI that this backend chooses."""
    return prefix(plan) | (identity.pop << plan.backend_bits) | identity.backend


def esp_slice(plan: SpiPlan, identity: Identity) -> EspRange:
    """Return the ESP SPIs that this backend chooses from."""
    first = plan.esp_base + (((identity.pop << plan.backend_bits) | identity.backend) << plan.sa_bits)
    return EspRange(first, first + (1 << plan.sa_bits) - 1)


def esp_plan(plan: SpiPlan) -> EspRange:
    """Return all ESP SPIs of the plan, PoP 0 (never given out) included."""
    return EspRange(plan.esp_base, plan.esp_base + (1 << (id_bits(plan) + plan.sa_bits)) - 1)


def free_esp(plans: Iterable[SpiPlan]) -> EspRange | None:
    """Return the largest range of ESP SPIs that is in none of the plans; None when they take all."""
    gaps, start = [], ESP_RESERVED
    for first, last in sorted(esp_plan(plan) for plan in plans):
        gaps.append(EspRange(start, first - 1))
        start = max(start, last + 1)
    gaps.append(EspRange(start, ESP_SPACE - 1))
    widest = max(gaps, key=lambda gap: gap.last - gap.first)
    return widest if widest.first <= widest.last else None


def identify(plan: SpiPlan, spi: bytes) -> Identity | None:
    """Read the label of an IKE SPI; None when it has none of this plan. Raises `WireError` when it is not 8 bytes."""
    if len(spi) != 8:  # noqa: PLR2004 - RFC 7296 section 3.1: an IKE SPI is 8 octets
        raise WireError("an IKE SPI has 8 bytes", found=spi)
    top = int.from_bytes(spi[:4], "big")
    if top & prefix_mask(plan) != prefix(plan):
        return None
    ids = top & ~prefix_mask(plan) & 0xFFFFFFFF
    return Identity(ids >> plan.backend_bits, ids & ((1 << plan.backend_bits) - 1))


def identify_esp(plan: SpiPlan, spi: int) -> Identity | None:
    """Read the owner of an ESP SPI; None outside the plan."""
    whole = esp_plan(plan)
    if not whole.first <= spi <= whole.last:
        return None
    ids = (spi - plan.esp_base) >> plan.sa_bits
    return Identity(ids >> plan.backend_bits, ids & ((1 << plan.backend_bits) - 1))


def labels(plan: SpiPlan, pop: int, backends: Iterable[int], previous: Iterable[SpiPlan] = ()) -> Labels:
    """Return what the balancer of `pop` matches for its labelled backends.

    SAs made under `previous` plans live on until they end, so those are matched as well. A backend whose id an older
    plan has no room for came later, and has no SA of that plan.
    """
    identities = [Identity(pop, backend) for backend in sorted(backends)]
    if not identities:
        return Labels()
    plans = (plan, *previous)
    known = [(one, identity) for one in plans for identity in identities if has_room(one, identity)]
    return Labels(
        ike={label(one, identity): identity.backend for one, identity in known},
        esp={esp_slice(one, identity): identity.backend for one, identity in known},
        prefixes=tuple(LabelPrefix(prefix(one), prefix_mask(one)) for one in plans),
        # Plans may share their layout of ESP.
        esp_plans=tuple(dict.fromkeys(esp_plan(one) for one in plans)),
    )
