"""`popctl doctor`: the host's settings against what the balancer and its VPN daemons need."""

from __future__ import annotations

import shlex
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

from cyclopts import App, Parameter

from popctl.cli.exits import Exit
from popctl.cli.options import AsJson, write_json

_TIMEOUT_S = 10.0

doctor_app = App(name="doctor", help="Looks for what is wrong with this host.")


@doctor_app.default
def doctor(
    *,
    uplink: tuple[str, ...] = (),
    backend_link: tuple[str, ...] = (),
    vici: Annotated[tuple[str, ...], Parameter(name="--vici")] = (),
    affinity_timeout_s: int = 600,
    ipv6: bool = False,
    fix: bool = False,
    json: AsJson = False,
) -> int:
    """Lint this host: each finding says what is wrong, why it matters and the command that mends it.

    Parameters
    ----------
    uplink
        Interfaces towards clients.
    backend_link
        Interfaces towards backends.
    vici
        NAME=SOCKET of backends whose timers and proposals are compared.
    affinity_timeout_s
        The balancer's memory of clients.
    ipv6
        There are IPv6 VIPs.
    fix
        Run the commands that change one kernel setting and nothing else.
    """
    from popctl.core.doctor import findings  # noqa: PLC0415 - only this command needs them
    from popctl.senses.doctor import facts, read_lifetimes  # noqa: PLC0415

    lifetimes = []
    for each in vici:
        name, _, path = each.partition("=")
        try:
            lifetimes.append(read_lifetimes(name, Path(path)))
        except OSError as error:
            print(f"{name}: {error}", file=sys.stderr)  # noqa: T201 - a command speaks
    found = findings(
        facts(
            uplinks=uplink,
            backend_links=backend_link,
            lifetimes=lifetimes,
            affinity_timeout_s=affinity_timeout_s,
            ipv6=ipv6,
        )
    )
    left = [f for f in found if not (fix and f.safe and _run(f.command))]
    if json:
        write_json([asdict(finding) for finding in left])
    else:
        for finding in left:
            print(f"{finding.severity}: {finding.text}\n  why: {finding.why}\n  mend: {finding.command}")  # noqa: T201
    return Exit.PROBLEMS if any(f.severity != "unknown" for f in left) else Exit.OK


def _run(command: str) -> bool:
    try:
        done = subprocess.run(shlex.split(command), capture_output=True, text=True, timeout=_TIMEOUT_S, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        print(f"{command}: {error}", file=sys.stderr)  # noqa: T201 - a command speaks
        return False
    if done.returncode != 0:
        print(f"{command}: {done.stderr.strip()}", file=sys.stderr)  # noqa: T201 - a command speaks
        return False
    print(f"done: {command}")  # noqa: T201 - a command speaks
    return True
