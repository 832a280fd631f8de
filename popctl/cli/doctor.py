"""`popctl doctor`: the host's settings against what the balancer and its VPN daemons need."""

from __future__ import annotations

import shlex
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import App, Parameter

from popctl.cli.audit import AUDIT_FILE
from popctl.cli.client import UsageError
from popctl.cli.exits import Exit
from popctl.cli.options import AsJson, attempt, printable, write_json

if TYPE_CHECKING:
    from popctl.model.balancer import BalancedService, Forward
    from popctl.model.finding import Finding
    from popctl.model.host import Facts
    from popctl.model.pop import ViciEndpoint
    from popctl.model.route import Address

_TIMEOUT_S = 10.0

doctor_app = App(name="doctor", help="Looks for what is wrong with this host.")


@doctor_app.default
def doctor(
    *,
    inventory: Annotated[Path | None, Parameter(name="--inventory")] = None,
    vip: tuple[str, ...] = (),
    uplink: tuple[str, ...] = (),
    backend_link: tuple[str, ...] = (),
    vici: Annotated[tuple[str, ...], Parameter(name="--vici")] = (),
    affinity_timeout_s: int = 600,
    ipv6: bool = False,
    fix: bool = False,
    audit: Annotated[Path, Parameter(name="--audit")] = AUDIT_FILE,
    json: AsJson = False,
) -> int:
    """Lint this host: each finding says what is wrong, why it matters and the command that mends it.

    Parameters
    ----------
    inventory
        The agent's configuration, or a balancer's inventory: VIPs, how long clients are remembered, the way to
        backends, and backends[].vici.
    vip
        Anycast addresses, where there is no inventory: are their packets tracked?
    uplink
        Interfaces towards clients, whose MTU links towards backends must have; 1500 if none is named.
    backend_link
        Interfaces towards backends, besides those of the inventory.
    vici
        NAME=SOCKET of backends whose timers, and algorithms of live SAs, are judged, besides those of the
        inventory. Exit 69: one of them says nothing.
    affinity_timeout_s
        The balancer's memory of clients, where there is no inventory.
    ipv6
        There are IPv6 VIPs, where there is no inventory.
    fix
        Run the commands that change one kernel setting and nothing else, until the next boot.
    audit
        Where the agent keeps its audit; what was mended is added if the file is there.
    """
    from popctl.core.doctor import findings  # noqa: PLC0415 - only this command needs them
    from popctl.senses.doctor import facts, read_lifetimes  # noqa: PLC0415

    def work() -> int:
        balancer = _balancer(inventory, vip, affinity_timeout_s, _vici(vici))
        lifetimes, silent = read_lifetimes(balancer.endpoints)
        look: Callable[[], Facts] = partial(
            facts,
            uplinks=uplink,
            backend_links=backend_link,
            backends=balancer.backends,
            lifetimes=lifetimes,
            affinity_timeout_s=balancer.affinity_s,
            longest_sa_s=balancer.longest_sa_s,
            vips=balancer.vips,
            ipv6=ipv6 or any(one.version == 6 for one in balancer.vips),  # noqa: PLR2004 - IP version
        )
        left = findings(look(), balancer.services)
        done: list[str] = []
        if fix:
            done = [one.command for one in left if one.safe and _run(one)]
            _tell(audit, done)
            # What was ordered and what is are two things.
            left = findings(look(), balancer.services)
        _show(left, done, silent, as_json=json)
        if silent:
            return Exit.UNREACHABLE
        return Exit.PROBLEMS if any(one.severity != "unknown" for one in left) else Exit.OK

    return attempt(work, as_json=json)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Balancer:
    """What is known of the balancer on this host."""

    vips: tuple[Address, ...]
    services: tuple[BalancedService, ...] = ()
    affinity_s: int
    longest_sa_s: float | None = None
    backends: tuple[Forward, ...] = ()
    endpoints: Mapping[str, ViciEndpoint]
    """Of backends that can be asked."""


def _vici(given: tuple[str, ...]) -> dict[str, ViciEndpoint]:
    """Return the sockets by backend. Raises `UsageError`."""
    from popctl.model.pop import ViciEndpoint  # noqa: PLC0415 - as above

    endpoints = {}
    for each in given:
        name, _, path = each.partition("=")
        if not name or not path:
            raise UsageError(f"--vici: found {each!r}: names no backend and socket; remedy: write NAME=SOCKET")
        endpoints[name] = ViciEndpoint(path=Path(path))
    return endpoints


def _balancer(
    inventory: Path | None, vips: tuple[str, ...], affinity_s: int, endpoints: dict[str, ViciEndpoint]
) -> _Balancer:
    from ipaddress import ip_address  # noqa: PLC0415

    if inventory is None:
        try:
            addresses = tuple(ip_address(one) for one in vips)
        except ValueError as error:
            raise UsageError(f"--vip: {error}") from error
        return _Balancer(vips=addresses, affinity_s=affinity_s, endpoints=endpoints)
    from popctl.cli.lb_inventory import load  # noqa: PLC0415 - numpy and YAML only where needed

    found = load(inventory)
    services = found.tables.services
    remembered = [service.affinity.timeout_s for service in services if service.affinity]
    return _Balancer(
        vips=tuple(one for service in services for one in service.vips),
        services=services,
        affinity_s=min(remembered, default=affinity_s),
        longest_sa_s=found.longest_sa_s,
        backends=tuple(found.tables.backends.values()),
        endpoints={**found.endpoints, **endpoints},
    )


def _show(left: tuple[Finding, ...], done: list[str], silent: dict[str, str], *, as_json: bool) -> None:
    if as_json:
        write_json({"done": done, "findings": [asdict(finding) for finding in left], "silent": silent})
        return
    for name, error in silent.items():
        print(printable(f"{name}: {error}"), file=sys.stderr)  # noqa: T201 - a command speaks
    for command in done:
        print(f"done, until the next boot: {command}")  # noqa: T201 - a command speaks
    for finding in left:
        print(f"{finding.severity}: {finding.text}\n  why: {finding.why}\n  mend: {finding.command}")  # noqa: T201


def _tell(audit: Path, done: list[str]) -> None:
    """Add what was mended to the agent's audit, where there is one."""
    if not done or not audit.exists():
        return
    import os  # noqa: PLC0415
    import pwd  # noqa: PLC0415 - needed only here

    from popctl.audit.file import append  # noqa: PLC0415 - same

    entry = {
        "unix_s": time.time(),
        "owner": pwd.getpwuid(os.getuid()).pw_name,
        "reason": "popctl doctor --fix",
        "action": "doctor",
        "commands": done,
    }
    try:
        append(audit, entry, create=False)
    except OSError as error:
        print(f"not audited: {printable(str(audit))}: {error.strerror}", file=sys.stderr)  # noqa: T201 - a command speaks


def _run(finding: Finding) -> bool:
    try:
        done = subprocess.run(
            shlex.split(finding.command), capture_output=True, text=True, timeout=_TIMEOUT_S, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        print(f"{finding.command}: {error}", file=sys.stderr)  # noqa: T201 - a command speaks
        return False
    if done.returncode != 0:
        print(f"{finding.command}: {done.stderr.strip()}", file=sys.stderr)  # noqa: T201 - a command speaks
        return False
    return True
