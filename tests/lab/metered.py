"""`popctl meter` on the backends of a PoP of the lab, over mutual TLS; and ends of tunnels that notice a dead peer."""

from __future__ import annotations

import re
import signal
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from lab import daemons, edge
from lab.driver import Driver
from lab.errors import NodeError
from tests import certificates
from tests.lab.working_pop import WorkingPop

_PORT = 9443
_FILES = "/run/lab/meter"
_PYTHON = {"PYTHONPATH": "/opt/popctl", "PYTHONDONTWRITEBYTECODE": "1"}
_IMPATIENT = "retransmit_tries = 2\n  retransmit_timeout = 0.5\n  retransmit_base = 1.0\n"
"""A peer that does not answer is given up after 1.5 s, not after minutes."""


@contextmanager
def metered(pop: WorkingPop) -> Iterator[None]:
    """Start the meters and make the agent listen to them. Mending the PoP afterwards makes it forget them."""
    before = pop.configuration
    addresses = dict(re.findall(r"name: (\S+), address: ([0-9.]+),", before))
    with tempfile.TemporaryDirectory(prefix="meter-") as directory:
        authority = certificates.Authority(Path(directory))
        own = authority.issue("agent", certificates.CLIENT)
        _put(pop.driver, pop.name, {"ca.pem": authority.ca, "agent.pem": own.certificate, "agent.key": own.key})
        try:
            for node, address in addresses.items():
                _start(pop.driver, node, address, authority)
            text = re.sub(r"address: ([0-9.]+), (?=forward)", rf"address: \1, {_meter()}, ", before)
            pop.configure(text.replace("timing:\n", "timing:\n  convergence: 1s\n"))
            yield
        finally:
            for node in addresses:
                with suppress(NodeError):
                    daemons.send(pop.driver, node, "meter", signal.SIGTERM)
            pop.configuration = before


def _meter() -> str:
    files = f"ca: {_FILES}/ca.pem, certificate: {_FILES}/agent.pem, key: {_FILES}/agent.key"
    return rf"meter: {{host: \1, port: {_PORT}, {files}}}"


def _start(driver: Driver, node: str, address: str, authority: certificates.Authority) -> None:
    server = authority.issue("server", certificates.SERVER, address=address)
    _put(driver, node, {"ca.pem": authority.ca, "meter.pem": server.certificate, "meter.key": server.key})
    tls = ["--certificate", f"{_FILES}/meter.pem", "--key", f"{_FILES}/meter.key", "--authority", f"{_FILES}/ca.pem"]
    where = ["--listen", f"{address}:{_PORT}", "--vici", "tcp://127.0.0.1:4502", "--interval", "0.5"]
    watched = ["--daemon", "charon=/usr/sbin/charon-systemd", "--daemon", "xl2tpd=/usr/sbin/xl2tpd"]
    daemons.start(driver, node, "meter", [edge.PYTHON, "-m", "popctl.meter", *where, *tls, *watched], env=_PYTHON)


def _put(driver: Driver, node: str, files: dict[str, Path]) -> None:
    assert driver.exec(node, ["mkdir", "-p", _FILES]).returncode == 0
    for name, path in files.items():
        # A key is not for everybody to read, from its first byte on.
        written = driver.exec(node, ["install", "-m", "600", "/dev/stdin", f"{_FILES}/{name}"], stdin=path.read_text())
        assert written.returncode == 0, written.stderr


@contextmanager
def watchful(driver: Driver, gateways: tuple[str, ...], client: str = "client") -> Iterator[None]:
    """Let gateways forget a client that went away, and the client build its tunnel anew when its gateway falls silent.

    That is how a tunnel moves with the route: neither end is told.
    """
    with ExitStack() as stack:
        for node in gateways:
            edits = {"  ikev2 {\n    version = 2\n": "  ikev2 {\n    version = 2\n    dpd_delay = 1s\n"}
            stack.enter_context(_edited(driver, node, edits, "--uri", "tcp://127.0.0.1:4502"))
        again = {"dpd_delay = 5s": "dpd_delay = 1s", "      net {\n": "      net {\n        dpd_action = restart\n"}
        stack.enter_context(_edited(driver, client, again))
        yield


@contextmanager
def _edited(driver: Driver, node: str, edits: dict[str, str], *swanctl: str) -> Iterator[None]:
    """Put edited files of strongSwan over the ones that are there, for as long as this lasts."""
    changes = {
        "/etc/swanctl/swanctl.conf": edits,
        "/etc/strongswan.conf": {"threads = 16": f"threads = 16\n  {_IMPATIENT}"},
    }
    mounted = []
    try:
        for path, each in changes.items():
            text = driver.exec(node, ["cat", path]).stdout
            for old, new in each.items():
                assert old in text, f"{node}: {path} has no {old!r}"
                text = text.replace(old, new)
            edited = f"/run/lab/{Path(path).name}"
            assert driver.exec(node, ["tee", edited], stdin=text).returncode == 0
            assert driver.exec(node, ["mount", "--bind", edited, path]).returncode == 0
            mounted.append(path)
        _reload(driver, node, swanctl)
        yield
    finally:
        for path in mounted:
            assert driver.exec(node, ["umount", path]).returncode == 0
        _reload(driver, node, swanctl)


def _reload(driver: Driver, node: str, swanctl: tuple[str, ...]) -> None:
    for words in (["--reload-settings"], ["--load-all", "--noprompt"]):
        done = driver.exec(node, ["swanctl", *words, *swanctl])
        assert done.returncode == 0, done.stderr
