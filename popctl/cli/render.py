"""The agent's answers as tables and trees for people. Shows; judges nothing."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime

from rich.console import Console
from rich.table import Table
from rich.text import Text
from rich.tree import Tree

from popctl.cli.durations import show_duration
from popctl.cli.options import printable
from popctl.cli.progress import not_connected
from popctl.cli.render_load import load_lines, meter_lines
from popctl.wire.agent_api import (
    BackendStatus,
    IntentStatus,
    MemoryStatus,
    ProbeStatus,
    RouteStatus,
    ServiceStatus,
    SessionStatus,
    Status,
    Why,
)
from popctl.wire.agent_balancer import BalancerStatus

_GOOD = frozenset(("up", "normal", "proven", "pass", "established", "alive", "in force"))
_BAD = frozenset(("down", "withdrawn", "failed", "fail", "session-down", "no session", "out", "cut", "not in force"))
_WIDTH_WITHOUT_TERMINAL = 160


def console() -> Console:
    """Return a console on standard output. A pipe gets plain lines that are not cut at 80 columns."""
    plain = Console(markup=False, emoji=False, highlight=False)
    if plain.is_terminal:
        return plain
    return Console(markup=False, emoji=False, highlight=False, width=_WIDTH_WITHOUT_TERMINAL)


def show_status(status: Status, out: Console) -> None:
    """Print everything about the PoP."""
    pop = status.pop
    out.print(
        f"PoP {pop.name} ({pop.id}, {pop.location}), AS {pop.asn}, popctl {status.version},"
        f" up {show_duration(status.uptime_s)}, configuration {status.config_digest[:12]}"
    )
    for alarm in _alarms(status):
        out.print(Text(alarm, style="bold red"))
    out.print(_services(status.services))
    out.print(_routes(route for service in status.services for route in service.routes))
    out.print(_sessions(status.sessions))
    out.print(_backends(status.backends))
    if status.balancer is not None:
        out.print(_balancer(status.balancer))
    if status.load is not None:
        out.print(_plain("\n".join(map(printable, load_lines(status.load)))))
    for backend in status.backends:
        for line in () if backend.meter is None else meter_lines(backend.name, backend.meter):
            out.print(_plain(line))
    drains = [one for one in status.backends if one.drain is not None]
    if drains:
        out.print(_drains(drains))
    if status.intents:
        out.print(_intents(status.intents))


def show_why(why: Why, out: Console) -> None:
    """Print the chain from a prefix down to the last answer of every probe."""
    service = why.service
    root = Tree(_line(why.prefix, "belongs to service", service.name))
    decision = root.add(_line("decision", service.announce, f"({service.reason}){_until(service)}"))
    decision.add(f"{service.healthy} healthy, {service.unknown} unknown, {service.needed} needed")
    decision.add(_memory(why.memory))
    for line in () if why.load is None else load_lines(why.load):
        decision.add(_plain(line))
    for intent in why.intents:
        decision.add(_line("order", intent.kind, f"{intent.target} by {intent.owner}: {intent.reason}"))
    for backend in why.backends:
        branch = root.add(_line(f"backend {backend.name}", backend.verdict, _because(backend)))
        if backend.balancer is not None:
            branch.add(_line("balancer", backend.balancer.place, f"({backend.balancer.reason})"))
        for line in () if backend.meter is None else meter_lines(backend.name, backend.meter):
            branch.add(_plain(line))
        for probe in backend.probes:
            branch.add(_probe(probe))
    if why.balancer is not None:
        root.add(_balancer(why.balancer))
    established = {session.neighbor: session.established for session in why.sessions}
    routes = root.add("BGP" if why.connected else Text(f"BGP: {not_connected(why.exabgp_problem)}", style="bold red"))
    for route in service.routes:
        session = "established" if established.get(route.neighbor) else "no session"
        wanted = "wanted" if route.wanted else "not wanted"
        branch = routes.add(_line(f"neighbor {route.neighbor}", session))
        branch.add(_line(f"{wanted}, {'carried' if route.carried else 'not carried'}:", route.state))
    out.print(root)


def _alarms(status: Status) -> Iterable[str]:
    if not status.connected:
        yield f"{not_connected(status.exabgp_problem)}: nothing below about routes is proven"
    if status.balancer is not None and not status.balancer.in_force:
        yield f"the balancer is not in force: {status.balancer.problem or 'not read back yet'}"
    for alarm in status.balancer.mis_steer_alarms if status.balancer is not None else ():
        yield printable(alarm)
    if status.state_corrupt:
        yield "the state file cannot be believed; orders may be forgotten (popctl state reset)"
    if status.stopping:
        yield "the agent is stopping"
    if status.load is not None and status.load.playbook is not None and status.load.playbook.problem:
        yield f"the playbook is not in force: {status.load.playbook.problem}"
    if any(route.state == "failed" for service in status.services for route in service.routes):
        yield "a change did not reach its neighbor even after escalation"


def _services(services: Iterable[ServiceStatus]) -> Table:
    table = _table("service", "announce", "reason", "healthy", "unknown", "needed", "until")
    for one in services:
        until = "" if one.until_s is None else show_duration(one.until_s)
        counts = (str(one.healthy), str(one.unknown), str(one.needed))
        table.add_row(_plain(one.name), _colour(one.announce), _plain(one.reason), *counts, until)
    return table


def _routes(routes: Iterable[RouteStatus]) -> Table:
    table = _table("prefix", "neighbor", "wanted", "carried", "state")
    for one in routes:
        table.add_row(one.prefix, one.neighbor, _yes(flag=one.wanted), _yes(flag=one.carried), _colour(one.state))
    return table


def _sessions(sessions: Iterable[SessionStatus]) -> Table:
    table = _table("session", "AS", "state")
    for one in sessions:
        table.add_row(one.neighbor, str(one.asn), _colour("established" if one.established else "down"))
    return table


def _backends(backends: Iterable[BackendStatus]) -> Table:
    table = _table("backend", "address", "verdict", "reason", "probe", "balancer", "probes (verdict, last rtt, age)")
    for one in backends:
        probes = Text("; ").join(_short(probe) for probe in one.probes)
        verdict = _colour("draining" if one.draining else one.verdict)
        why = (_plain(one.reason), _plain(one.probe or ""))
        table.add_row(_plain(one.name), one.address, verdict, *why, _place(one), probes)
    return table


def _balancer(balancer: BalancerStatus) -> Text:
    state = _colour("in force" if balancer.in_force else "not in force")
    counts = f"{balancer.writes} writes, {balancer.elements_changed} elements, {balancer.drift_repairs} repairs"
    told = "unknown" if balancer.mis_steered is None else str(balancer.mis_steered)
    steered = f"mis-steered packets {told}, split clients {balancer.split_clients}"
    return Text("balancer ").append_text(state).append(f", since the start {counts}, {steered}")


def _drains(backends: Iterable[BackendStatus]) -> Table:
    table = _table("drain of", "SAs left", "oldest", "empty in about", "deadline in", "then")
    for one in backends:
        drain = one.drain
        if drain is None:
            continue
        left = drain.problem or ("not asked" if drain.sas_left is None else str(drain.sas_left))
        times = [_duration(drain.oldest_s), _duration(drain.empty_in_s), _duration(drain.deadline_left_s)]
        table.add_row(_plain(one.name), _plain(left), *times, drain.then)
    return table


def _duration(seconds: float | None) -> str:
    return "" if seconds is None else show_duration(seconds)


def _intents(intents: Iterable[IntentStatus]) -> Table:
    table = _table("order", "target", "owner", "since", "drain left", "reason")
    for one in intents:
        since = _when(one.created_unix_s)
        left = show_duration(one.drain_left_s) if one.drain_left_s else ""
        table.add_row(one.kind, _plain(one.target), _plain(one.owner), since, left, _plain(one.reason))
    return table


def _place(backend: BackendStatus) -> Text:
    found = backend.balancer
    if found is None:
        return Text("")
    return _line("", found.place, end="" if found.in_kernel else " (not in the kernel yet)")


def _short(probe: ProbeStatus) -> Text:
    rtt = "" if probe.last_rtt_s is None else f", {probe.last_rtt_s * 1000:.1f} ms"
    age = ", never" if probe.age_s is None else f", {show_duration(probe.age_s)} ago"
    return _line(probe.name, probe.verdict, end=rtt + age)


def _probe(probe: ProbeStatus) -> Text:
    last = "no answer yet"
    if probe.last_outcome is not None and probe.age_s is not None:
        rtt = "" if probe.last_rtt_s is None else f" in {probe.last_rtt_s * 1000:.1f} ms"
        detail = f" ({probe.last_detail})" if probe.last_detail else ""
        last = f"last {probe.last_outcome}: {probe.last_reason}{rtt}{detail}, {show_duration(probe.age_s)} ago"
    leaning = "" if probe.leaning == probe.verdict else f", leaning {probe.leaning}"
    return _line(f"probe {probe.name}", probe.verdict, end=f" ({probe.reason}, streak {probe.streak}{leaning}); {last}")


def _because(backend: BackendStatus) -> str:
    probe = f" by probe {backend.probe}" if backend.probe else ""
    return f"({backend.reason}{probe}){', draining' if backend.draining else ''}"


def _memory(memory: MemoryStatus) -> Text:
    parts = [f"phase {memory.phase} for {show_duration(memory.since_s)}"]
    if memory.warm_up_left_s:
        parts.append(f"warm-up for another {show_duration(memory.warm_up_left_s)}")
    if memory.hold_down_left_s:
        parts.append(f"hold-down for another {show_duration(memory.hold_down_left_s)}")
    if memory.unknown_for_s is not None:
        parts.append(f"too little known for {show_duration(memory.unknown_for_s)}")
    if memory.flaps:
        parts.append(f"{memory.flaps} falls in the flap window")
    return _plain(", ".join(parts))


def _until(service: ServiceStatus) -> str:
    return "" if service.until_s is None else f", looked at again in {show_duration(service.until_s)}"


def _when(unix_s: float) -> str:
    try:
        return datetime.fromtimestamp(unix_s, UTC).strftime("%Y-%m-%d %H:%M:%SZ")
    except (ValueError, OverflowError, OSError):
        return f"{unix_s:.0f}"


def _table(*columns: str) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in columns:
        table.add_column(column, overflow="fold")
    return table


def _line(before: str, coloured: str, after: str = "", end: str = "") -> Text:
    text = Text(printable(before)).append(" ").append_text(_colour(coloured))
    return text.append(printable(f" {after}{end}" if after else end))


def _colour(word: str) -> Text:
    style = "green" if word in _GOOD else "red" if word in _BAD else "yellow"
    return Text(printable(word), style=style)


def _plain(text: str) -> Text:
    return Text(printable(text))


def _yes(*, flag: bool) -> str:
    return "yes" if flag else "no"
