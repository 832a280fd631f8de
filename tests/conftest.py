"""What every test run has: a count of the tests that met real daemons, and a floor under it."""

from __future__ import annotations

import pytest
from hypothesis import settings

# How long an example takes says something about the machine, and nothing about the property.
settings.register_profile("popctl", deadline=None)
settings.load_profile("popctl")

_REAL = ("peer", "lab")
_MET_DAEMONS = ("real daemons", "yes")
_LONGEST = (
    "test_lb_strongswan",
    "test_agent_life",
    "test_kernel_esp",
    "test_fleet_lab",
    "test_agent_backends",
    "test_exabgp_life",
    "test_load_lab",
    "test_load_steering",
)
"""Files that take the better part of a minute or more."""
"""Rides on the report of a test, which knows keywords (folders' names among them) but no marks."""


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--real-peers-at-least",
        type=int,
        default=0,
        metavar="N",
        help="fail when fewer tests with real daemons ran; CI knows how many this machine can run",
    )


class RealPeers:
    """Counts tests marked `peer` or `lab` by what became of them."""

    def __init__(self, at_least: int) -> None:
        self.at_least = at_least
        self.ran = 0
        self.skipped = 0

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if _MET_DAEMONS not in report.user_properties:
            return
        # A skip can come from the set-up (a fixture) or from the test itself.
        self.skipped += report.skipped
        self.ran += report.when == "call" and not report.skipped

    @pytest.hookimpl(trylast=True)
    def pytest_sessionfinish(self, session: pytest.Session, exitstatus: int) -> None:
        if self.ran < self.at_least and exitstatus == pytest.ExitCode.OK:
            session.exitstatus = pytest.ExitCode.TESTS_FAILED

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        terminalreporter.write_line(f"real-peer tests: {self.ran} ran, {self.skipped} skipped")
        if self.ran < self.at_least:
            terminalreporter.write_line(f"ERROR: at least {self.at_least} real-peer tests must run here", red=True)


def pytest_configure(config: pytest.Config) -> None:
    config.pluginmanager.register(RealPeers(config.getoption("--real-peers-at-least")), "real-peers")


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Make every file with real daemons a group.

    With several workers (`--dist loadgroup`) a group runs in one worker, one test after another: what a file raises for
    all its tests is raised once. What waits for real daemons mostly waits, so two workers keep the machine busy enough.
    """
    for item in items:
        real = any(item.get_closest_marker(mark) for mark in _REAL)
        if real:
            item.user_properties.append(_MET_DAEMONS)
            item.add_marker(pytest.mark.xdist_group(item.path.stem))


@pytest.hookimpl(specname="pytest_collection_modifyitems", trylast=True)
def longest_first(items: list[pytest.Item]) -> None:
    """Begin with the files that take long, so that no worker is left alone with one of them at the end."""
    items.sort(key=lambda item: item.path.stem not in _LONGEST)
