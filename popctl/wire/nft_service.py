"""The chains and maps of one balanced service. Chain by chain the same as `popctl.core.steer`.

Offsets are bits from the UDP header: on port 500 IKE starts at 64 (initiator SPI 64, responder SPI 128, version 200,
flags 216); on 4500 the non-ESP marker moves all of them by 32.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from popctl.model.balancer import BalancedService, HashKey, Unmatched
from popctl.model.reason import Reason
from popctl.wire.nft_family import FAMILIES, Family
from popctl.wire.nft_text import Chain, NftSet, Rule

if TYPE_CHECKING:
    from popctl.wire.nft_text import Elements


def drop_counter(service: BalancedService, reason: Reason) -> str:
    """Return the name of the counter of what a service drops for one reason."""
    return f"drop.{service.name}.{reason}"


def service_sets(service: BalancedService, rows_name: str, rows: Callable[[], Elements]) -> list[NftSet]:
    """Return label and slice maps, the rows, and the memories."""
    name, labels = service.name, service.labels
    slots = {top: b + 1 for top, b in labels.ike.items()}
    slices: Mapping[tuple[int, int], int] = {(r.first, r.last): b + 1 for r, b in labels.esp.items()}
    sets = [
        NftSet(name=f"{name}.labels", key="typeof @th,128,32", value="meta mark", elements=partial(dict, slots)),
        NftSet(
            name=f"{name}.slices",
            key="typeof esp spi",
            value="meta mark",
            flags="interval",
            elements=partial(dict, slices),
        ),
        NftSet(name=rows_name, key="type mark", value="mark", elements=rows),
    ]
    if service.affinity is None:
        return sets
    for version in sorted({vip.version for vip in service.vips}):
        family = FAMILIES[version]
        for memory, key, value in (
            ("by-port", family.client, "meta mark"),
            ("by-address", family.raw_source, "meta mark"),
            ("by-source", family.raw_source, "meta mark"),
            ("native", family.raw_source, ""),
        ):
            sets.append(
                NftSet(
                    name=f"{name}.v{version}.{memory}",
                    key=f"typeof {key}",
                    value=value,
                    flags="dynamic,timeout",
                    size=service.affinity.size,
                    timeout_s=service.affinity.timeout_s,
                    elements=None,
                )
            )
    return sets


def service_chains(service: BalancedService, rows_name: str) -> list[Chain]:
    """Return all chains of a service, `NAME.v4` and `NAME.v6` being the way in."""
    shared = [
        Chain(
            f"{service.name}.pick",
            (
                Rule("row", f"meta mark set meta mark map @{rows_name} goto pick"),
                Rule("no-row", "meta mark set 0"),
            ),
        ),
        Chain(
            f"{service.name}.rescue-row",
            (
                Rule("rescue", f"meta mark set meta mark map @{service.name}.rescue return"),
                Rule("no-rescue", "meta mark set 0"),
            ),
        ),
    ]
    versions = sorted({vip.version for vip in service.vips})
    return shared + [c for v in versions for c in _FamilyChains(service, FAMILIES[v]).all()]


@dataclass(frozen=True, slots=True)
class _FamilyChains:
    """Chains of one service for one address family."""

    service: BalancedService
    family: Family

    def all(self) -> list[Chain]:
        chains = [
            self.entry(),
            self.udp(),
            self.natt(),
            self.chain("keepalive", *self.keepalive()),
            self.chain("keep-client", *self.keep("by-port"), self.end(Reason.AFFINITY)),
            self.chain("esp", *self.esp("esp-native", "esp spi", "learn-esp")),
            self.chain("ike500", *self.ike(0)),
            self.chain("ike4500", *self.ike(32)),
            self.chain("learn-esp", *self.keep("by-address"), *self.keep("native"), self.end(Reason.ESP_SLICE)),
            self.chain("learn-natt-esp", *self.keep("by-port"), self.end(Reason.ESP_SLICE)),
            self.chain("learn-natt-ike", *self.replace("by-port"), self.end(Reason.IKE_LABEL)),
            self.chain("learn-ike", *self.learn_native(), self.end(Reason.IKE_LABEL)),
            self.chain("new500", *self.new(0)),
            self.chain("new4500", *self.new(32)),
            self.chain("unlabelled", self.unmatched(self.service.unlabelled, Reason.UNLABELLED)),
            self.chain("l2tp", self.l2tp()),
            self.chain("other", self.unmatched(self.service.other, Reason.NOT_SERVED)),
            self.chain("icmp", *self.icmp()),
            self.chain("source", *self.source()),
            self.chain("by-source", *self.replace("by-source"), self.end(Reason.SOURCE_HASH)),
            self.chain("keep-source", *self.keep("by-source"), self.end(Reason.SOURCE_HASH)),
        ]
        if self.by_ports:
            chains.append(self.chain("ports", *self.ports()))
        if self.service.key is HashKey.SOURCE_IP:
            quote = self.hashed("quote-hash", self.family.quote_source, f"goto to.{Reason.ICMP_QUOTE}")
            chains.append(self.chain("quote", *quote))
        return chains

    # Names.

    def name(self, tail: str) -> str:
        return f"{self.service.name}.v{self.family.version}.{tail}"

    def chain(self, tail: str, *rules: Rule) -> Chain:
        return Chain(self.name(tail), rules)

    def goto(self, rule: str, match: str, tail: str) -> Rule:
        return Rule(rule, f"{match} goto {self.name(tail)}".strip())

    def end(self, reason: Reason) -> Rule:
        return Rule(f"to-{reason}", f"goto to.{reason}")

    def drop(self, reason: Reason, match: str = "") -> Rule:
        return Rule(f"drop-{reason}", f'{match} counter name "{drop_counter(self.service, reason)}" drop'.strip())

    @property
    def by_ports(self) -> bool:
        return self.service.key in (HashKey.SOURCE_IP_PORT, HashKey.FIVE_TUPLE)

    # Chains.

    def entry(self) -> Chain:
        base = f"{self.service.name}.v{self.family.version}"
        return Chain(
            base,
            (
                Rule("notrack", "notrack"),
                Rule("clear", "meta mark set 0"),
                self.goto("esp", "meta l4proto esp", "esp"),
                self.goto("udp", "meta l4proto udp", "udp"),
                self.goto("icmp", f"meta l4proto {self.family.icmp}", "icmp"),
                self.goto("other", "", "other"),
            ),
        )

    def udp(self) -> Chain:
        return self.chain(
            "udp",
            self.goto("ike", "udp dport 500", "ike500"),
            self.goto("natt", "udp dport 4500", "natt"),
            self.goto("l2tp", "udp dport 1701", "l2tp"),
            self.goto("other", "", "other"),
        )

    def natt(self) -> Chain:
        return self.chain(
            "natt",
            self.goto("keepalive", "udp length 9", "keepalive"),
            self.drop(Reason.MALFORMED, "udp length < 16"),
            self.goto("non-esp-marker", "@th,64,32 0", "ike4500"),
            *self.esp("esp-in-udp", "@th,64,32", "learn-natt-esp"),
        )

    def keepalive(self) -> tuple[Rule, ...]:
        """Forward those of remembered clients, whose time begins anew: an idle client says nothing else."""
        if self.service.affinity is None:
            return (self.drop(Reason.KEEPALIVE),)
        lookup = f"meta mark set {self.family.client} map @{self.name('by-port')}"
        return (self.goto("keepalive", lookup, "keep-client"), self.drop(Reason.KEEPALIVE))

    def esp(self, rule: str, spi: str, then: str) -> tuple[Rule, ...]:
        rules = [self.goto(rule, f"meta mark set {spi} map @{self.service.name}.slices", then)]
        for first, last in self.service.labels.esp_plans:
            rules.append(self.drop(Reason.STRAY, f"{spi} {first:#x}-{last:#x}"))
        return (*rules, self.goto("unlabelled", "", "unlabelled"))

    def ike(self, shift: int) -> tuple[Rule, ...]:
        version, flags = f"@th,{200 + shift},4", f"@th,{216 + shift},8 & 0x08"
        responder, initiator = f"@th,{128 + shift},32", f"@th,{64 + shift},32"
        candidates = (
            ("responder", f"{version} 1", responder),
            ("initiator", f"{version} 1", initiator),
            ("responder", f"{version} != 1 {flags} == 0x08", responder),
            ("initiator", f"{version} != 1 {flags} == 0x00", initiator),
        )
        labels = self.service.labels
        hit = f"goto {self.name('learn-natt-ike' if shift else 'learn-ike')}"
        rules = [
            self.drop(Reason.MALFORMED, f"udp length < {8 + shift // 8 + 28}"),
            self.goto("first-message", f"@th,{128 + shift},64 0", f"new{4500 if shift else 500}"),
        ]
        for role, match, spi in candidates if labels.ike else ():
            rules.append(Rule(f"{role}-label", f"{match} meta mark set {spi} map @{self.service.name}.labels {hit}"))
        for _, match, spi in candidates if labels.ike else ():
            for prefix, mask in labels.prefixes:
                rules.append(self.drop(Reason.STRAY, f"{match} {spi} & {mask:#x} == {prefix:#x}"))
        return (*rules, self.goto("unlabelled", "", "unlabelled"))

    def keep(self, memory: str) -> tuple[Rule, ...]:
        """Remember where this client is when nothing is remembered, else only keep it from timing out."""
        if self.service.affinity is None:
            return ()
        return (Rule("keep", f"update @{self.name(memory)} {{ {self.entry_of(memory)} }}"),)

    def replace(self, memory: str, only_if: str = "") -> tuple[Rule, ...]:
        """Remember where this client is now. `update` alone renews only the time and leaves an old backend in place."""
        if self.service.affinity is None:
            return ()
        match = f"{self.family.raw_source} @{self.name(only_if)} " if only_if else ""
        entry = f"@{self.name(memory)} {{ {self.entry_of(memory)} }}"
        return (Rule("forget", f"{match}delete {entry}"), Rule("learn", f"{match}update {entry}"))

    def learn_native(self) -> tuple[Rule, ...]:
        """Remember by its address a client whose address is its own, and that it is, for as long as its SA is up.

        Main and aggressive mode of IKEv1 (2 and 4) come through any NAT, what an SA that is up says on 500 does not.
        """
        if self.service.affinity is None:
            return ()
        match = f"{self.family.raw_source} @{self.name('native')} @th,208,8 > 4"
        keep = Rule("keep-native", f"{match} update @{self.name('native')} {{ {self.entry_of('native')} }}")
        return (*self.replace("by-address", only_if="native"), keep)

    def entry_of(self, memory: str) -> str:
        if memory == "native":
            return self.family.raw_source
        return f"{self.family.client if memory == 'by-port' else self.family.raw_source} : meta mark"

    def remembered(self, key: str, memory: str) -> tuple[Rule, ...]:
        """Send a client to where it is remembered, if that is alive."""
        if self.service.affinity is None:
            return ()
        lookup = f"meta mark set {key} map @{self.name(memory)} meta mark @alive"
        return (Rule("affinity", f"{lookup} goto to.{Reason.AFFINITY}"),)

    def new(self, shift: int) -> tuple[Rule, ...]:
        key, memory = (self.family.client, "by-port") if shift else (self.family.raw_source, "by-address")
        known = self.remembered(key, memory)
        if self.service.key is not HashKey.SPI:
            return (*known, self.goto("not-by-spi", "", "source"))
        return (*known, *self.hashed("spi-hash", f"@th,{64 + shift},64", f"goto to.{Reason.NEW_SA}"))

    def hashed(self, rule: str, key: str, then: str) -> tuple[Rule, ...]:
        """Pick by row; when its first four backends are out, by the rescue map; else there is none."""
        name, rows = self.service.name, max(1, self.service.rows.count)
        row = f"meta mark set jhash {key} mod {rows} seed {self.service.seed:#x}"
        return (
            Rule(rule, f"{row} jump {name}.pick"),
            Rule("picked", f"meta mark != 0 {then}"),
            Rule(f"{rule}-rescue", f"{row} jump {name}.rescue-row"),
            Rule("rescued", f"meta mark != 0 {then}"),
            self.drop(Reason.NO_BACKEND),
        )

    def unmatched(self, policy: Unmatched, reason: Reason) -> Rule:
        return self.goto("by-source", "", "source") if policy is Unmatched.SOURCE else self.drop(reason)

    def l2tp(self) -> Rule:
        allowed = self.service.plain_l2tp
        return self.goto("plain-l2tp", "", "source") if allowed else self.drop(Reason.UNPROTECTED_L2TP)

    def source(self) -> tuple[Rule, ...]:
        rules = [self.goto("ports", "meta l4proto udp", "ports")] if self.by_ports else []
        if self.service.affinity is not None:
            lookup = f"meta mark set {self.family.raw_source} map @{self.name('by-source')} meta mark @alive"
            rules.append(self.goto("source-memory", lookup, "keep-source"))
        return (*rules, *self.hashed("source-hash", self.family.source, f"goto {self.name('by-source')}"))

    def ports(self) -> tuple[Rule, ...]:
        key = f"{self.family.source} . udp sport"
        if self.service.key is HashKey.FIVE_TUPLE:
            key = f"{self.family.source} . {self.family.destination} . meta l4proto . udp sport . udp dport"
        return self.hashed("port-hash", key, f"goto to.{Reason.SOURCE_HASH}")

    def icmp(self) -> tuple[Rule, ...]:
        family = self.family
        rules = [self.goto("no-error", family.errors, "other")]
        if self.service.affinity is not None:
            end = f"goto to.{Reason.ICMP_QUOTE}"
            natt = f"{family.quote} @th,{family.quote_protocol},8 17 @th,{family.quote_port},16 4500"
            by_port = f"{family.quote_client} map @{self.name('by-port')}"
            rules.append(Rule("quote-address-port", f"{natt} meta mark set {by_port} {end}"))
            for memory in ("address", "source"):
                lookup = f"meta mark set {family.quote_source} map @{self.name(f'by-{memory}')}"
                rules.append(Rule(f"quote-{memory}", f"{family.quote} {lookup} {end}"))
        if self.service.key is HashKey.SOURCE_IP:
            rules.append(Rule("quote-readable", f"{family.quote} goto {self.name('quote')}"))
        return (*rules, Rule("quote-replicate", "goto to.replicated"))
