"""Labs for tests. Every process of a test run has names of its own, so that runs can share a machine."""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from lab import edge
from lab.__main__ import TOPOLOGY
from lab.driver import Driver
from lab.errors import DriverUnavailableError
from lab.netns import NetnsDriver
from lab.topology_file import load
from tests.lab.working_pop import WorkingPop, make_quick

DATA = Path(__file__).parents[1] / "data" / "lab"
_numbers = itertools.count(1)

MakeLab = Callable[[str], NetnsDriver]


def _driver(path: Path, name: str) -> NetnsDriver:
    try:
        return NetnsDriver(load(path, name=name))
    except DriverUnavailableError as error:
        pytest.skip(str(error))


@pytest.fixture(scope="session")
def anycast() -> Iterator[Driver]:
    """The whole lab, raised once, with times for tests. A test that breaks something in it mends it."""
    driver = _driver(TOPOLOGY, f"test{os.getpid()}-anycast")
    driver.deploy()
    try:
        for node in driver.plan.group(edge.GROUP):
            make_quick(driver, node)
        edge.start_all(driver)
        yield driver
    finally:
        driver.destroy()


@pytest.fixture(scope="session")
def working_pops(anycast: Driver) -> dict[str, WorkingPop]:
    """Both PoPs."""
    return {name: WorkingPop(anycast, name) for name in ("pop1", "pop2")}


@pytest.fixture
def pop1(working_pops: dict[str, WorkingPop]) -> Iterator[WorkingPop]:
    """PoP 1 at work, as PoP 2 is. A test breaks what it likes; mending is done here."""
    for pop in working_pops.values():
        pop.until_settled()
    yield working_pops["pop1"]
    working_pops["pop1"].mend()


@pytest.fixture
def make_lab() -> Iterator[MakeLab]:
    """Make drivers for the small topologies; whatever they raise is taken down."""
    made: list[NetnsDriver] = []

    def make(topology: str) -> NetnsDriver:
        driver = _driver(DATA / f"{topology}.clab.yml", f"test{os.getpid()}-{next(_numbers)}")
        made.append(driver)
        return driver

    yield make
    for driver in made:
        driver.destroy()


@pytest.fixture
def pair(make_lab: MakeLab) -> NetnsDriver:
    """Two nodes and a cable, up."""
    driver = make_lab("pair")
    driver.deploy()
    return driver
