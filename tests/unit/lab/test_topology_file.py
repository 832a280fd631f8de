"""A topology file becomes a plan, or every reason why not."""

from pathlib import Path

import pytest

from lab.errors import TopologyError
from lab.plan import Endpoint, Link, Milestone, Stage
from lab.topology_file import load

PAIR = Path(__file__).parents[2] / "data" / "lab" / "pair.clab.yml"


def written(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "t.clab.yml"
    path.write_text(text)
    return path


def problems(tmp_path: Path, text: str) -> set[str]:
    with pytest.raises(TopologyError) as caught:
        load(written(tmp_path, text), env={})
    return {str(problem) for problem in caught.value.problems}


def test_a_file_becomes_nodes_links_and_waits() -> None:
    plan = load(PAIR, env={})
    assert plan.links == (
        Link(a=Endpoint(node="left", interface="eth1"), z=Endpoint(node="right", interface="eth1"), mtu=1500),
    )
    assert plan.nodes["left"].exec[0] == ("ip", "address", "add", "192.0.2.1/30", "dev", "eth1")
    assert plan.nodes["right"].waits == {Stage.CONFIGURE: (Milestone("left", Stage.HEALTHY),)}
    assert plan.nodes["right"].sysctls == {"net.ipv6.conf.default.accept_dad": "0"}
    assert plan.long_name("left") == "clab-pair-left"


def test_another_name_makes_another_lab_of_the_same_file() -> None:
    assert load(PAIR, name="second", env={}).long_name("left") == "clab-second-left"


def test_kind_and_group_come_between_the_defaults_and_the_node(tmp_path: Path) -> None:
    text = """
name: x
topology:
  defaults: {kind: linux, env: {level: defaults, defaults: 1}}
  kinds: {linux: {env: {level: kind, kind: 1}}}
  groups: {g: {env: {level: group, group: 1}}}
  nodes: {a: {group: g, env: {level: node}}, b: {group: g}, c: {}}
"""
    nodes = load(written(tmp_path, text), env={}).nodes
    assert nodes["a"].env == {"level": "node", "defaults": "1", "kind": "1", "group": "1"}
    assert nodes["b"].env["level"] == "group"
    assert nodes["c"].env["level"] == "kind"


@pytest.mark.parametrize(("prefix", "expected"), [('""', "a"), ("__lab-name", "x-a"), ("p", "p-x-a")])
def test_the_prefix_follows_containerlab(tmp_path: Path, prefix: str, expected: str) -> None:
    text = f"name: x\nprefix: {prefix}\ntopology: {{nodes: {{a: {{kind: linux}}}}}}\n"
    assert load(written(tmp_path, text), env={}).long_name("a") == expected


def test_the_environment_reaches_the_file(tmp_path: Path) -> None:
    text = "name: ${LAB:=fallback}\ntopology: {nodes: {a: {kind: linux}}}\n"
    assert load(written(tmp_path, text), env={}).name == "fallback"
    assert load(written(tmp_path, text), env={"LAB": "given"}).name == "given"


def test_every_mistake_is_reported_at_once_with_place_value_and_remedy(tmp_path: Path) -> None:
    text = """
name: -x
topology:
  nodes:
    a:
      kind: windows
      binds: [relative, "missing:/etc/x"]
      sysctls: {kernel.panic: 1}
      startup-dely: 3
      healthcheck: {test: []}
      stages: {late: {}}
  links:
    - endpoints: ["a:eth1"]
"""
    absent = str(tmp_path.resolve() / "missing")
    remedy = "remove it: this driver does not know the key"
    assert problems(tmp_path, text) == {
        "name: found '-x'; use letters, digits, dots, dashes; begin with a letter or digit",
        "topology.nodes.a.kind: found 'windows'; use linux or bridge",
        'topology.nodes.a.binds[0]: found \'relative\'; write "source:/target" or "source:/target:ro"',
        f"topology.nodes.a.binds[1]: found '{absent}'; name a file or directory that exists",
        "topology.nodes.a.sysctls.kernel.panic: found '1'; set only net.*: the rest is shared with the host",
        f"topology.nodes.a.startup-dely: found 'startup-dely'; {remedy}",
        "topology.nodes.a.healthcheck.test: found []; write [CMD, program, ...] or [CMD-SHELL, line]",
        "topology.nodes.a.stages.late: found 'late'; use one of create, create-links, configure, healthy",
        "topology.links[0].endpoints: found ['a:eth1']; name two ends",
    }


def test_links_to_nowhere_and_interfaces_used_twice_are_reported(tmp_path: Path) -> None:
    text = """
name: x
topology:
  nodes: {a: {kind: linux}}
  links:
    - endpoints: ["a:eth1", "ghost:eth1"]
    - endpoints: ["a:eth1", "a:eth2"]
"""
    assert problems(tmp_path, text) == {
        "topology.links[0].endpoints: found 'ghost:eth1'; name a node of this file",
        "topology.links: found 'a:eth1'; use every interface once",
    }


def test_nodes_that_wait_for_one_another_are_reported_instead_of_hanging(tmp_path: Path) -> None:
    text = """
name: x
topology:
  nodes:
    a: {kind: linux, stages: {create: {wait-for: [{node: b, stage: configure}]}}}
    b: {kind: linux, stages: {create: {wait-for: [{node: a, stage: create}]}}}
"""
    found = problems(tmp_path, text)
    assert len(found) == 1
    assert "break the circle of wait-for" in found.pop()


def test_waiting_for_the_health_of_a_node_without_a_check_is_reported(tmp_path: Path) -> None:
    text = """
name: x
topology:
  nodes:
    a: {kind: linux}
    b: {kind: linux, stages: {create: {wait-for: [{node: a, stage: healthy}]}}}
"""
    key = "topology.nodes.b.stages.create.wait-for"
    assert problems(tmp_path, text) == {f"{key}: found 'a'; give that node a healthcheck"}


@pytest.mark.parametrize("text", ["", "[]", "name: x", "name: x\ntopology: {nodes: 3}", "a: [", "name: x\ntopology: 1"])
def test_a_file_of_another_shape_is_a_topology_error(tmp_path: Path, text: str) -> None:
    assert problems(tmp_path, text)


def test_a_missing_file_is_a_topology_error(tmp_path: Path) -> None:
    with pytest.raises(TopologyError):
        load(tmp_path / "absent.yml")
