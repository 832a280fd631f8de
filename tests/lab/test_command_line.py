"""`python -m lab` as a person or a script uses it."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from lab.netns import NetnsDriver

pytestmark = pytest.mark.lab


def lab(driver: NetnsDriver, command: str, *words: str) -> subprocess.CompletedProcess[str]:
    argv = [
        sys.executable,
        "-m",
        "lab",
        command,
        "--topology",
        str(driver.plan.path),
        "--name",
        driver.plan.name,
        *words,
    ]
    return subprocess.run(argv, capture_output=True, text=True, timeout=60, check=False)


def test_exec_gives_the_output_and_the_exit_status_of_the_program(pair: NetnsDriver) -> None:
    done = lab(pair, "exec", "left", "--", "sh", "-c", "hostname; echo complaint >&2; exit 7")
    assert (done.returncode, done.stdout, done.stderr) == (7, "left\n", "complaint\n")


def test_status_has_the_shape_of_containerlab_inspect(pair: NetnsDriver) -> None:
    done = lab(pair, "status", "--json")
    assert done.returncode == 0
    nodes = json.loads(done.stdout)[pair.plan.name]
    assert [(node["name"], node["state"], node["status"]) for node in nodes] == [
        (pair.plan.long_name("left"), "running", "healthy"),
        (pair.plan.long_name("right"), "running", ""),
    ]


def test_status_fails_when_a_node_is_down(pair: NetnsDriver) -> None:
    assert lab(pair, "stop", "left").returncode == 0
    done = lab(pair, "status")
    assert done.returncode == 1
    assert "left   exited" in done.stdout
    assert lab(pair, "start", "left").returncode == 0
    assert lab(pair, "status").returncode == 0


def test_cables_and_loss_are_at_hand(pair: NetnsDriver) -> None:
    assert lab(pair, "link", "left", "eth1", "down").returncode == 0
    assert lab(pair, "link", "left", "eth1", "up").returncode == 0
    assert lab(pair, "loss", "left", "eth1", "100").returncode == 0
    assert "counter packets" in pair.exec("left", ["nft", "list", "ruleset"]).stdout


def test_a_second_up_explains_itself_and_a_whole_life_is_two_commands(pair: NetnsDriver) -> None:
    refused = lab(pair, "up", "--bare")
    assert refused.returncode == 1
    assert "is up already" in refused.stderr
    assert lab(pair, "down").returncode == 0
    raised = lab(pair, "up", "--bare", "--json")
    assert raised.returncode == 0
    assert json.loads(raised.stdout)["took_s"] < 10
    assert lab(pair, "exec", "left", "true").returncode == 0


def test_a_wrong_node_is_explained(pair: NetnsDriver) -> None:
    done = lab(pair, "exec", "middle", "true")
    assert done.returncode == 1
    assert "there is no such linux node" in done.stderr
