"""strongSwan's side of the SPI plan: the settings of one backend, and whether live SAs follow them.

charon.opt of strongSwan 5.8+: `spi_mask` and `spi_label` are read once at start; `spi_min` and `spi_max` at every
allocation, so that `swanctl --reload-settings` is enough for them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from popctl.model.balancer import Problem, SpiPlan
from popctl.model.observation import Outcome
from popctl.model.route import Address
from popctl.wire.errors import WireError
from popctl.wire.spi import SPI_MASK, UNROUTABLE_LABEL, Identity, esp_slice, free_esp, identify, identify_esp, label

SYSCTLS: Mapping[str, str] = {
    "net.ipv4.conf.all.rp_filter": "2",
    "net.ipv4.conf.default.rp_filter": "2",
    "net.ipv4.conf.all.arp_ignore": "1",
    "net.ipv4.conf.all.arp_announce": "2",
}
"""Packets for the VIP come from the balancer and replies leave elsewhere (loose return path); the VIP on loopback must
not be answered for by ARP on the link that the balancer shares."""

_STAY = """\
    plugins {
        kernel-netlink {
            # The VIP is on no interface that replies leave by: to strongSwan any change of an address or a route (each
            # new PPP link too) is a lost path, and it would delete the SAs of all clients with MOBIKE.
            roam_events = no
        }
    }
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """What the live SAs of a backend say about its settings."""

    outcome: Outcome
    """UNKNOWN: there is no SA to see an SPI of."""
    ike_seen: int
    esp_seen: int
    problems: tuple[Problem, ...]


def settings(plan: SpiPlan, identity: Identity) -> dict[str, str]:
    """Return the keys of the section `charon`."""
    owned = esp_slice(plan, identity)
    return {
        "spi_mask": f"0x{SPI_MASK:016x}",
        "spi_label": f"0x{label(plan, identity) << 32:016x}",
        "spi_min": f"0x{owned.first:08x}",
        "spi_max": f"0x{owned.last:08x}",
    }


def unlabelled_settings(plans: Sequence[SpiPlan]) -> dict[str, str]:
    """Return the keys for a backend whose SPIs are in no plan; without a range where the plans take all of ESP."""
    keys = {"spi_mask": f"0x{SPI_MASK:016x}", "spi_label": f"0x{UNROUTABLE_LABEL << 32:016x}"}
    free = free_esp(plans)
    return keys if free is None else keys | {"spi_min": f"0x{free.first:08x}", "spi_max": f"0x{free.last:08x}"}


def charon_section(plan: SpiPlan, identity: Identity) -> str:
    """Return the section `charon` of strongswan.conf for one backend."""
    return _section(settings(plan, identity))


def _section(keys: Mapping[str, str]) -> str:
    return "charon {\n" + "".join(f"    {k} = {v}\n" for k, v in keys.items()) + _STAY + "}\n"


def render(plan: SpiPlan, identity: Identity, name: str, vips: Sequence[Address]) -> str:
    """Return everything a backend needs, ready to paste, in three parts."""
    who = f"PoP {identity.pop}, backend {identity.backend}, plan {plan.site} generation {plan.generation}"
    return _three_parts(f"{name}: {who}", charon_section(plan, identity), vips)


def render_unlabelled(plans: Sequence[SpiPlan], name: str, vips: Sequence[Address]) -> str:
    """Return the same for a backend that is not labelled, should it be a strongSwan."""
    return _three_parts(f"{name}: not labelled, and so in no plan", _section(unlabelled_settings(plans)), vips)


def _three_parts(title: str, section: str, vips: Sequence[Address]) -> str:
    sysctls = "".join(f"{key} = {value}\n" for key, value in SYSCTLS.items())
    addresses = "".join(
        f"ip address add {vip}/{vip.max_prefixlen} dev lo{' nodad' if vip.version == 6 else ''}\n"  # noqa: PLR2004
        for vip in vips
    )
    return (
        f"# {title}\n"
        "# /etc/strongswan.d/popctl.conf; the label needs a restart of charon, the range `swanctl --reload-settings`.\n"
        f"{section}\n"
        "# /etc/sysctl.d/60-popctl.conf\n"
        f"{sysctls}\n"
        "# The VIP, on loopback; name it in local_addrs of every connection.\n"
        f"{addresses}"
    )


def check(plans: Sequence[SpiPlan], identity: Identity, sas: Sequence[Mapping[str, Any]]) -> Check:
    """Judge what `list-sas` of VICI shows: the backend's own SPI of every SA must carry its label or be in its slice.

    Of one of `plans`, whose first is what the backend is told to follow if it follows none.

    Raises:
        WireError: an SPI in the answer is not hex.
    """
    problems: list[Problem] = []
    wanted = settings(plans[0], identity)
    ike_seen = esp_seen = 0
    for sa in sas:
        own = _hex(sa, "initiator-spi" if _text(sa, "initiator") == "yes" else "responder-spi")
        if any(own):
            ike_seen += 1
            if not any(identify(plan, own) == identity for plan in plans):
                problems.append(_problem("charon.spi_label", f"IKE SPI {own.hex()}", wanted))
        for child in sa.get("child-sas", {}).values():
            spi = int.from_bytes(_hex(child, "spi-in"), "big")
            if spi:
                esp_seen += 1
                if not any(identify_esp(plan, spi) == identity for plan in plans):
                    problems.append(_problem("charon.spi_min", f"ESP SPI {spi:#010x}", wanted))
    seen = ike_seen + esp_seen
    outcome = Outcome.FAIL if problems else Outcome.PASS if seen else Outcome.UNKNOWN
    return Check(outcome=outcome, ike_seen=ike_seen, esp_seen=esp_seen, problems=tuple(problems))


def _problem(key: str, what: str, wanted: Mapping[str, str]) -> Problem:
    values = ", ".join(f"{k} = {v}" for k, v in wanted.items())
    return Problem(key=key, text=f"{what} does not follow the plan", remedy=f"set {values}; restart charon")


def _text(entry: Mapping[str, Any], key: str) -> str:
    value = entry.get(key, b"")
    return value.decode(errors="replace") if isinstance(value, bytes) else str(value)


def _hex(entry: Mapping[str, Any], key: str) -> bytes:
    try:
        return bytes.fromhex(_text(entry, key))
    except ValueError as error:
        raise WireError(f"{key} is not hex", found=_text(entry, key)) from error
