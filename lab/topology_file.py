"""A containerlab topology file becomes a `Plan`, or every reason why it cannot is reported at once.

Keys that only matter to a container engine (image pulls, capabilities, restart policy) are accepted and carry no
meaning here. A key that would change what the lab does, and that is not understood, is a problem: nothing is dropped
in silence.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

from lab.errors import Problem, TopologyError
from lab.fields import Fields
from lab.inherit import expand, merge
from lab.plan import BRIDGE, LINUX, Endpoint, Link, Milestone, Node, Plan, Stage
from lab.plan_check import check

_DEFAULT_PREFIX = "clab"
_DEFAULT_MTU = 9500
_TOP = frozenset({"name", "prefix", "mgmt", "settings", "debug", "topology"})
_TOPOLOGY = frozenset({"defaults", "kinds", "groups", "nodes", "links"})
_UNDERSTOOD = frozenset(
    {
        *("kind", "group", "image", "hostname", "binds", "env", "sysctls", "labels"),
        *("exec", "cmd", "startup-delay", "healthcheck", "stages"),
    }
)
_ENGINE_ONLY = frozenset(
    {
        *("image-pull-policy", "restart-policy", "privileged", "cap-add", "devices", "network-mode", "runtime"),
        *("auto-remove", "cpu", "cpu-set", "memory", "shm-size", "security-opts", "cgroupns-mode", "cgroup-parent"),
        *("mgmt-ipv4", "mgmt-ipv6", "aliases", "dns"),
    }
)


def load(path: Path, *, name: str | None = None, env: Mapping[str, str] | None = None) -> Plan:
    """Read a topology file.

    Args:
        path: the file; relative bind sources are relative to its directory.
        name: a lab name in place of the file's, so that one topology can be up several times.
        env: what `${...}` in the file means; None takes the environment of this process.

    Raises:
        TopologyError: with all problems.
    """
    path = path.resolve()
    try:
        document = yaml.safe_load(expand(path.read_text(), os.environ if env is None else env))
    except (OSError, UnicodeDecodeError) as error:
        raise TopologyError(
            str(path), [Problem(key="file", found=str(error), remedy="name a readable file")]
        ) from error
    except yaml.YAMLError as error:
        raise TopologyError(str(path), [Problem(key="file", found=str(error), remedy="write valid YAML")]) from error
    fields = Fields(base=path.parent)
    plan = _plan(document, path, name, fields)
    problems = fields.problems or check(plan)
    if problems:
        raise TopologyError(str(path), problems)
    return plan


def _plan(document: object, path: Path, name: str | None, fields: Fields) -> Plan:
    top = fields.mapping(document, "file")
    fields.refuse_unknown(top, _TOP, "")
    topology = fields.mapping(top.get("topology"), "topology")
    fields.refuse_unknown(topology, _TOPOLOGY, "topology")
    nodes = {node.name: node for node in _nodes(topology, fields)}
    links = tuple(_links(topology.get("links") or [], fields))
    return Plan(
        name=fields.name(name if name is not None else top.get("name"), "name"),
        prefix=fields.text(top.get("prefix", _DEFAULT_PREFIX), "prefix"),
        path=path,
        nodes=nodes,
        links=links,
    )


def _nodes(topology: Mapping[str, Any], fields: Fields) -> Iterator[Node]:
    defaults = fields.mapping(topology.get("defaults") or {}, "topology.defaults")
    kinds = fields.mapping(topology.get("kinds") or {}, "topology.kinds")
    groups = fields.mapping(topology.get("groups") or {}, "topology.groups")
    for name, body in fields.mapping(topology.get("nodes"), "topology.nodes").items():
        key = f"topology.nodes.{name}"
        own = fields.mapping(body or {}, key)
        group_name = own.get("group", defaults.get("group", ""))
        group = fields.mapping(groups.get(group_name) or {}, f"topology.groups.{group_name}")
        kind_name = own.get("kind", group.get("kind", defaults.get("kind")))
        kind = fields.mapping(kinds.get(kind_name) or {}, f"topology.kinds.{kind_name}")
        yield _node(
            str(name), key, {**merge([defaults, kind, group, own]), "kind": kind_name, "group": group_name}, fields
        )


def _node(name: str, key: str, body: Mapping[str, Any], fields: Fields) -> Node:
    fields.refuse_unknown(body, _UNDERSTOOD | _ENGINE_ONLY, key)
    fields.name(name, key)
    kind = body["kind"]
    if kind not in (LINUX, BRIDGE):
        fields.problem(f"{key}.kind", kind, "use linux or bridge")
    return Node(
        name=name,
        kind=str(kind),
        group=fields.text(body.get("group", ""), f"{key}.group"),
        image=fields.text(body.get("image", ""), f"{key}.image"),
        hostname=fields.text(body.get("hostname", name), f"{key}.hostname"),
        binds=fields.binds(body.get("binds", []), f"{key}.binds"),
        env=fields.strings(body.get("env", {}), f"{key}.env"),
        sysctls=fields.sysctls(body.get("sysctls", {}), f"{key}.sysctls"),
        labels=fields.strings(body.get("labels", {}), f"{key}.labels"),
        exec=fields.commands(body.get("exec", []), f"{key}.exec"),
        cmd=fields.words(body.get("cmd", ""), f"{key}.cmd"),
        startup_delay_s=fields.seconds(body.get("startup-delay", 0), f"{key}.startup-delay"),
        healthcheck=fields.healthcheck(body.get("healthcheck"), f"{key}.healthcheck"),
        waits=_waits(body.get("stages", {}), f"{key}.stages", fields),
    )


def _waits(body: object, key: str, fields: Fields) -> dict[Stage, tuple[Milestone, ...]]:
    waits: dict[Stage, tuple[Milestone, ...]] = {}
    for stage_name, stage_body in fields.mapping(body, key).items():
        at = f"{key}.{stage_name}"
        stage = fields.stage(stage_name, at)
        content = fields.mapping(stage_body or {}, at)
        fields.refuse_unknown(content, frozenset({"wait-for"}), at)
        found = []
        for index, item in enumerate(fields.sequence(content.get("wait-for", []), f"{at}.wait-for")):
            spot = f"{at}.wait-for[{index}]"
            entry = fields.mapping(item, spot)
            target = fields.stage(entry.get("stage"), f"{spot}.stage")
            if target:
                found.append(Milestone(fields.text(entry.get("node"), f"{spot}.node"), target))
        if stage:
            waits[stage] = tuple(found)
    return waits


def _links(body: object, fields: Fields) -> Iterator[Link]:
    for index, item in enumerate(fields.sequence(body, "topology.links")):
        key = f"topology.links[{index}]"
        link = fields.mapping(item, key)
        if link.get("type", "veth") != "veth":
            fields.problem(f"{key}.type", link["type"], "use veth")
            continue
        fields.refuse_unknown(link, frozenset({"type", "endpoints", "mtu", "vars", "labels"}), key)
        ends = [
            _endpoint(end, f"{key}.endpoints[{place}]", fields)
            for place, end in enumerate(fields.sequence(link.get("endpoints"), f"{key}.endpoints"))
        ]
        mtu = fields.number(link.get("mtu", _DEFAULT_MTU), f"{key}.mtu")
        if len(ends) != 2:  # noqa: PLR2004 - a cable has two ends
            fields.problem(f"{key}.endpoints", link.get("endpoints"), "name two ends")
        elif ends[0] and ends[1]:
            yield Link(a=ends[0], z=ends[1], mtu=mtu)


def _endpoint(end: object, key: str, fields: Fields) -> Endpoint | None:
    if isinstance(end, str) and end.count(":") == 1:
        node, interface = end.split(":")
        return Endpoint(node=node, interface=fields.interface(interface, key))
    if isinstance(end, Mapping):
        fields.refuse_unknown(end, frozenset({"node", "interface", "mac", "vars"}), key)
        return Endpoint(
            node=fields.text(end.get("node"), f"{key}.node"),
            interface=fields.interface(end.get("interface"), f"{key}.interface"),
            mac=fields.text(end.get("mac", ""), f"{key}.mac"),
        )
    fields.problem(key, end, 'write "node:interface"')
    return None
