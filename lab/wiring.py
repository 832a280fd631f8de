"""Namespaces, interfaces and cables of a plan, as `ip` commands."""

from __future__ import annotations

from lab.host import ip_batch, run
from lab.plan import BRIDGE, Endpoint, Node, Plan
from lab.processes import NETNS

_BRIDGE_DEVICE = "br0"
"""A bridge node is a namespace of its own with one bridge in it, so the device name is free to choose."""


def parked(plan: Plan, node: str) -> str:
    """Return the namespace that holds the interfaces of a stopped node."""
    return f"{plan.long_name(node)}-parked"


def namespaces(plan: Plan) -> tuple[str, ...]:
    """Return every namespace that a lab may own during its life."""
    return tuple(name for node in plan.nodes for name in (plan.long_name(node), parked(plan, node)))


def taken(names: tuple[str, ...]) -> list[str]:
    """Return those of the namespaces that exist."""
    return [name for name in names if (NETNS / name).exists()]


def create(plan: Plan) -> None:
    """Make the namespaces, and the kernel parameters before any interface exists: some are copied into new ones."""
    ip_batch(f"netns add {plan.long_name(node)}" for node in plan.nodes)
    for node in plan.nodes.values():
        set_sysctls(plan, node)


def set_sysctls(plan: Plan, node: Node) -> None:
    """Set the kernel parameters of a node."""
    pairs = [f"{key}={value}" for key, value in node.sysctls.items()]
    if pairs:
        run(["nsenter", f"--net=/run/netns/{plan.long_name(node.name)}", "sysctl", "-q", "-w", *pairs])


def connect(plan: Plan) -> None:
    """Plug in every cable; the interfaces stay down."""
    bridges = [node.name for node in plan.nodes.values() if node.kind == BRIDGE]
    ip_batch(
        f"link add {_side(plan, link.a)} mtu {link.mtu} type veth peer {_side(plan, link.z)} mtu {link.mtu}"
        for link in plan.links
    )
    for bridge in bridges:
        ip_batch(
            [f"link add {_BRIDGE_DEVICE} type bridge", f"link set {_BRIDGE_DEVICE} up"],
            namespace=plan.long_name(bridge),
        )
        ip_batch(
            (f"link set {end.interface} master {_BRIDGE_DEVICE} up" for end in plan.interfaces(bridge)),
            namespace=plan.long_name(bridge),
        )


def _side(plan: Plan, end: Endpoint) -> str:
    address = f" address {end.mac}" if end.mac else ""
    return f"name {end.interface} netns {plan.long_name(end.node)}{address}"


def activate(plan: Plan, node: str) -> None:
    """Bring the interfaces of a node up."""
    namespace = plan.long_name(node)
    interfaces = [end.interface for end in plan.interfaces(node)]
    ip_batch((f"link set {name} up" for name in ["lo", *interfaces]), namespace=namespace)
    for name in interfaces:
        # Packets that reach a program through a tap or a raw socket must carry a finished checksum.
        run(["nsenter", f"--net=/run/netns/{namespace}", "ethtool", "-K", name, "tx", "off"])


def park(plan: Plan, node: str) -> None:
    """Move the interfaces of a node aside: its neighbours see no carrier and keep their own ends."""
    aside = parked(plan, node)
    ip_batch([f"netns add {aside}"])
    ip_batch(
        (f"link set {end.interface} netns {aside}" for end in plan.interfaces(node)), namespace=plan.long_name(node)
    )
    ip_batch([f"netns delete {plan.long_name(node)}"])


def unpark(plan: Plan, node: str) -> None:
    """Give a node that is started again a fresh namespace with its old interfaces."""
    aside = parked(plan, node)
    ip_batch([f"netns add {plan.long_name(node)}"])
    set_sysctls(plan, plan.nodes[node])
    ip_batch(
        (f"link set {end.interface} netns {plan.long_name(node)}" for end in plan.interfaces(node)), namespace=aside
    )
    ip_batch([f"netns delete {aside}"])


def delete(names: tuple[str, ...]) -> None:
    """Remove namespaces, and the cables with them."""
    ip_batch((f"netns delete {name}" for name in taken(names)), keep_going=True)
