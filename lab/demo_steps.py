"""The story that `make demo` tells: two PoPs lose daemons, agents and orders, and the client is served all along."""

from __future__ import annotations

import json
import signal
import time
from collections.abc import Callable, Iterator, Sequence

from lab import daemons, edge
from lab.drill import Expectation, Step
from lab.errors import NodeError
from lab.scene import LANDING, POPS, VIP, Scene, Witness
from lab.tunnel import Tunnel

_CLI = [edge.PYTHON, "-m", "popctl.cli.main"]
_CLI_ENVIRONMENT = ["env", "PYTHONPATH=/opt/popctl", "PYTHONDONTWRITEBYTECODE=1"]
_CHARON = ["charon-systemd"]
_XL2TPD = ["xl2tpd", "-D", "-c", "/etc/xl2tpd/xl2tpd.conf", "-p", "/run/xl2tpd/pid", "-C", "/run/xl2tpd/l2tp-control"]
_PLANNED_WORK = ("withdraw", "vpn", "--reason", "demo", "--drain", "2s", "--for", "10m")
_WORK_S = 600.0
_LEASE_S = 3.0
_CROWD = 32
_ENOUGH_PINGS = 20


class Story:
    """Makes the steps. Which PoP is called `home` is decided by where the client lands at the beginning."""

    def __init__(self, scene: Scene, witness: Witness) -> None:
        self._scene = scene
        self._driver = scene.driver
        self._witness = witness
        self._begun_unix_s = time.time()
        self._updates = 0
        self.home = "pop1"
        self.other = "pop2"
        self._landed_on = ""
        self._tunnel = Tunnel(scene.driver)
        self._pings = self._repairs = 0
        self.holder = ""
        """The backend of the client's tunnel."""

    def steps(self) -> Iterator[Step]:
        """Yield the steps in order. Each is made when the one before is over."""
        yield self._step(
            "both PoPs come up",
            lambda: None,
            *(Expectation(f"{pop} is announced after its warm-up", self._announced(pop), 15.0) for pop in POPS),
            Expectation("the client is served", lambda: self._landing() is not None, 15.0),
        )
        self._settle_home()
        yield from self._balancer_shares()
        yield from self._daemons_die()
        yield from self._orders()
        yield from self._agents_die()

    def _balancer_shares(self) -> Iterator[Step]:
        yield self._step(
            f"{_CROWD} clients begin at once",
            lambda: None,
            Expectation(f"both backends of {self.home} are given a share", lambda: len(self._crowd()) > 1, 5.0),
        )
        yield self._step(
            "an IKEv2 client builds a tunnel and pings through it",
            self._tunnel.start,
            Expectation("packets come back", lambda: self._tunnel.received > 3, 10.0),  # noqa: PLR2004 - some
        )
        self.holder = self._scene.labels[self._tunnel.label() or self._landed_on]
        yield self._step(
            f"{self.holder}, which holds the tunnel, is drained: popctl drain --for 10m",
            lambda: self._order(self.home, "drain", self.holder, "--for", "10m", "--reason", "demo"),
            Expectation("new clients are given to the other backend only", self._crowd_avoids(self.holder), 5.0),
            Expectation("popctl status counts the SA that is left", self._counts_sas(self.holder), 5.0),
            Expectation("the tunnel has lost no packet", self._tunnel_held, 5.0),
        )
        yield self._step(
            f"{self.holder} is undrained",
            lambda: self._order(self.home, "undrain", self.holder, "--reason", "demo"),
            Expectation("both backends are given a share again", lambda: len(self._crowd()) > 1, 5.0),
        )
        yield self._step(
            f"the agent of {self.home} is killed and started under the tunnel",
            lambda: self._restart_agent(self.home, signal.SIGKILL),
            Expectation("it answers again", lambda: self._scene.status(self.home) is not None, 10.0),
            Expectation("the tunnel has lost no packet", self._tunnel_held, 10.0),
        )

    def _daemons_die(self) -> Iterator[Step]:
        spared = self.holder
        victim = next(node for node in self._scene.labels.values() if node.startswith(self.home) and node != spared)
        yield self._step(
            f"charon on {victim} is killed",
            lambda: self._kill(victim, "charon"),
            Expectation(f"{self.home} sees {victim} down", self._verdict(self.home, victim, "down"), 3.0),
            Expectation(
                "and stays announced: one backend is enough",
                lambda: self._verdict(self.home, victim, "down")() and self._scene.announced(self.home),
                3.0,
            ),
            Expectation(f"its clients are given to {spared}", self._crowd_avoids(victim), 5.0),
            Expectation(f"the tunnel of {spared} has lost no packet", self._tunnel_held, 5.0),
        )
        yield self._step(
            f"the balancer's rules at {self.home} are deleted by hand: nft delete table inet popctl",
            lambda: self._delete_rules(self.home),
            Expectation("they are back, and the drift is counted", self._repaired(self.home), 3.0),
            Expectation("packets of the tunnel come back", lambda: self._tunnel.received > self._pings + 10, 5.0),
        )
        self._tunnel.stop()
        yield self._step(
            f"xl2tpd on {spared} is killed; its IKE still answers",
            lambda: self._kill(spared, "xl2tpd"),
            Expectation(f"{self.home} is withdrawn", self._withdrawn(self.home), 3.0),
            Expectation(f"the client lands at {self.other}", self._lands_at(self.other), 5.0),
        )
        yield self._step(
            "the daemons come back",
            lambda: self._start(victim, spared),
            Expectation(f"{self.home} is announced again, after rise and hold-down", self._announced(self.home), 15.0),
        )

    def _orders(self) -> Iterator[Step]:
        yield self._step(
            f"{self.other} is taken out for planned work: withdraw --drain 2s --for 10m",
            lambda: self._order(self.other, *_PLANNED_WORK, "--no-wait"),
            Expectation("its upstream sees graceful shutdown (65535:0)", self._shuts_down(self.other), 3.0),
            Expectation(f"{self.other} is withdrawn when the drain is over", self._withdrawn(self.other), 6.0),
            Expectation("the order tells how far it has got, and when it ends", self._works(self.other), 6.0),
            Expectation(f"the client lands at {self.home}", self._lands_at(self.home), 6.0),
        )
        yield self._step(
            f"the agent of {self.other} is killed and started: the order stands",
            lambda: self._restart_agent(self.other, signal.SIGKILL),
            Expectation("it answers again", lambda: self._scene.status(self.other) is not None, 10.0),
            Expectation("and still keeps the order", self._reason(self.other, "operator-withdraw"), 10.0),
            Expectation("and its end", self._works(self.other), 10.0),
        )
        yield self._step(
            f"{self.other} is ordered back",
            lambda: self._order(self.other, "announce", "vpn", "--reason", "demo", "--no-wait"),
            Expectation(f"{self.other} is announced after its warm-up", self._announced(self.other), 10.0),
        )

    def _agents_die(self) -> Iterator[Step]:
        pid = self._agent_pid(self.home)
        self._updates = self._scene.updates(self.home)
        yield self._step(
            f"the agent of {self.home} is replaced (SIGHUP: new code, new configuration)",
            lambda: daemons.send(self._driver, self.home, edge.AGENT, signal.SIGHUP),
            Expectation("it starts anew under its pid", self._replaced(self.home, pid), 10.0),
            Expectation(f"{self.home} has sent no UPDATE", lambda: self._quiet(self.home), 10.0),
        )
        yield self._step(
            f"the agent of {self.home} hangs (SIGSTOP)",
            lambda: daemons.send(self._driver, self.home, edge.AGENT, signal.SIGSTOP),
            Expectation("its routes are gone at the lease + 1 s at most", self._withdrawn(self.home), _LEASE_S + 1.0),
            Expectation(f"the client lands at {self.other}", self._lands_at(self.other), _LEASE_S + 3.0),
        )
        yield self._step(
            "it is continued",
            lambda: daemons.send(self._driver, self.home, edge.AGENT, signal.SIGCONT),
            Expectation(f"{self.home} is announced again", self._announced(self.home), 10.0),
        )

    # ------------------------------------------------------------------------------------------------ what is done

    def _step(self, title: str, do: Callable[[], None], *expect: Expectation) -> Step:
        def begin() -> None:
            self._begun_unix_s = time.time()
            self._pings = self._tunnel.received
            do()

        return Step(title, begin, expect)

    def _settle_home(self) -> None:
        landing = self._witness.latest
        self._landed_on = (landing.label if landing else None) or next(iter(self._scene.labels))
        self.home = self._scene.pop_of(self._landed_on) or "pop1"
        self.other = next(pop for pop in POPS if pop != self.home)

    def _kill(self, node: str, daemon: str) -> None:
        daemons.send(self._driver, node, daemon, signal.SIGKILL)

    def _start(self, charon_on: str, xl2tpd_on: str) -> None:
        daemons.start(self._driver, charon_on, "charon", _CHARON)
        daemons.start(self._driver, xl2tpd_on, "xl2tpd", _XL2TPD)

    def _order(self, pop: str, *words: str) -> None:
        argv: Sequence[str] = [*_CLI_ENVIRONMENT, *_CLI, *words, "--socket", "/run/popctl/api.sock"]
        done = self._driver.exec(pop, argv)
        if done.returncode != 0:
            raise NodeError(
                self._driver.plan.name, pop, f"popctl {' '.join(words)}: {done.stdout}{done.stderr}".strip()
            )

    def _restart_agent(self, pop: str, signum: signal.Signals) -> None:
        daemons.send(self._driver, pop, edge.AGENT, signum)
        while daemons.runs(self._driver, pop, edge.AGENT):
            time.sleep(0.01)
        self._scene.look_again()
        edge.start_agent(self._driver, pop)

    def _delete_rules(self, pop: str) -> None:
        self._repairs = self._drift_repairs(pop)
        argv = ["nft", "delete", "table", "inet", "popctl"]
        done = self._driver.exec(pop, argv)
        if done.returncode != 0:
            raise NodeError(self._driver.plan.name, pop, f"{' '.join(argv)}: {done.stderr.strip()}")

    def _agent_pid(self, pop: str) -> str:
        return self._driver.exec(pop, ["daemon", "pid", edge.AGENT]).stdout.strip()

    # ---------------------------------------------------------------------------------------------- what must be so

    def _announced(self, pop: str) -> Callable[[], bool]:
        return lambda: self._scene.announced(pop)

    def _withdrawn(self, pop: str) -> Callable[[], bool]:
        return lambda: not self._scene.announced(pop)

    def _shuts_down(self, pop: str) -> Callable[[], bool]:
        return lambda: "(65535,0)" in self._scene.communities(pop)

    def _landing(self) -> str | None:
        """Return where the latest question since the step began was answered."""
        answers = self._witness.since(self._begun_unix_s)
        return self._scene.pop_of(answers[-1].label) if answers else None

    def _lands_at(self, pop: str) -> Callable[[], bool]:
        return lambda: self._landing() == pop

    def _crowd(self) -> set[str]:
        """Return the backends that answer a crowd; "nobody" is one of them."""
        argv = ["python3", LANDING, VIP, "--crowd", "--source", "203.0.113.128", "--count", str(_CROWD)]
        done = self._driver.exec("client", [*argv, "--interval-s", "0", "--timeout-s", "0.3"])
        labels = [json.loads(line)["landed"] for line in done.stdout.splitlines()]
        return {self._scene.labels.get(label or "", "nobody") for label in labels}

    def _crowd_avoids(self, backend: str) -> Callable[[], bool]:
        return lambda: backend not in (found := self._crowd()) and "nobody" not in found

    def _counts_sas(self, backend: str) -> Callable[[], bool]:
        def holds() -> bool:
            status = self._scene.status(self.home) or {}
            drains = [one["drain"] for one in status.get("backends", ()) if one["name"] == backend]
            return any(drain and drain["sas_left"] for drain in drains)

        return holds

    def _tunnel_held(self) -> bool:
        """Two seconds of pings since the step began, and none missing since the tunnel was built."""
        return self._tunnel.received - self._pings >= _ENOUGH_PINGS and self._tunnel.lost == 0

    def _drift_repairs(self, pop: str) -> int:
        return int(((self._scene.status(pop) or {}).get("balancer") or {}).get("drift_repairs", 0))

    def _repaired(self, pop: str) -> Callable[[], bool]:
        return lambda: self._drift_repairs(pop) > self._repairs

    def _verdict(self, pop: str, backend: str, verdict: str) -> Callable[[], bool]:
        def holds() -> bool:
            status = self._scene.status(pop) or {}
            return any(one["name"] == backend and one["verdict"] == verdict for one in status.get("backends", ()))

        return holds

    def _reason(self, pop: str, reason: str) -> Callable[[], bool]:
        def holds() -> bool:
            status = self._scene.status(pop) or {}
            return any(one["reason"] == reason for one in status.get("services", ()))

        return holds

    def _works(self, pop: str) -> Callable[[], bool]:
        def holds() -> bool:
            orders = (self._scene.status(pop) or {}).get("intents", ())
            return any(one["stage"] == "withdrawn" and 0 < one["expires_in_s"] <= _WORK_S for one in orders)

        return holds

    def _replaced(self, pop: str, pid: str) -> Callable[[], bool]:
        def holds() -> bool:
            status = self._scene.status(pop)
            young = status is not None and status["connected"] and status["uptime_s"] < time.time() - self._begun_unix_s
            return young and self._agent_pid(pop) == pid

        return holds

    def _quiet(self, pop: str) -> bool:
        """All is as it was, after the new process has connected and decided."""
        status = self._scene.status(pop) or {}
        decided = any(one["reason"] == "healthy" for one in status.get("services", ()))
        young = status.get("uptime_s", 1e9) < time.time() - self._begun_unix_s
        return decided and young and self._scene.updates(pop) == self._updates
