"""`exabgp healthcheck`, measured like popctl in the same run: the same router, the same gateway, the same clock.

Two settings: its defaults, and the most extreme that still wants three failures, as popctl does. Its check program is
the cheapest one that asks the same question (`ike_check.py`); with a real one it would be slower.
"""

from __future__ import annotations

import argparse
import os
import shutil
import signal
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from tests.bench import failover
from tests.bench.__main__ import Figure
from tests.bench.harness import PREFIX, Rig, median, pop, spread, surroundings
from tests.peers.daemon import Daemon
from tests.peers.exabgp import MD5, PROGRAM, children

COMMAND = "python -m tests.bench rivals"
CHECK = Path(__file__).with_name("ike_check.py")
TRIES_DEFAULT, TRIES_EXTREME = 3, 10
STAYS_S = 20.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """How `exabgp healthcheck` runs. Its time limit for a check has whole seconds; ours inside the check has not."""

    name: str
    profile: str
    """The profile of popctl that it is compared with."""
    options: tuple[str, ...]
    check_timeout_s: float
    interval_s: float


DEFAULT = Setting(name="default", profile="default", options=(), check_timeout_s=10.0, interval_s=5.0)
EXTREME = Setting(
    name="extreme",
    profile="fast",
    options=("interval = 0.1", "fast-interval = 0.1", "timeout = 1", "rise = 1", "fall = 3"),
    check_timeout_s=0.1,
    interval_s=0.1,
)

_HEALTHCHECK = """\
no-syslog
ip = {prefix}
next-hop = 192.0.2.10
no-ip-setup
withdraw-on-down
command = {python} -I -S {check} 10.0.1.2 {timeout}
{options}
"""
_EXABGP = """\
process healthcheck {{
  run {python} -m exabgp healthcheck --config {directory}/healthcheck.ini;
  encoder text;
}}
neighbor 192.0.2.1 {{
  local-address 192.0.2.10;
  router-id 192.0.2.10;
  local-as 65010;
  peer-as 65000;
  hold-time 9;
  md5-password "{md5}";
  incoming-ttl 255;
  outgoing-ttl 255;
  family {{ ipv4 unicast; }}
  api {{ processes [ healthcheck ]; }}
}}
"""
_ENVIRONMENT = {
    "exabgp.api.cli": "false",
    "exabgp.api.terminate": "false",
    "exabgp.daemon.daemonize": "false",
    "exabgp.daemon.user": "root",
    "exabgp.log.destination": "stdout",
    "exabgp.log.level": "INFO",
}


class Healthcheck(Daemon):
    """ExaBGP that runs its own health checker."""

    program = "exabgp healthcheck"

    def __init__(self, namespace: str, setting: Setting) -> None:
        super().__init__(namespace)
        healthcheck = _HEALTHCHECK.format(
            prefix=PREFIX,
            python=sys.executable,
            check=CHECK,
            timeout=setting.check_timeout_s,
            options="\n".join(setting.options),
        )
        (self.directory / "healthcheck.ini").write_text(healthcheck)
        exabgp = _EXABGP.format(python=sys.executable, directory=self.directory, md5=MD5.reveal())
        (self.directory / "exabgp.conf").touch(mode=0o600)
        (self.directory / "exabgp.conf").write_text(exabgp)

    def start(self) -> None:
        self.spawn([str(PROGRAM), "server", str(self.directory / "exabgp.conf")], _ENVIRONMENT)

    @property
    def checker(self) -> int:
        """The pid of the health checker."""
        (pid,) = children(self.pid)
        return pid


@contextmanager
def raised(setting: Setting) -> Iterator[Rig]:
    """Raise the same PoP with the rival in it. There is no agent; ExaBGP stands for it."""
    with ExitStack() as stack:
        hosts, bird, servers = stack.enter_context(surroundings(1))
        rival = Healthcheck(hosts.client, setting)
        stack.callback(shutil.rmtree, rival.directory, ignore_errors=True)
        stack.enter_context(rival)
        rig = Rig(hosts=hosts, bird=bird, backends=servers, exabgp=rival, agent=rival)
        rig.until_announced()
        yield rig


def without_checker(rig: Rig, number: signal.Signals) -> bool:
    """Kill or stop the checker, then kill the gateway: does the router keep the route for all the time that we look?"""
    assert isinstance(rig.exabgp, Healthcheck)
    rig.until_announced()
    checker = rig.exabgp.checker

    def lose_both() -> None:
        os.kill(checker, number)
        os.kill(rig.charon.pid, signal.SIGKILL)

    try:
        return rig.stays(lose_both, for_s=STAYS_S)
    finally:
        with suppress(ProcessLookupError):
            os.kill(checker, signal.SIGCONT)
        rig.charon.kill()
        rig.charon.start()


def compare(setting: Setting, tries: int) -> Iterator[Figure]:
    """Measure the rival and popctl one after the other, and put them side by side."""
    with raised(setting) as rig:
        rival = {
            "killed": failover.killed(rig, tries, setting.interval_s),
            "hung": failover.hung(rig, tries, setting.interval_s),
        }
        kept = {number: without_checker(rig, number) for number in (signal.SIGKILL, signal.SIGSTOP)}
    with pop(profile=setting.profile) as rig:
        interval_s = failover.INTERVAL_S[setting.profile]
        ours = {
            "killed": failover.killed(rig, max(tries, TRIES_EXTREME), interval_s),
            "hung": failover.hung(rig, max(tries, TRIES_EXTREME), interval_s),
        }
    for what, values in rival.items():
        ratio = median(values) / median(ours[what])
        note = (
            f"popctl {setting.profile}: {median(ours[what]):.3f} s, {ratio:.1f} times as fast; rival {spread(values)}"
        )
        yield told(f"exabgp healthcheck, {setting.name}, daemon {what}, median", median(values), "s", note)
    for number, stays in kept.items():
        note = (
            "stays for as long as we looked" if stays else "ExaBGP starts a checker that ended again, and it withdraws"
        )
        name = f"exabgp healthcheck, {setting.name}, checker gets {number.name}, dead route stays"
        yield told(name, float(stays), "yes=1", note)


def told(name: str, value: float, unit: str, note: str) -> Figure:
    """Return a figure without a bound."""
    return {"name": name, "value": value, "unit": unit, "bound": None, "ok": True, "command": COMMAND, "note": note}


def measure(tries_default: int = TRIES_DEFAULT, tries_extreme: int = TRIES_EXTREME) -> list[Figure]:
    """Return one row per figure."""
    rows = [*compare(DEFAULT, tries_default), *compare(EXTREME, tries_extreme)]
    for row in rows:
        print(f"     {row['name']}: {row.get('note', '')}")
    return rows


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tries-default", type=int, default=TRIES_DEFAULT)
    parser.add_argument("--tries-extreme", type=int, default=TRIES_EXTREME)
    options = parser.parse_args()
    measure(options.tries_default, options.tries_extreme)
