"""Text of the kernel: /proc/stat, /proc/net/dev, /proc/net/stat/nf_conntrack, /proc/net/pppol2tp, /proc/PID/stat."""

from __future__ import annotations

from collections.abc import Container, Iterable
from typing import Final

from popctl.model.meter import ConntrackCounters, CpuTicks, HostTicks, L2tpCount, LinkCounters
from popctl.wire.errors import WireError

_CPU_FIELDS: Final = 8
"""user nice system idle iowait irq softirq steal; guest time is part of user time already."""
_DEV_FIELDS: Final = 16
_START_FIELD: Final = 22 - 3
"""Counted from 0 and from the field after the name, the third."""
_ENDED: Final = frozenset("ZX")
_MAX_DIGITS: Final = 20


def cpu(text: str) -> HostTicks:
    """Read /proc/stat (proc_stat(5)). Raises `WireError`."""
    cores: list[CpuTicks] = []
    everything: CpuTicks | None = None
    for line in text.splitlines():
        name, _, rest = line.partition(" ")
        if name == "cpu":
            everything = _ticks(rest)
        elif name.startswith("cpu") and name[3:].isdigit():
            cores.append(_ticks(rest))
    if everything is None or not cores:
        raise WireError("no cpu lines", found=text)
    return HostTicks(all=everything, cores=tuple(cores))


def _ticks(text: str) -> CpuTicks:
    numbers = _numbers(text.split(), least=_CPU_FIELDS)
    user, nice, system, idle, iowait, irq, softirq, steal = numbers[:_CPU_FIELDS]
    return CpuTicks(user=user + nice, system=system, irq=irq, softirq=softirq, idle=idle + iowait, steal=steal)


def links(text: str) -> dict[str, LinkCounters]:
    """Read /proc/net/dev (proc_net(5)). Raises `WireError`."""
    found = {}
    for line in text.splitlines()[2:]:
        name, colon, rest = line.rpartition(":")
        if not colon:
            raise WireError("no colon after an interface", found=line)
        numbers = _numbers(rest.split(), least=_DEV_FIELDS)
        found[name.strip()] = LinkCounters(
            rx_bytes=numbers[0],
            rx_packets=numbers[1],
            rx_drops=numbers[3],
            tx_bytes=numbers[8],
            tx_packets=numbers[9],
            tx_drops=numbers[11],
        )
    return found


def conntrack(table: str, entries: str, limit: str) -> ConntrackCounters:
    """Read /proc/net/stat/nf_conntrack (one hexadecimal line per core) and the two sysctls. Raises `WireError`."""
    lines = table.splitlines()
    header = lines[0].split() if lines else []
    wanted = {name: _column(header, name) for name in ("insert_failed", "drop", "early_drop")}
    sums = dict.fromkeys(wanted, 0)
    for line in lines[1:]:
        words = line.split()
        for name, column in wanted.items():
            sums[name] += _hexadecimal(words, column)
    return ConntrackCounters(
        entries=_number(entries.strip()),
        limit=_number(limit.strip()),
        insert_failed=sums["insert_failed"],
        drops=sums["drop"],
        early_drops=sums["early_drop"],
    )


def pppol2tp(text: str) -> L2tpCount:
    """Read /proc/net/pppol2tp: the kernel's L2TP tunnels and sessions. Raises `WireError`.

    After a heading of several lines a tunnel's line begins with TUNNEL and a session's with SESSION.
    """
    if not text.startswith("PPPoL2TP"):
        raise WireError("no PPPoL2TP heading", found=text)
    # The heading names the fields in lines that begin with the same words; only real names are quoted.
    lines = [line.strip() for line in text.splitlines()]
    tunnels = sum(line.startswith("TUNNEL '") for line in lines)
    sessions = sum(line.startswith("SESSION '") for line in lines)
    return L2tpCount(tunnels=tunnels, sessions=sessions)


def start_ticks(text: str) -> int | None:
    """Read when a process began, in clock ticks since boot: field 22 of /proc/PID/stat. Raises `WireError`.

    None for one that has ended and only waits for its parent to notice.
    """
    # The name of the program may hold anything, so fields are counted from the last parenthesis.
    words = text.rpartition(")")[2].split()
    if len(words) <= _START_FIELD:
        raise WireError("too few fields", found=text)
    return None if words[0] in _ENDED else _number(words[_START_FIELD])


def no_state(text: str) -> int:
    """Read XfrmInNoStates of /proc/net/xfrm_stat: ESP that came for no SA of this host. Raises `WireError`."""
    for line in text.splitlines():
        words = line.split()
        if len(words) == 2 and words[0] == "XfrmInNoStates":  # noqa: PLR2004 - name and number
            return _number(words[1])
    raise WireError("no XfrmInNoStates", found=text)


def flows_of(text: str, addresses: Container[str]) -> int:
    """Count the lines of /proc/net/nf_conntrack with one of these addresses at either end, before or after NAT."""
    ends = ("src=", "dst=")
    return sum(
        any(word[4:] in addresses for word in line.split() if word.startswith(ends)) for line in text.splitlines()
    )


def _column(header: list[str], name: str) -> int:
    try:
        return header.index(name)
    except ValueError:
        raise WireError(f"no column {name}", found=" ".join(header)) from None


def _hexadecimal(words: list[str], column: int) -> int:
    try:
        return int(words[column], 16)
    except (IndexError, ValueError):
        raise WireError("not a line of hexadecimal numbers", found=" ".join(words)) from None


def _numbers(words: Iterable[str], *, least: int) -> list[int]:
    found = [_number(word) for word in words]
    if len(found) < least:
        raise WireError(f"fewer than {least} numbers", found=" ".join(map(str, found)))
    return found


def _number(word: str) -> int:
    if not (word.isascii() and word.isdigit() and len(word) <= _MAX_DIGITS):
        raise WireError("not a number", found=word)
    return int(word)
