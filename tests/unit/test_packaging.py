"""The systemd units: what they allow is what the code asks for, and they start what the documents install."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from configparser import ConfigParser
from contextlib import contextmanager
from pathlib import Path
from socket import AF_UNIX, socket

import pytest

from popctl.config.defaults import LEASE_S

ROOT = Path(__file__).parents[2]
PACKAGING = ROOT / "packaging"
UNITS = sorted((PACKAGING / "systemd").glob("*.service"))
AGENT = PACKAGING / "systemd" / "popctl-agent.service"
EXABGP = PACKAGING / "systemd" / "popctl-exabgp.service"
METER = PACKAGING / "systemd" / "popctl-meter.service"
ASK_METER = """
import asyncio, socket, sys
from pathlib import Path
from popctl.model.meter import DaemonWatch
from popctl.senses.watch_daemons import DaemonWatcher
async def look():
    watcher = DaemonWatcher([DaemonWatch(name="charon", executable=Path(sys.argv[1]))], lambda daemon: None)
    watcher.start()
    print(watcher.daemons[0].state)
    watcher.close()
asyncio.run(look())
socket.socket(socket.AF_UNIX).connect(sys.argv[2])
print("connected")
"""
ASK_HOST = "import json; from popctl.lb import nft; print(json.dumps([one.text for one in nft.host_problems()]))"


def parsed(unit: Path) -> ConfigParser:
    parser = ConfigParser(interpolation=None, comment_prefixes=("#",))
    parser.optionxform = str  # type: ignore[assignment,method-assign]  # systemd's names have capitals
    parser.read_string(unit.read_text())
    return parser


@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.stem)
def test_systemd_never_gives_up(unit: Path) -> None:
    """Its default is to leave a unit failed after five quick ends."""
    parts = parsed(unit)
    assert parts["Unit"]["StartLimitIntervalSec"] == "0"
    assert parts["Service"]["Restart"] == "always"
    assert 0 < float(parts["Service"]["RestartSec"]) <= LEASE_S / 3


@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.stem)
def test_the_unit_has_all_that_it_may_have(unit: Path) -> None:
    """A user that is not root holds no capability of the bounding set unless it is ambient, too."""
    service = parsed(unit)["Service"]
    assert service["AmbientCapabilities"].split() == service["CapabilityBoundingSet"].split()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give capabilities away")
@pytest.mark.skipif(shutil.which("nft") is None, reason="nftables is not installed")
def test_the_capabilities_of_the_agent_suffice_for_the_balancer() -> None:
    words = parsed(AGENT)["Service"]["CapabilityBoundingSet"].lower().split()
    bounds = ",".join(["-all", *(f"+{word.removeprefix('cap_')}" for word in words)])
    command = ["setpriv", f"--bounding-set={bounds}", sys.executable, "-c", ASK_HOST]
    told = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert json.loads(told.stdout) == []


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give capabilities away")
def test_the_capabilities_of_the_meter_suffice_for_daemons_and_sockets_of_root(tmp_path: Path) -> None:
    """A user that is nobody, with these capabilities alone, watches a daemon of root and opens its control."""
    words = parsed(METER)["Service"]["AmbientCapabilities"].lower().split()
    caps = ",".join(["-all", *(f"+{word.removeprefix('cap_')}" for word in words)])
    told = {}
    with socket(AF_UNIX) as control, _sleeping(tmp_path / "charon") as program:
        control.bind(str(tmp_path / "vici"))
        control.listen()
        (tmp_path / "vici").chmod(0o600)
        nobody = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"]
        for name, granted in (("with", caps), ("without", "-all,+dac_override")):
            limits = [f"--inh-caps={granted}", f"--ambient-caps={granted}", f"--bounding-set={granted}"]
            command = [*nobody, *limits, sys.executable, "-c", ASK_METER, str(program), str(tmp_path / "vici")]
            told[name] = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout.split()
    assert told == {"with": ["running", "connected"], "without": ["absent", "connected"]}


@contextmanager
def _sleeping(program: Path) -> Iterator[Path]:
    """Run a program that nothing else runs."""
    shutil.copy(shutil.which("sleep") or "/bin/sleep", program)
    with subprocess.Popen([program, "600"]) as process:
        try:
            yield program
        finally:
            process.kill()


def test_the_meter_answers_xl2tpd_where_both_can_see_it() -> None:
    """A private /tmp hides the answer's fifo from xl2tpd."""
    service = parsed(METER)["Service"]
    assert service["PrivateTmp"] == "yes"
    assert service["Environment"] == f"TMPDIR=/run/{service['RuntimeDirectory']}"


@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.stem)
def test_the_user_of_the_unit_is_made_and_its_program_is_where_the_documents_install_it(unit: Path) -> None:
    service = parsed(unit)["Service"]
    made = [
        line.split()[1]
        for line in (PACKAGING / "sysusers.d" / "popctl.conf").read_text().splitlines()
        if line[0] == "u"
    ]
    assert [service["User"], service["Group"]] == made * 2
    program = Path(service["ExecStart"].split()[0])
    installation = (ROOT / "docs" / "operations.md").read_text().partition("## Installation")[2].partition("\n## ")[0]
    assert f"python3 -m venv {program.parents[1]}\n" in installation
    assert unit.name in installation


def test_the_scripts_that_units_run_are_installed_where_they_name_them() -> None:
    files = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["data-files"]
    installed = {Path(folder, Path(source).name) for folder, sources in files.items() for source in sources}
    program, *words = parsed(EXABGP)["Service"]["ExecStart"].split()
    scripts = [Path(word) for word in words if word.endswith(".py")]
    assert [script.name for script in scripts] == ["launch.py"], "never ExaBGP by itself: its timers follow the wall"
    assert {script.relative_to(Path(program).parents[1]) for script in scripts} <= installed
