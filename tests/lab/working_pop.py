"""One PoP of the lab as tests handle it: what its upstream sees, what its agent says, what is done to its daemons."""

from __future__ import annotations

import json
import re
import signal
import subprocess
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from lab import daemons, edge
from lab.driver import Driver, ExecResult
from lab.scene import POPS, PREFIX, Scene
from tests.eventually import eventually

PREFIX_6 = "2001:db8:100::/48"
QUICK = "/run/popctl/popctl.yaml"
STATE, JOURNAL = "/var/lib/popctl/state.json", "/var/lib/popctl/journal"
XL2TPD = ["xl2tpd", "-D", "-c", "/etc/xl2tpd/xl2tpd.conf", "-p", "/run/xl2tpd/pid", "-C", "/run/xl2tpd/l2tp-control"]
LEASE_S, STALE_AFTER_S = 3.0, 3.0
STAND_INS = ("imposter", "charon-without-workers")
"""Daemons that take the place of charon in some tests."""

_QUICK_TIMES = """\
timing:
  warm_up: 200ms
  hold_down: 0s
  hold_down_max: 0s
  flap_window: 1s
profiles:
  quick: {interval: 300ms, timeout: 300ms, rise: 2, stale_after: 3s, deep: {interval: 1s, timeout: 1s}}
"""
_PYTHON_ENVIRONMENT = ["env", "PYTHONPATH=/opt/popctl", "PYTHONDONTWRITEBYTECODE=1"]


def quick(shipped: str) -> str:
    """Return a shipped configuration with times for tests: there, every failure costs seconds."""
    paced = re.sub(r"probes: gateway}", "profile: quick, probes: gateway}", shipped)
    return re.sub(r"^timing:\n(?:  .*\n)+", _QUICK_TIMES, paced, flags=re.MULTILINE)


def make_quick(driver: Driver, node: str) -> None:
    """Put the quick configuration in the place of the shipped one, for as long as the node runs."""
    text = quick(driver.exec(node, ["cat", edge.CONFIG]).stdout)
    assert driver.exec(node, ["tee", QUICK], stdin=text).returncode == 0
    assert driver.exec(node, ["mount", "--bind", QUICK, edge.CONFIG]).returncode == 0


