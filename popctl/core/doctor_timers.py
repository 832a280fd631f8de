"""The system lint on time: what remembers a client must outlast its silence, and an id the SAs of its backend."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from popctl.model.finding import Finding, Severity

if TYPE_CHECKING:
    from popctl.model.host import Facts, Lifetimes

KEEPALIVE_S = 20
"""NAT keepalive of clients (RFC 3948 section 4; strongSwan, Windows and iOS default to 20 s). It renews `by-port`."""
SILENCES = 2
"""What remembers a client must outlast so many of its silences: a packet may be lost, timers have play."""
SA_OUTLIVES_REKEY = 1.1
"""strongSwan ends an SA whose rekey does not come about (`over_time`, `life_time`) a tenth later."""


def timers(facts: Facts) -> Iterator[Finding]:
    """Yield what the balancer's, conntrack's and the backends' times make of each other."""
    yield from _affinity(facts)
    yield from _conntrack_timers(facts)
    yield from _longest_sa(facts)


@dataclass(frozen=True, slots=True)
class _Silence:
    """The longest that any client says nothing: it decides how long entries must live."""

    who: str
    seconds: int
    backend: str = ""
    """Where only rekeys end it: dead peer detection there would end it sooner."""

    @property
    def cure(self) -> str:
        """What shortens it, for a command that can only wait longer."""
        return f"set dpd_delay on {self.backend}, or " if self.backend else ""


def _silence(facts: Facts) -> _Silence:
    """Behind a NAT clients send keepalives; others speak when the backend asks (dead peer detection), or at a rekey."""
    found = [_Silence("a client behind a NAT", KEEPALIVE_S)]
    for each in facts.lifetimes:
        who, rekey = f"a client of {each.backend}", _least_rekey(each)
        if each.dpd_s:
            found.append(_Silence(who, each.dpd_s))
        elif rekey:
            found.append(_Silence(who, rekey, each.backend))
    return max(found, key=lambda one: one.seconds)


def _least_rekey(each: Lifetimes) -> int:
    return min(filter(None, (each.ike_rekey_s, each.esp_rekey_s)), default=0)


def _affinity(facts: Facts) -> Iterator[Finding]:
    remembered, silence = facts.affinity_timeout_s, _silence(facts)
    if remembered is None:
        return
    why = "a re-authentication in the gap can move a client away from its L2TP session"
    if remembered < SILENCES * silence.seconds:
        least = 2 * SILENCES * silence.seconds
        yield Finding(
            name="affinity-timeout",
            severity=Severity.ERROR,
            text=f"affinity is forgotten after {remembered} s; {silence.who} may be silent for {silence.seconds} s",
            why=why,
            command=f"{silence.cure}set affinity.timeout of the service's balancer to at least {least} s",
        )
    endless = [each.backend for each in facts.lifetimes if not each.dpd_s and not _least_rekey(each)]
    if endless:
        yield Finding(
            name="affinity-timeout",
            severity=Severity.WARNING,
            text=f"clients of {', '.join(endless)} may be silent for ever: neither dpd_delay nor rekey_time is set",
            why=why,
            command="set dpd_delay = 30s there",
        )


def _conntrack_timers(facts: Facts) -> Iterator[Finding]:
    if not facts.tracked_vip_flows:
        return
    silence = _silence(facts)
    for kind in ("udp_timeout", "udp_timeout_stream"):
        key = f"net.netfilter.nf_conntrack_{kind}"
        value = facts.sysctls.get(key)
        if value is not None and value <= silence.seconds:
            yield Finding(
                name="conntrack-timeout",
                severity=Severity.ERROR,
                text=f"{key} is {value} s; {silence.who} may be silent for {silence.seconds} s",
                why="a rekey that comes after its entry is gone is taken for a new flow; "
                "with direct return no answer passes here, and the shorter time applies",
                command=f"{silence.cure}sysctl -w {key}={2 * SILENCES * silence.seconds}",
                # So many seconds for all UDP of the host fill the table: not without being asked.
                safe=not silence.backend,
            )
    generic = "net.netfilter.nf_conntrack_generic_timeout"
    value = facts.sysctls.get(generic)
    longest = max(facts.lifetimes, key=lambda one: one.esp_rekey_s, default=None)
    if value is not None and longest is not None and value <= longest.esp_rekey_s:
        yield Finding(
            name="conntrack-esp",
            severity=Severity.WARNING,
            text=f"conntrack forgets native ESP after {value} s; {longest.backend} rekeys it after "
            f"{longest.esp_rekey_s} s",
            why="an idle client loses its entry long before its SA",
            command=f"sysctl -w {generic}={2 * longest.esp_rekey_s}",
            safe=True,
        )


def _longest_sa(facts: Facts) -> Iterator[Finding]:
    rest = facts.longest_sa_s
    why = "the id of a backend that was taken out may go to another while a client still uses SAs with it"
    if rest is None:
        return
    for each in facts.lifetimes:
        lifetime = round(max(each.ike_rekey_s, each.esp_rekey_s) * SA_OUTLIVES_REKEY)
        if lifetime > rest:
            yield Finding(
                name="longest-sa",
                severity=Severity.ERROR,
                text=f"balancer.longest_sa is {rest:.0f} s; an SA of {each.backend} may live for {lifetime} s",
                why=why,
                command=f"set balancer.longest_sa to at least {lifetime}s in the configuration",
            )
        elif not (each.ike_rekey_s and each.esp_rekey_s):
            yield Finding(
                name="longest-sa",
                severity=Severity.UNKNOWN,
                text=f"how long SAs of {each.backend} live is up to clients: its rekey_time is 0",
                why=why,
                command="set rekey_time there, or balancer.longest_sa to what clients are set to",
            )
