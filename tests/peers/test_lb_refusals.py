"""What this host cannot do is one clear line, and the kernel is as it was."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.balancers import VIP4
from tests.peers.lb_agent import ROOT
from tests.peers.lb_net import Net, needs_nft, net

__all__ = ["net"]
pytestmark = [pytest.mark.peer, needs_nft]

WITHOUT_CAPABILITY = ("setpriv", "--bounding-set", "-net_admin")


@pytest.fixture
def host(net: Net) -> Net:
    """Provide a balancer host on which nothing is steered yet."""
    net.add("lb", "in")
    net.link("in", "i0", "192.0.2.2/24", "lb", "l0", "192.0.2.1/24 10.77.0.1/24 2001:db8:77::1/64")
    return net


def kernel(host: Net) -> tuple[str, ...]:
    """Return all that a balancer could have changed."""
    routes = (host.ip("lb", f"{family} {what} show {which}") for family in ("-4", "-6") for what, which in KERNEL)
    return (host.inside("lb", "nft", "list", "ruleset"), *routes)


KERNEL = (("rule", ""), ("route", "table all"))


def refusal(host: Net, *wrapper: str, path: str = os.environ["PATH"]) -> str:
    """Start a balancer that must end by itself, and return its one line. The kernel must be as before."""
    before = kernel(host)
    words = [*wrapper, sys.executable, "-m", "tests.peers.lb_agent", host.name("lb"), "2"]
    done = subprocess.run(
        words, capture_output=True, text=True, timeout=30, check=False, cwd=ROOT, env={**os.environ, "PATH": path}
    )
    assert kernel(host) == before
    assert done.returncode == 1, done.stderr
    (line,) = done.stdout.splitlines()
    return line


def old_nft(directory: Path, answer: str) -> str:
    """Put a program nft in the way that gives this version, and return the search path."""
    program = directory / "nft"
    program.write_text(f"#!/bin/sh\necho '{answer}'\n")
    program.chmod(0o755)
    return f"{directory}:{os.environ['PATH']}"


def test_a_host_without_nft_is_told_to_install_it(host: Net, tmp_path: Path) -> None:
    assert refusal(host, path=str(tmp_path)) == (
        "balancer: the program nft is not installed; install nftables 1.0.6 or newer"
    )


def test_an_nft_that_is_too_old_is_named_with_the_version_that_is_needed(host: Net, tmp_path: Path) -> None:
    assert refusal(host, path=old_nft(tmp_path, "nftables v0.9.8 (E.D.S.)")) == (
        "balancer: nftables v0.9.8 (E.D.S.) is too old; install nftables 1.0.6 or newer"
    )


@pytest.mark.skipif(shutil.which("setpriv") is None, reason="needs util-linux's setpriv")
def test_a_process_without_the_capability_says_which_one(host: Net) -> None:
    assert refusal(host, *WITHOUT_CAPABILITY) == (
        "balancer: this process has no CAP_NET_ADMIN; run it as root, or with AmbientCapabilities=CAP_NET_ADMIN"
    )


def test_a_vip_that_is_an_address_of_the_host_is_named(host: Net) -> None:
    host.ip("lb", f"addr add {VIP4}/32 dev lo")
    assert refusal(host) == (
        f"services.vpn.vips: {VIP4} is an address of this host; "
        "remove it here (ip address del); VIPs belong on the backends' loopback"
    )