class WorkingPop:
    """The PoP under test. Its backends are called `first` and `second`."""

    def __init__(self, driver: Driver, name: str) -> None:
        self.driver = driver
        self.name = name
        self.scene = Scene(driver)
        self.first, self.second = f"{name}-b1", f"{name}-b2"
        self._configuration = self.read(QUICK)

    # ------------------------------------------------------------------------------------------------ what is seen

    def announced(self, prefix: str = PREFIX) -> bool:
        """Whether the upstream has the route."""
        with self.scene.bird(POPS[self.name]) as bird:
            return bird.carries(prefix, self.name)

    def updates(self) -> int:
        """How many route changes the upstream has heard from this PoP."""
        return self.scene.updates(self.name)

    def status(self) -> Mapping[str, Any]:
        """What the agent says; empty when it does not answer."""
        return self.scene.status(self.name) or {}

    def service(self) -> Mapping[str, Any]:
        """What the agent says of its one service; empty when it does not answer."""
        return next(iter(self.status().get("services", ())), {})

    def reason(self) -> str | None:
        """Why the service stands where it stands."""
        return self.service().get("reason")

    def backend(self, node: str) -> Mapping[str, Any]:
        """What the agent says of a backend; empty when it does not answer."""
        return next((one for one in self.status().get("backends", ()) if one["name"] == node), {})

    def probe(self, node: str, name: str) -> Mapping[str, Any]:
        """What the agent says of one probe."""
        return next((one for one in self.backend(node).get("probes", ()) if one["name"] == name), {})

    def settled(self) -> bool:
        """Whether everything works: both routes out, both backends up, no order in force."""
        status = self.status()
        return (
            bool(status)
            and all(one["verdict"] == "up" for one in status["backends"])
            and all(one["reason"] == "healthy" for one in status["services"])
            and not status["intents"]
            and self.announced()
            and self.announced(PREFIX_6)
        )

    def until_settled(self, within_s: float = 20.0) -> None:
        """Wait until everything works."""
        eventually(self.settled, within_s=within_s, every_s=0.05)

    def until_gone(self, within_s: float = 5.0) -> None:
        """Wait until the upstream has neither route. What the agent told before that is forgotten."""
        eventually(lambda: not self.announced() and not self.announced(PREFIX_6), within_s=within_s)
        self.scene.look_again()

    def until_announced(self, within_s: float = 15.0) -> None:
        """Wait until the upstream has both routes. What the agent told before that is forgotten."""
        eventually(lambda: self.announced() and self.announced(PREFIX_6), within_s=within_s)
        self.scene.look_again()

    def account(self) -> str:
        """What agent, ExaBGP and journal say, for a test that failed."""
        tails = "tail -n 30 /var/log/lab/agent.log /var/log/lab/exabgp.log; tail -c 4000 /var/lib/popctl/journal"
        return f"{self.status()}\n{self.driver.exec(self.name, ['sh', '-c', tails]).stdout}"

    def until_reason(self, reason: str, within_s: float = 10.0) -> None:
        """Wait until the agent gives this reason."""
        eventually(lambda: self.reason() == reason, within_s=within_s)

    def never_announced_while(self, until: Callable[[], object], within_s: float = 15.0) -> None:
        """Wait for `until`; the upstream must hear nothing at all meanwhile."""
        assert not self.announced()
        before = self.updates()
        eventually(until, within_s=within_s)
        assert self.updates() == before

    def lands(self) -> str | None:
        """Which PoP answers the client."""
        asked = ["python3", "/opt/popctl/lab/landing.py", "198.51.100.1", "--timeout-s", "0.5"]
        return self.scene.pop_of(json.loads(self.driver.exec("client", asked).stdout)["landed"])

    # ------------------------------------------------------------------------------------------------- what is done

    def send(self, node: str, daemon: str, number: signal.Signals) -> None:
        """Signal a daemon and, when that ends it, wait until it has ended."""
        daemons.send(self.driver, node, daemon, number)
        if number is signal.SIGKILL:
            eventually(lambda: not daemons.runs(self.driver, node, daemon))
        self.scene.look_again()

    def agent(self, number: signal.Signals) -> None:
        """Signal the agent."""
        self.send(self.name, edge.AGENT, number)

    def exabgp(self, number: signal.Signals) -> None:
        """Signal ExaBGP."""
        self.send(self.name, edge.EXABGP, number)

    def pid(self, daemon: str) -> str:
        """The pid of a daemon of the edge host."""
        return self.driver.exec(self.name, ["daemon", "pid", daemon]).stdout.strip()

    def _until_ended(self, node: str, daemon: str) -> None:
        """A killed process is not gone at once, and a daemon starts only when its predecessor is."""
        eventually(lambda: not daemons.runs(self.driver, node, daemon))

    def start_agent(self) -> None:
        """Start the agent."""
        self._until_ended(self.name, edge.AGENT)
        edge.start_agent(self.driver, self.name)

    def start_exabgp(self) -> None:
        """Start ExaBGP with its relay."""
        self._until_ended(self.name, edge.EXABGP)
        edge.start_exabgp(self.driver, self.name)

    def start_charon(self, node: str, **environment: str) -> None:
        """Start strongSwan on a backend."""
        self._until_ended(node, "charon")
        daemons.start(self.driver, node, "charon", ["charon-systemd"], env=environment)

    def start_xl2tpd(self, node: str) -> None:
        """Start xl2tpd on a backend."""
        self._until_ended(node, "xl2tpd")
        daemons.start(self.driver, node, "xl2tpd", XL2TPD)

    def cli(self, *words: str) -> ExecResult:
        """Run an operator's command on the edge host."""
        return self.run("popctl.cli.main", *words)

    def run(self, module: str, *words: str) -> ExecResult:
        """Run a module of popctl on the edge host."""
        done = self.driver.exec(self.name, [*_PYTHON_ENVIRONMENT, edge.PYTHON, "-m", module, *words], timeout_s=60.0)
        self.scene.look_again()
        return done

    def write(self, path: str, text: str) -> None:
        """Replace what a file holds, in place."""
        assert self.driver.exec(self.name, ["tee", path], stdin=text).returncode == 0

    def read(self, path: str) -> str:
        """Return what a file holds."""
        return self.driver.exec(self.name, ["cat", path]).stdout

    def configure(self, text: str) -> None:
        """Give the agent another configuration, and wait until it works by it. Mending keeps it from now on."""
        digest = self.status().get("config_digest")
        self.write(QUICK, text)
        self._configuration = text
        self.agent(signal.SIGHUP)
        eventually(lambda: self.status().get("config_digest") not in (None, digest), within_s=20.0)
        self.until_settled()

    @property
    def configuration(self) -> str:
        """What the agent works by after mending."""
        return self._configuration

    @configuration.setter
    def configuration(self, text: str) -> None:
        self._configuration = text

    @contextmanager
    def agent_in_sight(self) -> Iterator[subprocess.Popen[bytes]]:
        """Replace the agent by one whose exit status is seen."""
        self.agent(signal.SIGKILL)
        note_pid = ["sh", "-c", f'echo $$ >/run/lab/{edge.AGENT}.pid; exec "$@"', "sh"]
        argv = [*note_pid, *_PYTHON_ENVIRONMENT, edge.PYTHON, "-m", "popctl.agent", edge.CONFIG]
        with subprocess.Popen(self.driver.exec_argv(self.name, argv), stderr=subprocess.DEVNULL) as process:
            try:
                eventually(lambda: self.reason() == "healthy")
                yield process
            finally:
                if process.poll() is None:
                    self.agent(signal.SIGKILL)

    # --------------------------------------------------------------------------------------------------- mending

    def mend(self) -> None:
        """Undo whatever a test did, and wait until everything works."""
        for node in (self.first, self.second):
            self._mend_backend(node)
        self._revive(self.name, edge.EXABGP, self.start_exabgp)
        self._mend_configuration()
        self._revive(self.name, edge.AGENT, self.start_agent)
        eventually(lambda: self.status().get("connected"), within_s=20.0)
        self._lift_orders()
        self.until_settled()

    def _mend_backend(self, node: str) -> None:
        for stand_in in STAND_INS:
            if daemons.runs(self.driver, node, stand_in):
                self.send(node, stand_in, signal.SIGKILL)
        self._revive(node, "charon", lambda: self.start_charon(node))
        self._revive(node, "xl2tpd", lambda: self.start_xl2tpd(node))

    def _revive(self, node: str, daemon: str, start: Callable[[], None]) -> None:
        if daemons.runs(self.driver, node, daemon):
            self.send(node, daemon, signal.SIGCONT)
        else:
            start()

    def _mend_configuration(self) -> None:
        if self.read(QUICK) != self._configuration:
            self.write(QUICK, self._configuration)
            if daemons.runs(self.driver, self.name, edge.AGENT):
                self.agent(signal.SIGKILL)

    def _lift_orders(self) -> None:
        status = self.status()
        if status["state_corrupt"]:
            assert self.cli("state", "reset", "--reason", "mended").returncode == 0
        for order in status["intents"]:
            lift = "announce" if order["kind"] == "withdraw" else "undrain"
            no_wait = ["--no-wait"] if lift == "announce" else []
            assert self.cli(lift, order["target"], "--reason", "mended", *no_wait).returncode == 0
