"""The two PoPs of the lab as a fleet, with a real etcd for its store."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

from lab import daemons
from lab.driver import Driver
from tests.eventually import eventually
from tests.lab.working_pop import WorkingPop

STORE, ETCD = "transit", "etcd"
"""Neither PoP has it, as it should be."""
URLS = {"pop1": "http://192.0.2.9:2379", "pop2": "http://192.0.2.13:2379"}
LEASE_S = 3.0
SECTION = """\
fleet:
  name: lab
  region: lab
  etcd: ["{url}"]
  lease: 3s
  request: 500ms
  quiet: 200ms
  refresh: 1s
  floor: {{minimum_announcing: 1, settle: 5s}}
"""


class Fleet:
    """Both PoPs and their store."""

    def __init__(self, pops: dict[str, WorkingPop]) -> None:
        self.pops = pops
        self.one, self.two = pops["pop1"], pops["pop2"]
        self.driver: Driver = self.one.driver

    def start_store(self) -> None:
        urls = [word for url in URLS.values() for word in ("--advertise-client-urls", url)][:2]
        argv = [
            "etcd",
            "--name",
            "m",
            "--data-dir",
            "/run/lab/etcd-data",
            "--listen-client-urls",
            "http://0.0.0.0:2379",
        ]
        argv += [*urls, "--listen-peer-urls", "http://127.0.0.1:2380", "--unsafe-no-fsync", "--log-level", "warn"]
        daemons.start(self.driver, STORE, ETCD, argv)

    def stop_store(self, number: signal.Signals = signal.SIGTERM) -> None:
        daemons.send(self.driver, STORE, ETCD, number)
        eventually(lambda: not daemons.runs(self.driver, STORE, ETCD))

    def both(self, do: Callable[[WorkingPop], object]) -> None:
        """Do something to both PoPs at the same moment."""
        with ThreadPoolExecutor(len(self.pops)) as threads:
            list(threads.map(do, self.pops.values()))

    def stance(self, pop: WorkingPop, of: WorkingPop) -> str | None:
        """Return what `pop` has heard of another's promise; None when that is lost."""
        found = pop.scene.ask(pop.name, "/v1/fleet") or {"pops": []}
        services = [service for one in found["pops"] if one["name"] == of.name for service in one["services"]]
        return services[0]["stance"] if services else None

    @contextmanager
    def out_of_reach_of(self, pop: WorkingPop) -> Iterator[None]:
        """Let nothing of `pop` reach the store."""
        drop = "table inet away { chain out { type filter hook output priority 0; tcp dport 2379 drop; }; }"
        assert self.driver.exec(pop.name, ["nft", drop]).returncode == 0
        try:
            yield
        finally:
            assert self.driver.exec(pop.name, ["nft", "delete table inet away"]).returncode == 0

    def settled(self) -> bool:
        """Whether both serve, and know that of each other."""
        counted = all(
            self.stance(pop, of) in ("duty", "permit") for pop in self.pops.values() for of in self.pops.values()
        )
        return counted and all(pop.settled() for pop in self.pops.values())

    def announcing(self) -> set[str]:
        return {name for name, pop in self.pops.items() if pop.announced()}


@contextmanager
def joined(pops: dict[str, WorkingPop]) -> Iterator[Fleet]:
    """Start the store and let both PoPs join it; afterwards each is alone again."""
    fleet = Fleet(pops)
    alone = {name: pop.configuration for name, pop in pops.items()}
    fleet.start_store()
    fleet.both(lambda pop: pop.configure(pop.configuration + SECTION.format(url=URLS[pop.name])))
    yield fleet
    for name, pop in pops.items():
        pop.configure(alone[name])
    fleet.stop_store()
