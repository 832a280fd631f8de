"""The namespace driver on small topologies: it raises what is written, and leaves nothing behind."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from lab import links, processes, wiring
from lab.driver import NodeState
from lab.errors import AlreadyUpError, BusyError, ExecTimeoutError, NodeError, NotUpError, StepFailedError
from lab.netns import NetnsDriver
from lab.state import ROOT, StateDirectory
from tests.eventually import eventually

pytestmark = pytest.mark.lab

MakeLab = Callable[[str], NetnsDriver]


def leftovers(driver: NetnsDriver) -> list[str]:
    """Everything of a lab that this host can still see: namespaces, processes, mounts, files."""
    names = wiring.namespaces(driver.plan)
    mounts = Path("/proc/self/mountinfo").read_text().splitlines()
    return [
        *wiring.taken(names),
        *(f"process {pid}" for pid in processes.inside(names)),
        *(line for line in mounts if driver.plan.name in line),
        *(str(path) for path in ROOT.glob(f"{driver.plan.name}*")),
    ]


def pings(driver: NetnsDriver, node: str, target: str) -> bool:
    return driver.exec(node, ["ping", "-c", "1", "-W", "1", target]).returncode == 0


def stuck(driver: NetnsDriver) -> bool:
    """Tell whether `up` of the slow lab has reached the command that does not end."""
    with contextlib.suppress(NodeError, NotUpError):
        return driver.exec("stuck", ["pgrep", "-x", "-f", "sleep 50"]).returncode == 0
    return False


@contextlib.contextmanager
def running(*words: str) -> Iterator[subprocess.Popen[bytes]]:
    with subprocess.Popen(
        # A run of the tests in the background ignores SIGINT, and its children would inherit that.
        ["env", "--default-signal=INT", sys.executable, "-m", "lab", *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as process:
        yield process


def test_a_lab_comes_up_connected_and_goes_without_a_trace(make_lab: MakeLab) -> None:
    driver = make_lab("pair")
    driver.deploy()
    assert len(leftovers(driver)) > 4
    assert pings(driver, "left", "192.0.2.2")
    assert pings(driver, "right", "2001:db8::1")
    driver.destroy()
    assert leftovers(driver) == []


def test_taking_down_what_is_not_up_is_no_error(make_lab: MakeLab) -> None:
    driver = make_lab("pair")
    driver.destroy()
    assert leftovers(driver) == []


def test_a_second_up_is_refused_and_harms_nothing(pair: NetnsDriver) -> None:
    with pytest.raises(AlreadyUpError):
        pair.deploy()
    assert pings(pair, "left", "192.0.2.2")


def test_a_lab_that_another_process_changes_is_refused(make_lab: MakeLab) -> None:
    driver = make_lab("pair")
    with StateDirectory(driver.plan.name).locked(), pytest.raises(BusyError):
        driver.deploy()
    assert leftovers(driver) == []


def test_two_labs_of_one_topology_live_side_by_side(pair: NetnsDriver, make_lab: MakeLab) -> None:
    other = make_lab("pair")
    other.deploy()
    other.exec("left", ["ip", "link", "set", "eth1", "down"])
    assert not pings(other, "right", "192.0.2.1")
    other.destroy()
    assert pings(pair, "right", "192.0.2.1")


def test_down_cleans_up_after_a_driver_that_was_killed_in_the_middle(make_lab: MakeLab) -> None:
    driver = make_lab("slow")
    words = ["--topology", str(driver.plan.path), "--name", driver.plan.name]

    with running("up", *words) as process:
        eventually(lambda: stuck(driver), within_s=20)
        process.send_signal(signal.SIGKILL)
    assert leftovers(driver)
    with running("down", *words) as process:
        assert process.wait(timeout=20) == 0
    assert leftovers(driver) == []


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM])
def test_an_up_that_is_told_to_stop_cleans_up_by_itself(make_lab: MakeLab, signum: signal.Signals) -> None:
    driver = make_lab("slow")
    with running("up", "--topology", str(driver.plan.path), "--name", driver.plan.name) as process:
        eventually(lambda: stuck(driver), within_s=20)
        process.send_signal(signum)
        assert process.wait(timeout=20) == 130
    assert leftovers(driver) == []


def test_a_command_that_fails_is_named_and_nothing_is_left(make_lab: MakeLab, tmp_path: Path) -> None:
    driver = make_lab("pair")
    text = driver.plan.path.read_text().replace("via 192.0.2.2", "via 203.0.113.9")
    broken_file = tmp_path / "broken.clab.yml"
    broken_file.write_text(text)
    with running("up", "--topology", str(broken_file), "--name", driver.plan.name) as process:
        _, stderr = process.communicate(timeout=30)
    assert process.returncode == 1
    assert b"left: ip route add 198.51.100.0/24 via 203.0.113.9: exit 2" in stderr
    assert leftovers(driver) == []


def test_a_namespace_that_belongs_to_somebody_else_is_not_taken_over(make_lab: MakeLab) -> None:
    driver = make_lab("pair")
    foreign = driver.plan.long_name("left")
    subprocess.run(["ip", "netns", "add", foreign], check=True)
    try:
        with pytest.raises(StepFailedError, match="exists already"):
            driver.deploy()
        assert wiring.taken((foreign,)) == [foreign]
    finally:
        subprocess.run(["ip", "netns", "delete", foreign], check=True)


def test_a_node_has_a_root_a_name_and_processes_of_its_own(pair: NetnsDriver) -> None:
    assert pair.exec("left", ["sh", "-c", "echo mine >/etc/only-here; hostname; cat /etc/hosts"]).stdout.startswith(
        "left\n"
    )
    assert not Path("/etc/only-here").exists()
    assert pair.exec("right", ["test", "-e", "/etc/only-here"]).returncode == 1
    assert "tini" in pair.exec("left", ["cat", "/proc/1/cmdline"]).stdout


def test_exec_passes_input_output_and_exit_status(pair: NetnsDriver) -> None:
    done = pair.exec("left", ["sh", "-c", "cat; echo complaint >&2; exit 7"], stdin="question")
    assert (done.returncode, done.stdout, done.stderr) == (7, "question", "complaint\n")


def test_a_command_that_takes_too_long_is_ended_in_the_node_too(pair: NetnsDriver) -> None:
    with pytest.raises(ExecTimeoutError):
        pair.exec("left", ["sleep", "47"], timeout_s=0.2)
    assert pair.exec("left", ["pgrep", "-f", "^sleep 47"]).returncode == 1


def test_commands_for_nodes_that_do_not_exist_are_refused(pair: NetnsDriver) -> None:
    with pytest.raises(NodeError):
        pair.exec("middle", ["true"])
    with pytest.raises(NodeError):
        links.set_link(pair, "left", "eth9", up=False)


def test_a_lab_that_is_not_up_says_so(make_lab: MakeLab) -> None:
    driver = make_lab("pair")
    with pytest.raises(NotUpError):
        driver.inspect()
    with pytest.raises(NotUpError):
        driver.exec("left", ["true"])


def test_a_pulled_cable_comes_back_with_its_addresses_and_routes(pair: NetnsDriver) -> None:
    links.set_link(pair, "left", "eth1", up=False)
    assert not pings(pair, "right", "192.0.2.1")
    assert "NO-CARRIER" in pair.exec("right", ["ip", "link", "show", "eth1"]).stdout
    links.set_link(pair, "left", "eth1", up=True)
    eventually(lambda: pings(pair, "right", "192.0.2.1"))
    eventually(lambda: pings(pair, "right", "2001:db8::1"))
    assert "via 192.0.2.2" in pair.exec("left", ["ip", "route", "show", "198.51.100.0/24"]).stdout
    assert "via 2001:db8::2" in pair.exec("left", ["ip", "-6", "route", "show", "2001:db8:100::/48"]).stdout


def test_packets_that_arrive_can_be_lost_and_the_loss_healed(pair: NetnsDriver) -> None:
    links.set_loss(pair, "right", "eth1", loss=1.0)
    assert not pings(pair, "left", "192.0.2.2")
    links.set_loss(pair, "right", "eth1", loss=0.3)
    summary = pair.exec("left", ["ping", "-q", "-c", "200", "-i", "0.002", "-W", "1", "192.0.2.2"]).stdout
    received = int(summary.split(" received")[0].split()[-1])
    # 200 draws at 0.7: mean 140, standard deviation 6.5; six of them on either side.
    assert 100 < received < 180
    links.set_loss(pair, "right", "eth1", loss=0.0)
    assert pings(pair, "left", "192.0.2.2")


def test_a_stopped_node_starts_afresh_with_its_cables_and_configuration(pair: NetnsDriver) -> None:
    pair.exec("left", ["touch", "/etc/lost"])
    pair.stop("left")
    assert [status.state for status in pair.inspect()] == [NodeState.EXITED, NodeState.RUNNING]
    assert "NO-CARRIER" in pair.exec("right", ["ip", "link", "show", "eth1"]).stdout
    with pytest.raises(NodeError):
        pair.stop("left")
    pair.start("left")
    assert [status.healthy for status in pair.inspect()] == [True, None]
    eventually(lambda: pings(pair, "right", "192.0.2.1"))
    assert pair.exec("left", ["test", "-e", "/etc/lost"]).returncode == 1
    with pytest.raises(NodeError):
        pair.start("left")


def test_a_node_whose_init_died_can_be_started_again(pair: NetnsDriver) -> None:
    pid = pair.inspect()[0].pid
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    eventually(lambda: pair.inspect()[0].state is NodeState.EXITED)
    pair.start("left")
    eventually(lambda: pings(pair, "right", "192.0.2.1"))


def test_a_lab_with_a_stopped_node_goes_without_a_trace(pair: NetnsDriver) -> None:
    pair.stop("left")
    pair.destroy()
    assert leftovers(pair) == []


def test_hosts_meet_on_a_bridge_with_the_mtu_and_address_that_the_file_gives(make_lab: MakeLab) -> None:
    driver = make_lab("lan")
    driver.deploy()
    eventually(lambda: pings(driver, "one", "192.0.2.2"))
    link = driver.exec("two", ["ip", "link", "show", "eth1"]).stdout
    assert "02:00:00:00:00:02" in link
    assert "mtu 1400" in link
    driver.destroy()
    assert leftovers(driver) == []
