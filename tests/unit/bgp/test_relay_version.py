"""The relay under an ExaBGP of another version, played by a script: no agent gets the lease, and nothing is said."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from popctl.bgp.render import RELAY, render
from popctl.model.pop import Lease
from tests import pops
from tests.eventually import eventually
from tests.peers.exabgp import RelayClient
from tests.unit.bgp.relay_modules import PATH
from tests.unit.bgp.test_render import INSTALLATION

# A process of its own, because the relay ends its parent when it thinks it must.
EXABGP = """\
import subprocess, sys
command, version = sys.argv[1:-1], sys.argv[-1]
relay = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
for line in relay.stdout:
    print(line, end="", flush=True)
    if line == "version\\n":
        print(f"exabgp {version}\\ndone", file=relay.stdin, flush=True)
"""


@contextmanager
def exabgp_of(version: str, directory: Path) -> Iterator[tuple[Path, Path]]:
    """Run the relay; give its socket, and the file that collects what it says to ExaBGP."""
    pop = replace(pops.pop(run_dir=directory), lease=Lease(duration_s=30.0))
    config, said = directory / RELAY, directory / "said"
    config.write_text(render(pop, INSTALLATION)[RELAY])
    argv = [sys.executable, "-c", EXABGP, sys.executable, "-I", str(PATH), str(config), version]
    with said.open("wb") as out, subprocess.Popen(argv, stdout=out) as process:
        eventually(pop.paths.relay_socket.exists)
        yield pop.paths.relay_socket, said
        process.kill()


def answer(path: Path) -> dict[str, object]:
    """Say hello until the relay knows its ExaBGP."""

    def ask() -> dict[str, object]:
        try:
            with RelayClient(path) as client:
                return client.hello()
        except ConnectionRefusedError:
            return {"reason": "busy"}

    return eventually(lambda: found if (found := ask()).get("reason") != "busy" else None) or {}


@pytest.mark.parametrize("version", ["4.2.25", "5.0.13", "6.0.0"])
def test_with_an_exabgp_that_popctl_does_not_speak_with_every_agent_is_refused(tmp_path: Path, version: str) -> None:
    with exabgp_of(version, tmp_path) as (path, said):
        found = answer(path)
        assert (found["type"], found["reason"]) == ("refused", "exabgp-version")
        assert found["detail"] == f"ExaBGP {version} found, at least 5.0.14 and below 6 needed"
        assert said.read_text() == "reset\nversion\n"


def test_with_another_one_the_agent_is_welcome(tmp_path: Path) -> None:
    with exabgp_of("5.0.14", tmp_path) as (path, _):
        assert answer(path)["type"] == "welcome"
